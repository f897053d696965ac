"""streaq: results come by its own notification, whose subscription takes it 0.1 s to close."""

from __future__ import annotations

import contextlib
import time
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

import anyio
from streaq import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def version() -> str:
    return _version("streaq")


def _worker(url: str, tally: Any = None, concurrency: int = 1) -> tuple[Any, Any]:
    worker: Any = Worker(
        redis_url=url,
        redis_kwargs={"max_connections": 256},  # a result that is awaited holds one
        concurrency=concurrency,
    )

    @worker.task(name="echo")
    async def echo(parameters: Any) -> Any:
        if tally:
            tally.hit()
        return parameters

    return worker, echo


def serve(url: str, tally: Any, options: Any) -> None:
    _worker(url, tally, options.concurrency)[0].run_sync()


def push(url: str, options: Any, payload: str) -> float:
    async def run() -> float:
        worker, echo = _worker(url)
        async with worker:
            started = time.perf_counter()
            for _ in range(options.count):
                await echo.enqueue(payload)
            return time.perf_counter() - started

    return anyio.run(run)


def push_many(url: str, options: Any, payload: str) -> float:
    async def run() -> float:
        worker, echo = _worker(url)
        async with worker:
            started = time.perf_counter()
            for begin in range(0, options.count, 100):
                await worker.enqueue_many(
                    [echo.enqueue(payload) for _ in range(min(100, options.count - begin))]
                )
            return time.perf_counter() - started

    return anyio.run(run)


@contextlib.asynccontextmanager
async def call(url: str) -> AsyncIterator[Any]:
    worker, echo = _worker(url)
    async with worker:

        async def run(parameters: Any) -> Any:
            task = await echo.enqueue(parameters)
            return (await task.result(timeout=10)).result

        yield run
