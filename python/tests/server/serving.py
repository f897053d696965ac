"""A server as a program, for tests that kill it: `python serving.py URL KIND [NAME [LEASE_SECONDS]]`."""

import asyncio
import os
import signal
import sys
import threading
from typing import Any

from jobqueue import Server, aio

url, kind, *more = sys.argv[1:]
make = aio.Server if kind.startswith("asyncio") else Server
concurrency = 4 if kind.endswith("4") else 1
name = more[0] if more else "program"
settings: dict[str, Any] = {"block_timeout": 0.2, "concurrency": concurrency, "prefetch": 10}
if more[1:]:
    settings |= {"takeover": True, "lease_timeout": float(more[1])}
server = make(url, processor=name, attempts=3, **settings)


@server.on("echo")
def echo(parameters: Any) -> Any:
    """Return the parameters."""
    return parameters


@server.on("hang")
def hang(_: Any) -> None:
    """Say that it runs, and run until the process is killed."""
    print("running", flush=True)  # noqa: T201 - the test reads it
    threading.Event().wait()


@server.on("die")
def die(_: Any) -> None:
    """End the process as a crash does."""
    os.kill(os.getpid(), signal.SIGKILL)


if isinstance(server, aio.Server):
    asyncio.run(server.run())
else:
    server.run()
