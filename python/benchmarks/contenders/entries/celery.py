"""celery: the solo pool (threads above a concurrency of 1), no gossip, mingle or heartbeat; results by pub/sub."""

from __future__ import annotations

import contextlib
import time
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

from celery import Celery

if TYPE_CHECKING:
    from collections.abc import Iterator

_tally: Any = None


def version() -> str:
    return _version("celery")


def _tasks(url: str) -> tuple[Any, Any, Any]:
    app = Celery("bench", broker=url, backend=url)
    app.conf.update(
        task_serializer="json",
        result_serializer="json",
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
    )

    @app.task(name="drain", ignore_result=True)
    def drain(_parameters: Any) -> None:
        _tally.hit()

    @app.task(name="echo")
    def echo(parameters: Any) -> Any:
        if _tally:
            _tally.hit()
        return parameters

    return app, drain, echo


def serve(url: str, tally: Any, options: Any) -> None:
    global _tally
    _tally = tally
    app, _, _ = _tasks(url)
    if options.prefetch > 1:
        app.conf.worker_prefetch_multiplier = options.prefetch
    pool = "solo" if options.concurrency == 1 else "threads"
    app.worker_main(
        [
            *("--quiet", "worker", "--pool", pool, "--concurrency", str(options.concurrency)),
            *("--loglevel", "ERROR"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
    )


def push(url: str, options: Any, payload: str) -> float:
    _, drain, echo = _tasks(url)
    task = echo if options.results else drain
    task.delay(payload)
    started = time.perf_counter()
    for _ in range(options.count - 1):
        task.delay(payload)
    return time.perf_counter() - started


@contextlib.contextmanager
def call(url: str) -> Iterator[Any]:
    _, _, echo = _tasks(url)
    yield lambda parameters: echo.delay(parameters).get(timeout=10)
