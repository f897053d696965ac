"""arq: poll_delay lowered as far as its documentation suggests for latency; results are polled for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def version() -> str:
    return _version("arq")


def serve(url: str, tally: Any, options: Any) -> None:
    async def echo(context: Any, parameters: Any) -> Any:
        tally.hit()
        return parameters

    worker = Worker(
        [func(echo, name="echo", keep_result=int(options.results))],
        redis_settings=RedisSettings.from_dsn(url),
        max_jobs=options.concurrency,
        poll_delay=0.005,
    )
    worker.run()


def push(url: str, options: Any, payload: str) -> float:
    async def run() -> float:
        pool = await create_pool(RedisSettings.from_dsn(url))
        started = time.perf_counter()
        for _ in range(options.count):
            await pool.enqueue_job("echo", payload)
        return time.perf_counter() - started

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def call(url: str) -> AsyncIterator[Any]:
    pool = await create_pool(RedisSettings.from_dsn(url))

    async def run(parameters: Any) -> Any:
        job = await pool.enqueue_job("echo", parameters)
        return await job.result(timeout=10, poll_delay=0.002)

    yield run
