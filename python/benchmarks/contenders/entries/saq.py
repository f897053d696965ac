"""saq: results come by pub/sub, listened for before the job is queued; `apply` would poll."""

from __future__ import annotations

import asyncio
import contextlib
import time
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

from saq import Job, Queue, Status, Worker
from saq.job import TERMINAL_STATUSES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def version() -> str:
    return _version("saq")


def serve(url: str, tally: Any, options: Any) -> None:
    async def echo(context: Any, *, parameters: Any) -> Any:
        tally.hit()
        return parameters

    async def run() -> None:
        worker = Worker(
            Queue.from_url(url), functions=[("echo", echo)], concurrency=options.concurrency
        )
        await worker.start()

    asyncio.run(run())


def push(url: str, options: Any, payload: str) -> float:
    async def run() -> float:
        queue = Queue.from_url(url)
        await queue.connect()
        started = time.perf_counter()
        for _ in range(options.count):
            await queue.enqueue("echo", parameters=payload, ttl=600 if options.results else -1)
        return time.perf_counter() - started

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def call(url: str) -> AsyncIterator[Any]:
    queue = Queue.from_url(url)
    await queue.connect()
    # It subscribes while there is a listener; there always is one, so that no call waits for that.
    held_open = asyncio.create_task(queue.listen(["nobody"], lambda *_: False, None))
    await asyncio.sleep(0.2)

    def ended(_key: str, status: Status) -> bool:
        return status in TERMINAL_STATUSES

    async def run(parameters: Any) -> Any:
        job = Job("echo", kwargs={"parameters": parameters})
        listening = asyncio.create_task(queue.listen([job.key], ended, 10))
        await asyncio.sleep(0)
        await queue.enqueue(job)
        await listening
        await job.refresh()
        return job.result

    yield run
    held_open.cancel()
