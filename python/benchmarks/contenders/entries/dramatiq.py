"""dramatiq: no middleware that a trivial job doesn't use; results on demand.

Its broker polls an empty queue, the seldomer the longer it is empty, at least every
`worker_timeout`; that is lowered as far as its documentation suggests for latency.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

import dramatiq as library
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Iterator


def version() -> str:
    return _version("dramatiq")


def _actors(url: str, tally: Any = None) -> dict[str, Any]:
    broker = RedisBroker(url=url, middleware=[])
    broker.add_middleware(Results(backend=RedisBackend(url=url)))
    library.set_broker(broker)

    def drain(_parameters: Any) -> None:
        tally.hit()

    def echo(parameters: Any) -> Any:
        if tally:
            tally.hit()
        return parameters

    return {
        "broker": broker,
        "drain": library.actor(drain, actor_name="drain"),
        "echo": library.actor(echo, actor_name="echo", store_results=True),
    }


def serve(url: str, tally: Any, options: Any) -> None:
    broker = _actors(url, tally)["broker"]
    worker = library.Worker(broker, worker_threads=options.concurrency, worker_timeout=5)
    if options.prefetch > 1:
        worker.queue_prefetch = options.prefetch
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    worker.start()
    stopped.wait()
    worker.stop()


def push(url: str, options: Any, payload: str) -> float:
    actor = _actors(url)["echo" if options.results else "drain"]
    started = time.perf_counter()
    for _ in range(options.count):
        actor.send(payload)
    return time.perf_counter() - started


@contextlib.contextmanager
def call(url: str) -> Iterator[Any]:
    echo = _actors(url)["echo"]
    yield lambda parameters: echo.send(parameters).get_result(block=True, timeout=10_000)
