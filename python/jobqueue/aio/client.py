"""The client for asyncio: pushes jobs and settles each of them once.

As `jobqueue.threads.client`, with the same names in the same order. It has a session in each event
loop that uses it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, Self

from jobqueue.aio.job import Job
from jobqueue.aio.session import Session
from jobqueue.core.calls import CLOSE_SECONDS, Submission, deadline_of
from jobqueue.errors import JobTimeout
from jobqueue.protocol import keys, messages
from jobqueue.wire import pools

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from redis.asyncio import Redis

    from jobqueue.aio.session import Home


class Client:
    """Runs jobs on the servers of one queue. Tasks may share it, and event loops, too.

    `close` it, or use it in an `async with` block: that pushes what was submitted before. In each
    event loop, and in the child after a fork, it has a channel and a connection of its own.

    Args:
        source: The URL of Redis, or a client of `redis.asyncio` with `retry=None`, undecoded
            replies and a `socket_timeout`.
        queue: The key of the queue.

    Raises:
        TypeError: The source is neither a URL nor a client.
        ValueError: The queue has no name, or the client can't be used.
    """

    def __init__(self, source: str | Redis = pools.DEFAULT_URL, *, queue: str = keys.QUEUE) -> None:
        if not queue:
            raise ValueError("a queue is named by a non-empty string")
        self._queue = queue
        self._source = source
        pools.aio_client_pools(source)  # a mistake is told here; each session has its own
        self._closed = False
        self._ids = itertools.count(1)  # client.job.id: whatever the process or the session
        self._sessions: Home = {}  # by process and loop
        weakref.finalize(self, _dropped, self._sessions).atexit = False

    async def run(
        self,
        method: str,
        parameters: Any = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the job's, beyond this call
    ) -> Job:
        """Submit one job, and return at once with the future of its outcome.

        The job is pushed as soon as there is a connection. Only where more waits to be pushed than
        16 MB does this wait for room, no longer than the timeout.

        Args:
            method: Which handler.
            parameters: What the handler is called with: any value that `json` writes.
            timeout: How many seconds from now the job waits for its result; without one, or with
                `math.inf`, for ever, or until a connection is lost and perhaps the result with it.

        Raises:
            TypeError: The method is not a string, or the parameters hold what JSON doesn't have.
            ValueError: The method is empty, the parameters are outside the portable set, the job is
                larger than 1 MiB, the timeout is negative, or the client is closed.
        """
        return (await self.run_many([(method, parameters)], timeout=timeout))[0]

    async def run_many(
        self,
        calls: Iterable[tuple[str, Any]],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the jobs', beyond this call
    ) -> list[Job]:
        """Submit a job for each pair of method and parameters, to be pushed by one command.

        All of them are checked before the first is submitted. Otherwise as `run`.
        """
        deadline = deadline_of(timeout, time.monotonic())
        if self._closed:
            raise ValueError("the client is closed")
        session = self._session()
        batch = [
            Submission(
                job_id := str(next(self._ids)),
                Job(job_id, method, session),
                messages.encode_job(method, parameters, session.channel, job_id),
            )
            for method, parameters in calls
        ]
        jobs = [submission.job for submission in batch]
        if not batch:
            return jobs
        if await session.wait_for_room(deadline):
            session.submit(batch, deadline)
        else:
            for job in jobs:
                job.settle(None, JobTimeout("too much waits to be pushed"))
        return jobs

    async def close(self) -> None:
        """Push what was submitted, settle what is left by ConnectionLost, and disconnect.

        It takes no longer than 3 seconds whatever Redis does; harmless when done twice. Cancelled,
        it goes on without its caller. Sessions in other loops are closed there.
        """
        self._closed = True
        mine = self._sessions.get((os.getpid(), asyncio.get_running_loop()))
        for session in _of_this_process(self._sessions):
            if session is mine:
                session.close()
            else:
                session.close_from_elsewhere()
        if mine is not None:
            await mine.join(CLOSE_SECONDS + 1)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client can't be pickled or copied: each process makes its own")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _session(self) -> Session:
        place = (os.getpid(), asyncio.get_running_loop())
        session = self._sessions.get(place)
        if session is None:
            for other in [other for other in list(self._sessions) if other[1].is_closed()]:
                self._sessions.pop(other, None)
            owned = isinstance(self._source, str)
            session = Session(
                pools.aio_client_pools(self._source), self._queue, self._sessions, owned=owned
            )
            self._sessions[place] = session
        return session


def _of_this_process(all_sessions: Home) -> list[Session]:
    return [session for (pid, _), session in list(all_sessions.items()) if pid == os.getpid()]


def _dropped(all_sessions: Home) -> None:
    """Let what a client leaves behind that was dropped without `close` end with its last job."""
    for session in _of_this_process(all_sessions):
        session.release()
        if not session.ended:
            warnings.warn(
                "a jobqueue.aio.Client was dropped without close()", ResourceWarning, stacklevel=2
            )
