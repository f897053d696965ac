"""The client: pushes jobs and settles each of them once.

Its decisions are in `jobqueue.calls.calls`, its threads in `jobqueue.threads.session`. Nothing here
takes a lock, so a call may be interrupted at any point, by Ctrl-C or by a signal handler that runs a
job itself.
"""

from __future__ import annotations

import atexit
import itertools
import time
import uuid
import warnings
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, Self

from jobqueue.calls.kept import Keep
from jobqueue.calls.times import deadline_of, expiry_of, keep_ms_of
from jobqueue.calls.unsettled import Submission
from jobqueue.errors import JobTimeout
from jobqueue.host.forks import Process
from jobqueue.protocol import keys, messages
from jobqueue.protocol.handles import Handle
from jobqueue.threads.job import Job
from jobqueue.threads.session import Session, end_all
from jobqueue.wire import pools

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from redis import Redis, RedisCluster

    from jobqueue.calls.times import Expires


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
        keep: For how many seconds the results of jobs are kept that don't say it, so that a result
            that arrives while the client reconnects is found later. Their servers need the feature
            `kept-results`, and limit it, to an hour unless they are configured. None or 0: not at all.

    Raises:
        TypeError: The source is neither a URL nor a client.
        ValueError: The queue is empty, `expires` or `keep` is negative or another word, or the URL
            or the client can't be used.
    """

    def __init__(
        self,
        source: str | Redis | RedisCluster = pools.DEFAULT_URL,
        *,
        queue: str = keys.QUEUE,
        expires: Expires = None,
        keep: float | None = None,
    ) -> None:
        if not queue:
            raise ValueError("queue must be a non-empty string")
        expiry_of(expires, None, None, 0.0)  # raises here
        keep_ms_of(keep)  # the same
        self._queue = queue
        self._expires = expires
        self._keep = keep
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
        keep: float | None = None,
        detached: bool = False,
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
            keep: Seconds for which the result is kept (client.kept.looks). A job without a timeout
                then waits so long after a lost connection. None: what the client says; 0: not kept.
            detached: Whether the job gets a `handle`, by which `collect` finds its result while it is
                kept, in any process. It has a channel of its own, and this call waits until Redis
                has the job, or raises what settled it.

        Raises:
            TypeError: The method is not a string, or the parameters have no JSON.
            ValueError: The method is empty, the parameters are not portable JSON, the job is larger
                than 1 MiB (client.job.size), a time is negative, a detached job isn't kept, or the
                client is closed.

        After an exception, KeyboardInterrupt included, no job was submitted. A detached one, for which this
        call has waited, may nevertheless run, unless that was TypeError, ValueError or NotQueued.
        """
        if not detached:
            jobs = self.run_many(
                [(method, parameters)], timeout=timeout, expires=expires, keep=keep
            )
            return jobs[0]
        now = time.monotonic()
        expires_at = expiry_of(expires, self._expires, timeout, now)
        keep_ms = keep_ms_of(keep, self._keep)
        if not keep_ms:
            raise ValueError("the result of a detached job has to be kept: give it a keep")
        session = self._open_session()
        # client.kept.own-channel
        channel = keys.results(self._queue, str(uuid.uuid4()))
        submission = self._submission(session, (method, parameters), expires_at, keep_ms, channel)
        self._submit(session, [submission], deadline_of(timeout, now))
        try:
            submission.job.wait_for_handle()
        except BaseException:
            submission.job.cancel()  # nobody gets it
            raise
        return submission.job

    def run_many(
        self,
        calls: Iterable[tuple[str, Any]],
        *,
        timeout: float | None = None,
        expires: Expires = None,
        keep: float | None = None,
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
        keep_ms = keep_ms_of(keep, self._keep)
        session = self._open_session()
        batch = [self._submission(session, call, expires_at, keep_ms) for call in calls]
        return self._submit(session, batch, deadline)

    def collect(self, handle: str, *, timeout: float | None = None, delete: bool = False) -> Job:
        """Wait for the result of a job that has this handle, and return the future at once.

        Whoever has the handle may do so, as often as they like, while the result is kept. A result
        that isn't there yet is awaited; one that was kept no longer, was deleted or never existed
        looks the same (client.kept.collects).

        Args:
            handle: What the job's `handle` was, on the same queue of the same Redis.
            timeout: Seconds from now until the future is settled by JobTimeout. None: no timeout.
            delete: Whether the result is deleted from Redis when it was collected, if Redis allows it.

        Raises:
            InvalidHandle: The text is not a handle.
            ValueError: The timeout is negative, or the client is closed.
        """
        read = Handle.read(handle)
        deadline = deadline_of(timeout, time.monotonic())
        session = self._open_session()
        job_id = str(next(self._ids))
        job = Job(job_id, "collect", session, read.channel)
        submission = Submission(job_id, job, None, None, Keep.collected(read, delete=delete))
        return self._submit(session, [submission], deadline)[0]

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

    def _submission(
        self,
        session: Session,
        call: tuple[str, Any],
        expires_at: float | None,
        keep_ms: int,
        channel: str | None = None,
    ) -> Submission[Job]:
        method, parameters = call
        job_id = str(next(self._ids))
        job = Job(job_id, method, session, channel)
        message = messages.encode_job(
            method,
            parameters,
            job.channel,
            job_id,
            expires=expires_at is not None,
            keep_ms=keep_ms,
        )
        keep = Keep(job_id, keep_ms / 1_000, channel=channel) if keep_ms else None
        return Submission(job_id, job, message, expires_at, keep)

    def _submit(
        self, session: Session, batch: list[Submission[Job]], deadline: float | None
    ) -> list[Job]:
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

    def _open_session(self) -> Session:
        if self._closed:
            raise ValueError("the client is closed")
        return self._session()

    def _session(self) -> Session:
        pid = Process.id
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
    session = all_sessions.get(Process.id)
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
    end_all([session for session in list(_all_sessions) if session.pid == Process.id])
