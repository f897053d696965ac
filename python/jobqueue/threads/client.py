"""The client: pushes jobs and settles each of them once.

What it decides stands in `jobqueue.core.calls`, what its threads do in `jobqueue.threads.session`.
Nothing here takes a lock, so that a call may be interrupted at any moment, by Control-C or by a
signal handler that runs a job itself.
"""

from __future__ import annotations

import atexit
import itertools
import os
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, Self

from jobqueue.core.calls import Submission, deadline_of
from jobqueue.errors import JobTimeout
from jobqueue.protocol import keys, messages
from jobqueue.threads.job import Job
from jobqueue.threads.session import Session, end_all
from jobqueue.wire import pools

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from redis import Redis


class Client:
    """Runs jobs on the servers of one queue. Threads may share it.

    `close` it, or use it in a `with` block: that pushes what was submitted before. At the end of
    the interpreter the same happens to every client that is left.

    After a fork, the child's client begins anew, on a channel of its own; the jobs of the parent
    stay the parent's.

    Args:
        source: The URL of Redis, or a redis-py client with `retry=None`, undecoded replies and a
            `socket_timeout`.
        queue: The key of the queue.

    Raises:
        TypeError: The source is neither a URL nor a client.
        ValueError: The queue has no name, or the client can't be used.
    """

    def __init__(self, source: str | Redis = pools.DEFAULT_URL, *, queue: str = keys.QUEUE) -> None:
        if not queue:
            raise ValueError("a queue is named by a non-empty string")
        self._queue = queue
        self._pools = pools.client_pools(source)
        self._closed = False
        self._ids = itertools.count(1)  # client.job.id: whatever the process or the session
        self._sessions: dict[int, Session] = {}  # by process
        _clients.add(self)
        weakref.finalize(self, _dropped, self._sessions).atexit = False

    def run(self, method: str, parameters: Any = None, *, timeout: float | None = None) -> Job:
        """Submit one job, and return at once with the future of its outcome.

        The job is pushed as soon as there is a connection. Only where more waits to be pushed than
        16 MB or 1,000 calls does this wait for room, no longer than the timeout.

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
        return self.run_many([(method, parameters)], timeout=timeout)[0]

    def run_many(
        self, calls: Iterable[tuple[str, Any]], *, timeout: float | None = None
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
        if session.wait_for_room(deadline):
            try:
                session.submit(batch, deadline)
            except BaseException:  # Control-C: nobody gets these jobs
                session.cancel(*[job.id for job in jobs])
                raise
        else:
            for job in jobs:
                job.settle(None, JobTimeout("too much waits to be pushed"))
        return jobs

    def close(self) -> None:
        """Push what was submitted, settle what is left by ConnectionLost, and disconnect.

        It takes no longer than 3 seconds whatever Redis does; harmless when done twice.
        """
        self._closed = True
        end_all(self._own_sessions())

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client can't be pickled or copied: each process makes its own")

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
            session = self._sessions.setdefault(pid, new)  # two threads get the same one
            if self._closed:
                session.close()
        session.start()
        return session

    def _own_sessions(self) -> list[Session]:
        return _of_this_process(self._sessions)


def _of_this_process(all_sessions: dict[int, Session]) -> list[Session]:
    session = all_sessions.get(os.getpid())
    return [] if session is None else [session]


def _dropped(all_sessions: dict[int, Session]) -> None:
    """Let what a client leaves behind that was dropped without `close` end with its last job."""
    for session in _of_this_process(all_sessions):
        session.release()
        warnings.warn(
            "a jobqueue.Client was dropped without close()", ResourceWarning, stacklevel=2
        )


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    end_all([session for client in list(_clients) for session in client._own_sessions()])  # noqa: SLF001 - this file's
