"""A server as a program, whose handlers do what ordinary ones don't: `serving_program.py URL KIND`.

It says "runs" once its first job is answered by itself, and "stopped" when `run` has returned.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from typing import Any

early: list[int] = []  # the signals that come to a child as soon as it is there


def send_early_ones() -> None:
    """Send them to this process."""
    for number in early:
        os.kill(os.getpid(), number)


os.register_at_fork(after_in_child=send_early_ones)

from jobqueue import Client, Server, aio  # noqa: E402 - fork hooks run in the order of imports

url, kind = sys.argv[1:]
fork = multiprocessing.get_context("fork")
server = (aio.Server if kind.startswith("asyncio") else Server)(
    url, processor="program", block_timeout=0.05, concurrency=4 if kind.endswith("4") else 1
)


def say(word: object) -> None:
    """Tell the test."""
    os.write(1, f"{word}\n".encode())  # the parent may have held a lock of the stream


@server.on("echo")
def echo(parameters: Any) -> Any:
    """Return the parameters."""
    return parameters


@server.on("pid")
def pid(_: Any) -> int:
    """Tell which process serves."""
    return os.getpid()


@server.on("fork")
def forks(leave: str) -> str:
    """Fork a child that leaves the handler, or the process, in its own way."""
    child = os.fork()
    if child:
        say(child)
        return "parent"
    return leaves(leave)


def leaves(leave: str) -> str:
    """Be a child that leaves."""
    if leave == "raise":
        raise ValueError("the child fails")
    if leave == "exit":
        sys.exit(3)
    if leave == "interrupt":
        raise KeyboardInterrupt
    if leave == "exit-thread":
        raise SystemExit
    return "child"


@server.on("fork-in-thread")
def forks_in_a_thread(leave: str) -> Any:
    """Do the same in a thread of an executor, which waits for work afterwards."""
    if isinstance(server, aio.Server):
        return asyncio.to_thread(forks, leave)
    with ThreadPoolExecutor() as threads:
        return threads.submit(forks, leave).result()


def fork_and_await(how: str) -> Any:
    """Fork a child that awaits, as a coroutine, what the parent's event loop would have to do."""

    @types.coroutine
    def step() -> Any:
        yield from () if how == "nothing" else (None,)

    async def awaits() -> str:
        ready = asyncio.get_running_loop().create_future()
        child = os.fork()
        if child:
            say(child)
            return "parent"
        if how == "a sleep":
            await asyncio.sleep(3600)
        await (ready if how == "a future" else step())
        return "child"

    return awaits()


if isinstance(server, aio.Server):
    server.on("fork-and-await", fork_and_await)


def sleep_on() -> None:
    """Be a child that sleeps until SIGTERM; one that gets another effect of SIGTERM prints it."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        os._exit(9)
    time.sleep(3600)


@server.on("sleeper")
def sleeper(how: str) -> int:
    """Start a child that sleeps, terminate it, and return how it ended."""
    if how == "program":
        with subprocess.Popen(["sleep", "3600"]) as sleeping:
            sleeping.terminate()
            return sleeping.wait()
    process = fork.Process(target=sleep_on)
    process.start()
    process.terminate()
    process.join()
    return process.exitcode or 0


@server.on("interrupted")
def interrupted(_: Any) -> bool:
    """Tell whether SIGINT raises KeyboardInterrupt in a forked child."""
    child = os.fork()
    if not child:
        try:
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            os._exit(7)
        os._exit(8)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@server.on("early")
def comes_early(_: Any) -> int:
    """Fork a child to which SIGTERM comes at once, and return how it ended."""
    early.append(signal.SIGTERM)
    child = os.fork()
    if not child:
        os._exit(8)
    early.clear()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@server.on("pool")
def pool(numbers: list[int]) -> list[int]:
    """Let a pool of processes work, and leave it while one of its processes sleeps."""
    if sleeper("fork") != -signal.SIGTERM:
        raise RuntimeError("the pool could never end its processes")
    with fork.Pool(2) as processes:
        done = processes.map(abs, numbers)
        processes.apply_async(time.sleep, (3600,))
        return done


def announce() -> None:
    """Say "runs" once a job was answered."""
    with Client(url) as jobs:
        jobs.run("echo").result()
    say("runs")


threading.Thread(target=announce, daemon=True).start()
if isinstance(server, aio.Server):
    asyncio.run(server.run())
else:
    server.run()
say("stopped")
