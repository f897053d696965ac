"""taskiq: the list broker of taskiq-redis, its fastest; results are polled for."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_tally: Any = None


def version() -> str:
    return f"{_version('taskiq')} (taskiq-redis {_version('taskiq-redis')})"


def _tasks(url: str, *, results: bool) -> tuple[Any, Any]:
    broker = ListQueueBroker(url)
    if results:
        broker = broker.with_result_backend(RedisAsyncResultBackend(url, result_ex_time=60))

    @broker.task(task_name="echo")
    async def echo(parameters: Any) -> Any:
        if _tally:
            _tally.hit()
        return parameters

    return broker, echo


def serve(url: str, tally: Any, options: Any) -> None:
    global _tally
    _tally = tally

    async def run() -> None:
        broker, _ = _tasks(url, results=options.results)
        broker.is_worker_process = True
        await broker.startup()
        receiver = asyncio.create_task(
            run_receiver_task(broker, validate_params=False, max_async_tasks=options.concurrency)
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, receiver.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await receiver

    asyncio.run(run())


def push(url: str, options: Any, payload: str) -> float:
    async def run() -> float:
        broker, echo = _tasks(url, results=False)
        await broker.startup()
        started = time.perf_counter()
        for _ in range(options.count):
            await echo.kiq(payload)
        return time.perf_counter() - started

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def call(url: str) -> AsyncIterator[Any]:
    broker, echo = _tasks(url, results=True)
    await broker.startup()

    async def run(parameters: Any) -> Any:
        task = await echo.kiq(parameters)
        result = await task.wait_result(check_interval=0.001, timeout=10)
        return result.return_value

    yield run
