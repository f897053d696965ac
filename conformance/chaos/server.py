"""One of the five shapes of Python servers: `python server.py SHAPE`, configured by the environment that the kit sets.

Its handler records each run as a line of the file CHAOS_RUNS, so that a second run is noticed.
"""

import asyncio
import os
import sys
import time
from typing import Any

import jobqueue
import jobqueue.aio

SHAPES: dict[str, dict[str, int]] = {
    "threads-serial": {},
    "threads-concurrent": {"concurrency": 4},
    "prefetch": {"prefetch": 10},
    "asyncio-serial": {},
    "asyncio-concurrent": {"concurrency": 8},
}


def record(parameters: dict[str, Any]) -> None:
    """Write which job is run, by which process, and when by the machine's monotonic clock."""
    line = f"{parameters['storm']} {os.getpid()} {time.monotonic()}\n"
    os.write(runs, line.encode())  # at once and whole: a kill loses no line that is written


def wait(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters after as many milliseconds as they say."""
    record(parameters)
    time.sleep(parameters["ms"] / 1000)
    return parameters


async def wait_in_loop(parameters: dict[str, Any]) -> dict[str, Any]:
    """Do the same for asyncio."""
    record(parameters)
    await asyncio.sleep(parameters["ms"] / 1000)
    return parameters


def main(shape: str) -> None:
    """Serve until SIGTERM."""
    settings: dict[str, Any] = {
        "queue": os.environ["JOBQUEUE_QUEUE"],
        "processor": os.environ["JOBQUEUE_PROCESSOR"],
        "block_timeout": int(os.environ["JOBQUEUE_BLOCK_MS"]) / 1000,
        "takeover": True,
        "lease_timeout": int(os.environ["JOBQUEUE_LEASE_MS"]) / 1000,
        "grace_period": int(os.environ["JOBQUEUE_GRACE_MS"]) / 1000,
        **SHAPES[shape],
    }
    if shape.startswith("asyncio"):
        looping = jobqueue.aio.Server(os.environ["REDIS_URL"], **settings)
        looping.on("wait")(wait_in_loop)
        asyncio.run(looping.run())
    else:
        threaded = jobqueue.Server(os.environ["REDIS_URL"], **settings)
        threaded.on("wait")(wait)
        threaded.run()


if __name__ == "__main__":
    runs = os.open(os.environ["CHAOS_RUNS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    main(sys.argv[1])
