"""rq: SimpleWorker, which doesn't fork for each job, as its documentation recommends where speed matters."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from redis import Redis
from rq import Queue, SimpleWorker
from rq import __version__ as _version

if TYPE_CHECKING:
    from collections.abc import Iterator

_tally: Any = None


def version() -> str:
    return _version


def echo(parameters: Any) -> Any:
    if _tally:
        _tally.hit()
    return parameters


def serve(url: str, tally: Any, options: Any) -> None:
    global _tally
    _tally = tally
    connection = Redis.from_url(url)
    SimpleWorker([Queue(connection=connection)], connection=connection).work(logging_level="ERROR")


def push(url: str, options: Any, payload: str) -> float:
    queue = Queue(connection=Redis.from_url(url))
    started = time.perf_counter()
    for _ in range(options.count):
        queue.enqueue(echo, payload, result_ttl=500 if options.results else 0)
    return time.perf_counter() - started


def push_many(url: str, options: Any, payload: str) -> float:
    queue = Queue(connection=Redis.from_url(url))
    started = time.perf_counter()
    for begin in range(0, options.count, 100):
        queue.enqueue_many(
            [
                Queue.prepare_data(echo, (payload,), result_ttl=500 if options.results else 0)
                for _ in range(min(100, options.count - begin))
            ]
        )
    return time.perf_counter() - started


@contextlib.contextmanager
def call(url: str) -> Iterator[Any]:
    queue = Queue(connection=Redis.from_url(url))
    yield lambda parameters: queue.enqueue(echo, parameters).latest_result(timeout=10).return_value
