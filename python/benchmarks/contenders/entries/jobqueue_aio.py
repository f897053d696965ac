"""JobQueue's reference on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import time
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

from entries.jobqueue import settings
from jobqueue import aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def version() -> str:
    return _version("jobqueue")


def serve(url: str, tally: Any, options: Any) -> None:
    server = aio.Server(
        url,
        processor=options.processor,
        concurrency=options.concurrency,
        prefetch=options.prefetch,
        **settings(),
    )

    @server.on("echo")
    async def echo(parameters: Any) -> Any:
        tally.hit()
        return parameters

    asyncio.run(server.run())


def push(url: str, options: Any, payload: str) -> float:
    async def run() -> float:
        async with aio.Client(url) as jobs:
            await jobs.run("echo", payload)
            started = time.perf_counter()
            for _ in range(options.count - 1):
                await jobs.run("echo", payload)
            return time.perf_counter() - started

    return asyncio.run(run())


def push_many(url: str, options: Any, payload: str) -> float:
    async def run() -> float:
        async with aio.Client(url) as jobs:
            await jobs.run("echo", payload)
            started = time.perf_counter()
            for begin in range(1, options.count, 1000):
                await jobs.run_many([("echo", payload)] * min(1000, options.count - begin))
            return time.perf_counter() - started

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def call(url: str) -> AsyncIterator[Any]:
    async with aio.Client(url) as jobs:

        async def run(parameters: Any) -> Any:
            return await (await jobs.run("echo", parameters))

        yield run
