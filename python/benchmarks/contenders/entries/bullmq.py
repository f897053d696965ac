"""bullmq for Python: finished jobs are removed at once."""

from __future__ import annotations

import asyncio
import signal
import time
from importlib.metadata import version as _version
from typing import Any

from bullmq import Queue, Worker

_OPTIONS = {"removeOnComplete": True}


def version() -> str:
    return _version("bullmq")


def serve(url: str, tally: Any, options: Any) -> None:
    async def run() -> None:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

        async def echo(job: Any, token: str) -> Any:
            tally.hit()
            return job.data

        worker = Worker("bench", echo, {"connection": url, "concurrency": options.concurrency})
        await stopped.wait()
        await worker.close()

    asyncio.run(run())


def push(url: str, options: Any, payload: str) -> float:
    async def run() -> float:
        queue = Queue("bench", {"connection": url})
        started = time.perf_counter()
        for _ in range(options.count):
            await queue.add("echo", {"payload": payload}, _OPTIONS)
        seconds = time.perf_counter() - started
        await queue.close()
        return seconds

    return asyncio.run(run())


def push_many(url: str, options: Any, payload: str) -> float:
    async def run() -> float:
        queue = Queue("bench", {"connection": url})
        started = time.perf_counter()
        for begin in range(0, options.count, 100):
            await queue.addBulk(
                [
                    {"name": "echo", "data": {"payload": payload}, "opts": _OPTIONS}
                    for _ in range(min(100, options.count - begin))
                ]
            )
        seconds = time.perf_counter() - started
        await queue.close()
        return seconds

    return asyncio.run(run())
