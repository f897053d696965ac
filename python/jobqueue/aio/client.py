"""The client for asyncio: pushes jobs and settles each of them once.

Like `jobqueue.threads.client`, with the same names in the same order. It has one session in each
event loop that uses it.
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
from jobqueue.core.calls import CLOSE_SECONDS, Submission, deadline_of, expiry_of
from jobqueue.errors import JobTimeout
from jobqueue.protocol import keys, messages
from jobqueue.wire import pools

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from redis.asyncio import Redis, RedisCluster

    from jobqueue.aio.session import Sessions
    from jobqueue.core.calls import Expires


class Client:
    """Runs jobs on the servers of one queue. Tasks may share it, and so may event loops.

    Call `close`, or use it in an `async with` block: both push what was submitted before. A client
    that is dropped without `close` ends when its last job is settled, with a ResourceWarning.

    No exception of a method or of a job makes a client unusable; only `close` does. It connects when
    it has jobs, and again after a lost connection.

    In each event loop, and in the child after a fork, it has its own connection and channel
    (client.channel.name).

    Args:
        source: A Redis URL, or a client of `redis.asyncio` with `retry=None`, a `socket_timeout` and
            without `decode_responses`.
        queue: The key of the queue.
        expires: When jobs expire that don't say it: seconds after the call, or "timeout" for the
            time of their own timeout, so that nobody works where nobody waits. Their servers need
            the feature `expiry`. None: never.

    Raises:
        TypeError: The source is neither a URL nor a client.
        ValueError: The queue is empty, `expires` is negative or another word, or the URL or the
            client can't be used.
    """

    def __init__(
        self,
        source: str | Redis | RedisCluster = pools.DEFAULT_URL,
        *,
        queue: str = keys.QUEUE,
        expires: Expires = None,
    ) -> None:
        if not queue:
            raise ValueError("queue must be a non-empty string")
        expiry_of(expires, None, None, 0.0)  # raises here
        self._queue = queue
        self._expires = expires
        self._source = source
        pools.aio_client_pools(source, queue)  # raises here; each session makes its own
        self._closed = False
        self._ids = itertools.count(1)  # client.job.id: whatever the process or the session
        self._sessions: Sessions = {}  # by process and loop
        weakref.finalize(self, _dropped, self._sessions).atexit = False

    async def run(
        self,
        method: str,
        parameters: Any = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the job's, beyond this call
        expires: Expires = None,
    ) -> Job:
        """Submit one job and return its future at once.

        The job is pushed as soon as there is a connection. This call waits only while more than
        16 MB wait to be pushed, and no longer than the timeout; then the job is settled by
        JobTimeout.

        Args:
            method: The method, which selects the handler.
            parameters: Passed to the handler: any value that `json` can write
                (client.job.parameters).
            timeout: Seconds from now until the job is settled by JobTimeout
                (client.timeout.settles). None or `math.inf`: no timeout; the job then waits until
                its result arrives, or until a connection is lost (client.lost.settles).
            expires: Seconds from now until a server doesn't start the job any more, by Redis's clock,
                but answers it by the JobError `expired` (client.expiry.clock); "timeout" is as
                long as the timeout. None: what the client says.

        Raises:
            TypeError: The method is not a string, or the parameters have no JSON.
            ValueError: The method is empty, the parameters are not portable JSON, the job is larger
                than 1 MiB (client.job.size), a time is negative, or the client is closed.

        After an exception, CancelledError included, no job was submitted.
        """
        return (await self.run_many([(method, parameters)], timeout=timeout, expires=expires))[0]

    async def run_many(
        self,
        calls: Iterable[tuple[str, Any]],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the jobs', beyond this call
        expires: Expires = None,
    ) -> list[Job]:
        """Submit one job for each pair of method and parameters; one command pushes all of them.

        Like `run`. After an exception none of the jobs was submitted. The times apply to each
        job.

        Returns:
            The jobs, in the order of the calls.
        """
        now = time.monotonic()
        deadline = deadline_of(timeout, now)
        expires_at = expiry_of(expires, self._expires, timeout, now)
        if self._closed:
            raise ValueError("the client is closed")
        session = self._session()
        batch = [
            Submission(
                job_id := str(next(self._ids)),
                Job(job_id, method, session),
                messages.encode_job(
                    method, parameters, session.channel, job_id, expires=expires_at is not None
                ),
                expires_at,
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
        """Push what was submitted, settle unfinished jobs by ConnectionLost, and disconnect.

        This takes at most 3 seconds whatever Redis does. Afterwards `run` raises ValueError. A
        second call has no effect. If the caller is cancelled, closing continues in the background.
        Sessions in other event loops are closed there.
        """
        self._closed = True
        mine = self._sessions.get((os.getpid(), asyncio.get_running_loop()))
        for session in _of_this_process(self._sessions):
            if session is mine:
                session.close()
            else:
                session.close_threadsafe()
        if mine is not None:
            await mine.join(CLOSE_SECONDS + 1)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Client can't be pickled or copied: create one in each process")

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
                pools.aio_client_pools(self._source, self._queue),
                self._queue,
                self._sessions,
                owned=owned,
            )
            self._sessions[place] = session
        return session


def _of_this_process(all_sessions: Sessions) -> list[Session]:
    return [session for (pid, _), session in list(all_sessions.items()) if pid == os.getpid()]


def _dropped(all_sessions: Sessions) -> None:
    """End the sessions of a client that was dropped without `close`, when their last jobs are settled."""
    for session in _of_this_process(all_sessions):
        session.release()
        if not session.ended:
            warnings.warn(
                "a jobqueue.aio.Client was dropped without close()", ResourceWarning, stacklevel=2
            )
