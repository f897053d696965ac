"""JobQueue's reference with threads."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

import jobqueue as library

if TYPE_CHECKING:
    from collections.abc import Iterator


def version() -> str:
    return _version("jobqueue")


def settings() -> dict[str, Any]:
    """More arguments of a server, by which `compare.py` has two of them differ."""
    return dict(json.loads(os.environ.get("JOBQUEUE_SETTINGS", "{}")))


def serve(url: str, tally: Any, options: Any) -> None:
    def echo(parameters: Any) -> Any:
        tally.hit()
        return parameters

    servers = [
        library.Server(
            url,
            processor=f"{options.processor}-{number}",
            concurrency=options.concurrency,
            prefetch=options.prefetch,
            **settings(),
        )
        for number in range(options.servers)
    ]
    for server in servers:
        server.on("echo", echo)
    for server in servers[1:]:
        threading.Thread(target=server.run).start()
    servers[0].run()


def push(url: str, options: Any, payload: str) -> float:
    with library.Client(url) as jobs:
        jobs.run("echo", payload)
        started = time.perf_counter()
        for _ in range(options.count - 1):
            jobs.run("echo", payload)
        return time.perf_counter() - started


def push_many(url: str, options: Any, payload: str) -> float:
    with library.Client(url) as jobs:
        jobs.run("echo", payload)
        started = time.perf_counter()
        for begin in range(1, options.count, 1000):
            jobs.run_many([("echo", payload)] * min(1000, options.count - begin))
        return time.perf_counter() - started


@contextlib.contextmanager
def call(url: str) -> Iterator[Any]:
    with library.Client(url) as jobs:
        yield lambda parameters: jobs.run("echo", parameters).result(timeout=10)
