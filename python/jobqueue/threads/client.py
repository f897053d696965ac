"""The client: pushes jobs and settles each of them once.

Its decisions are in `jobqueue.core.calls`, its threads in `jobqueue.threads.session`. Nothing here
takes a lock, so a call may be interrupted at any point, by Ctrl-C or by a signal handler that runs a
job itself.
"""

from __future__ import annotations

import atexit
import itertools
import os
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, Self

from jobqueue.core.calls import Submission, deadline_of, expiry_of
from jobqueue.errors import JobTimeout
from jobqueue.protocol import keys, messages
from jobqueue.threads.job import Job
from jobqueue.threads.session import Session, end_all
from jobqueue.wire import pools

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from redis import Redis, RedisCluster

    from jobqueue.core.calls import Expires


class Client:
    """Runs jobs on the servers of one queue. Thread-safe.

    Call `close`, or use it in a `with` block: both push what was submitted before. Clients that are
    still open when the interpreter ends are closed then. A client that is dropped without `close`
    ends when its last job is settled, or with the interpreter, too, with a ResourceWarning.

    No exception of a method or of a job makes a client unusable; only `close` does. It connects when
    it has jobs, and again after a lost connection.

    In the child after a fork, the client starts a new session with its own connection and channel
    (client.channel.name). Jobs of the parent are settled there by ConnectionLost.

    Args:
        source: A Redis URL, or a client of redis-py with `retry=None`, a `socket_timeout` and
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
        self._pools = pools.client_pools(source, queue)
        self._closed = False
        self._ids = itertools.count(1)  # client.job.id: whatever the process or the session
        self._sessions: dict[int, Session] = {}  # by process
        weakref.finalize(self, _dropped, self._sessions).atexit = False

    def run(
        self,
        method: str,
        parameters: Any = None,
        *,
        timeout: float | None = None,
        expires: Expires = None,
    ) -> Job:
        """Submit one job and return its future at once.

        The job is pushed as soon as there is a connection. This call waits only while more than
        16 MB or 1,000 calls wait to be pushed, and no longer than the timeout; then the job is
        settled by JobTimeout.

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

        After an exception, KeyboardInterrupt included, no job was submitted.
        """
        return self.run_many([(method, parameters)], timeout=timeout, expires=expires)[0]

    def run_many(
        self,
        calls: Iterable[tuple[str, Any]],
        *,
        timeout: float | None = None,
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
        if session.wait_for_room(deadline):
            try:
                session.submit(batch, deadline)
            except BaseException:  # Ctrl-C: the caller doesn't get these jobs
                session.cancel(*jobs)
                raise
        else:
            for job in jobs:
                job.settle(None, JobTimeout("too much waits to be pushed"))
        return jobs

    def close(self) -> None:
        """Push what was submitted, settle unfinished jobs by ConnectionLost, and disconnect.

        This takes at most 3 seconds whatever Redis does, and raises nothing. Afterwards `run` raises
        ValueError. A second call has no effect.
        """
        self._closed = True
        end_all(_of_this_process(self._sessions))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Client can't be pickled or copied: create one in each process")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _session(self) -> Session:
        pid = os.getpid()
        session = self._sessions.get(pid)
        if session is None:
            new = Session(self._pools, self._queue, self._sessions)
            _all_sessions.add(new)
            session = self._sessions.setdefault(pid, new)  # two threads get the same one
            if self._closed:
                session.close()
        session.start()
        return session


def _of_this_process(all_sessions: dict[int, Session]) -> list[Session]:
    session = all_sessions.get(os.getpid())
    return [] if session is None else [session]


def _dropped(all_sessions: dict[int, Session]) -> None:
    """End the session of a client that was dropped without `close`, when its last job is settled."""
    for session in _of_this_process(all_sessions):
        session.release()
        warnings.warn(
            "a jobqueue.Client was dropped without close()", ResourceWarning, stacklevel=2
        )


_all_sessions: weakref.WeakSet[Session] = weakref.WeakSet()  # also those of dropped clients


@atexit.register
def _close_all() -> None:
    end_all([session for session in list(_all_sessions) if session.pid == os.getpid()])
