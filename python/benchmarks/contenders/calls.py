"""Times calls: so many at once, each from before the push until its result is in the caller's hands.

A contender's `call(url)` is a context manager, or an asynchronous one, that gives a function which
runs one job and returns its result. A call that fails, or whose result isn't the parameters of its
job, is lost. A tenth of the calls warms up and isn't counted.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FEWEST = 3


def timed_calls(call: Any, options: Any, payload: str) -> dict[str, Any]:
    """Return the latencies in seconds, the seconds that all took together, and what was lost."""
    counts = (max(options.count // 10, options.in_flight), options.count)
    if hasattr(call(options.url), "__aenter__"):
        return asyncio.run(_asynchronous(call, options, payload, counts))
    return _threaded(call, options, payload, counts)


class _Calls:
    """The calls of one round, which so many callers take from."""

    def __init__(self, count: int, seconds: float) -> None:
        # A slow contender is measured by fewer calls, not by a longer wait.
        deadline = time.monotonic() + seconds
        self.numbers: Iterator[int] = itertools.takewhile(
            lambda number: number < FEWEST or time.monotonic() < deadline, range(count)
        )
        self._latencies: list[float] = []
        self._lost = 0
        self._because = ""
        self._began, self._spent = time.perf_counter(), time.process_time()

    def came(self, started: float, got: Any, expected: Any) -> None:
        ended = time.perf_counter()
        if got == expected:
            self._latencies.append(ended - started)
        else:
            self.lost(f"{got!r:.100} in place of {expected!r:.100}")

    def lost(self, because: object) -> None:
        self._lost += 1
        self._because = repr(because)

    def answer(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._began
        return {
            "latencies": self._latencies,
            "seconds": seconds,
            "cpu_s": time.process_time() - self._spent,
            "lost": self._lost,
            "because": self._because,
        }


def _threaded(call: Any, options: Any, payload: str, counts: tuple[int, ...]) -> dict[str, Any]:
    def one_after_another(calls: _Calls, run: Callable[[Any], Any]) -> None:
        for number in calls.numbers:
            started = time.perf_counter()
            try:
                calls.came(started, run([number, payload]), [number, payload])
            except Exception as error:
                calls.lost(error)

    with call(options.url) as run:
        for count in counts:
            calls = _Calls(count, options.seconds)
            threads = [
                threading.Thread(target=one_after_another, args=(calls, run))
                for _ in range(options.in_flight)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return calls.answer()


async def _asynchronous(
    call: Any, options: Any, payload: str, counts: tuple[int, ...]
) -> dict[str, Any]:
    async def one_after_another(calls: _Calls, run: Callable[[Any], Any]) -> None:
        for number in calls.numbers:
            started = time.perf_counter()
            try:
                calls.came(started, await run([number, payload]), [number, payload])
            except Exception as error:
                calls.lost(error)

    async with call(options.url) as run:
        for count in counts:
            calls = _Calls(count, options.seconds)
            await asyncio.gather(*(one_after_another(calls, run) for _ in range(options.in_flight)))
        return calls.answer()
