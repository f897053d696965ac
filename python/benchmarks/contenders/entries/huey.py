"""huey: the blocking Redis storage; results are notified where they are asked for."""

from __future__ import annotations

import contextlib
import logging
import time
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

from huey import RedisHuey

if TYPE_CHECKING:
    from collections.abc import Iterator

_tally: Any = None


def version() -> str:
    return _version("huey")


def _tasks(url: str, *, results: bool) -> tuple[Any, Any]:
    huey = RedisHuey("bench", url=url, results=results, notify_result=results)

    @huey.task(name="echo")
    def echo(parameters: Any) -> Any:
        if _tally:
            _tally.hit()
        return parameters

    return huey, echo


def serve(url: str, tally: Any, options: Any) -> None:
    global _tally
    _tally = tally
    logging.getLogger("huey").setLevel(logging.ERROR)
    huey, _ = _tasks(url, results=options.results)
    huey.create_consumer(workers=options.concurrency, periodic=False).run()


def push(url: str, options: Any, payload: str) -> float:
    _, echo = _tasks(url, results=options.results)
    started = time.perf_counter()
    for _ in range(options.count):
        echo(payload)
    return time.perf_counter() - started


@contextlib.contextmanager
def call(url: str) -> Iterator[Any]:
    _, echo = _tasks(url, results=True)
    yield lambda parameters: echo(parameters).get(blocking=True, timeout=10)
