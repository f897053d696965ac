"""A server whose handlers have designs on its lock: `lock_program.py URL KIND`.

It says "runs" once its first job is answered by itself, and "stopped" when `run` has returned.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

from jobqueue import Client, Server

url, how = sys.argv[1:]
logging.basicConfig(level="WARNING", format="%(message)s")
server = Server(
    url, processor="program", block_timeout=0.05, concurrency=4 if how == "threads-4" else 1
)
server.on("echo", lambda value: value)


def say(word: object) -> None:
    """Tell the test."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


@server.on("close")
def close(_: Any) -> None:
    """Close every descriptor but the standard streams."""
    os.closerange(3, 256)


@server.on("swap")
def swap(path: str) -> str | None:
    """Put another file in the place of the lock's descriptor, and return its number."""
    for descriptor in Path("/proc/self/fd").iterdir():
        if descriptor.resolve().suffix == ".lock":
            os.dup2(os.open(path, os.O_RDWR), int(descriptor.name))
            return descriptor.name
    return None


@server.on("fork")
def fork(_: Any) -> tuple[str, int]:
    """Return the error of a child that starts a server of the same name, and who this is."""
    read, write = os.pipe()
    if not os.fork():
        try:
            Server(url, processor="program").run()
        except BaseException as error:
            os.write(write, str(error).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        return file.read(), os.getpid()


def announce() -> None:
    """Say "runs" once a job was answered."""
    with Client(url) as jobs:
        jobs.run("echo").result()
    say("runs")


threading.Thread(target=announce, daemon=True).start()
server.run()
say("stopped")
if how == "swapped":
    say(Path(f"/proc/self/fd/{sys.stdin.readline().strip()}").resolve())
