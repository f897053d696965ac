"""A client of either colour behind one blocking face, so that a test is written once for both.

Each call ends within a bound or fails the test; a call that hangs stays behind in a daemon thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

from jobqueue import Client, aio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jobqueue import Job

    AnyJob = Job | aio.Job

DEADLINE_S = 20.0  # only bounds what hangs
PROMPT_S = 4.0  # what is promised at once; below the 5 s that a silent Redis is waited for


class Caller:
    """One client, used from as many threads or tasks as there are calls under way.

    Args:
        colour: `threads` or `asyncio`.
        source: The URL of Redis.
        options: What else the client takes.
    """

    def __init__(self, colour: str, source: str, **options: Any) -> None:
        self._loop = _loop() if colour == "asyncio" else None
        self._client: Any = (aio.Client if self._loop else Client)(source, **options)

    def start(self, call: Callable[[Any], Any]) -> Future[Any]:
        """Begin a call on the client, in a thread or a task of its own."""
        if self._loop is not None:
            return asyncio.run_coroutine_threadsafe(self._awaited(call), self._loop)
        outcome: Future[Any] = Future()

        def run() -> None:
            try:
                outcome.set_result(call(self._client))
            except BaseException as error:
                outcome.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return outcome

    def call(self, call: Callable[[Any], Any], within: float = DEADLINE_S) -> Any:
        """Do a call on the client, and return what it returns.

        Raises:
            AssertionError: It takes longer than that.
        """
        return finish(self.start(call), within)

    def run(
        self,
        method: str,
        parameters: Any = None,
        *,
        timeout: float | None = None,
        within: float = DEADLINE_S,
    ) -> AnyJob:
        """Run a job; the time within which `run` has to return doesn't belong to the job."""
        job: AnyJob = self.call(
            lambda client: client.run(method, parameters, timeout=timeout), within
        )
        return job

    def run_many(
        self, calls: Iterable[tuple[str, Any]], *, timeout: float | None = None
    ) -> list[AnyJob]:
        """Run several jobs."""
        jobs: list[AnyJob] = self.call(lambda client: client.run_many(calls, timeout=timeout))
        return jobs

    def outcome(self, job: AnyJob, within: float = DEADLINE_S) -> Any:
        """Return the job's value, or the exception that it raises."""

        def wait(_: Any) -> Any:
            return job.exception() or job.result()

        async def wait_in_the_loop(_: Any) -> Any:
            assert isinstance(job, aio.Job)
            await asyncio.wait([job])
            return job.exception() or job.result()

        return self.call(wait_in_the_loop if self._loop else wait, within)

    def close(self, within: float = DEADLINE_S) -> None:
        """Close the client."""
        self.call(lambda client: client.close(), within)

    def abandon(self) -> None:
        """Close the client where that is possible; a test reports where it isn't."""
        with contextlib.suppress(FutureTimeoutError):
            self.start(lambda client: client.close()).exception(DEADLINE_S)

    async def _awaited(self, call: Callable[[Any], Any]) -> Any:
        value = call(self._client)
        return await value if asyncio.iscoroutine(value) else value


def finish(outcome: Future[Any], within: float = DEADLINE_S) -> Any:
    """Return what a call has returned.

    Args:
        outcome: The call's.
        within: Seconds, which pass more slowly while programs have to wait for a processor.

    Raises:
        AssertionError: It takes longer than that.
    """
    left = within
    while left > 0 and not outcome.done():
        turn = min(left, 0.25)
        wait([outcome], turn)
        left -= turn / max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert outcome.done(), f"expected the call to return, but it hasn't within {within:g} s"
    return outcome.result()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop of all callers, which never ends: connections of a broken one stay open."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop
