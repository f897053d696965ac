"""The client: pushes jobs and settles each of them once. Everything of the protocol's section 6.

Three threads serve a client, whatever the number of jobs: one is subscribed and settles jobs by
their results, one reads the replies to pushes, one watches over timeouts. They start with the first
job. Who waits for the only job under way may receive its result without the first of them.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

from jobqueue.core.unsettled import Unsettled
from jobqueue.errors import ConnectionLost, InvalidMessage, JobQueueError, JobTimeout, NotQueued
from jobqueue.protocol import keys, messages
from jobqueue.threads.job import Job
from jobqueue.threads.pusher import Pusher
from jobqueue.threads.subscription import Subscription
from jobqueue.threads.timer import Timer
from jobqueue.wire import pools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from redis import Redis

log = logging.getLogger("jobqueue.client")


class Client:
    """Runs jobs on the servers of one queue. Threads may share it.

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
        self._pool = pools.pool_of(source)
        self._closed = False
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        self._ids = map(str, itertools.count(1))
        self._channel = keys.results(self._queue, str(uuid.uuid4()))
        self._lock = threading.Lock()
        self._unsettled: Unsettled[Job] = Unsettled()
        self._timer = Timer(self._expire)
        self._subscription = Subscription(
            self._pool, self._channel, self._arrived, self._subscription_lost, self._awaited
        )
        self._pusher = Pusher(self._pool, self._queue.encode(), self._refused, self._push_lost)

    def run(self, method: str, parameters: Any = None, *, timeout: float | None = None) -> Job:
        """Push one job, and return at once with the future of its outcome.

        Args:
            method: Which handler.
            parameters: What the handler is called with: any value that `json` writes.
            timeout: How many seconds from now the job waits for its result; without one, for ever,
                or until a connection is lost and perhaps the result with it.

        Raises:
            TypeError: The method is no string, or the parameters hold what JSON doesn't have.
            ValueError: The method is empty, the parameters are outside the portable set, the job is
                larger than 1 MiB, the timeout is negative, or the client is closed.
        """
        return self.run_many([(method, parameters)], timeout=timeout)[0]

    def run_many(
        self, calls: Iterable[tuple[str, Any]], *, timeout: float | None = None
    ) -> list[Job]:
        """Push a job for each pair of method and parameters, in one round trip, in their order.

        All of them are checked before the first is pushed. Otherwise as `run`.
        """
        deadline = deadline_of(timeout)
        if self._closed:
            raise ValueError("the client is closed")
        jobs, encoded, forget, attend = [], [], self._forget, self._attend
        for (method, parameters), job_id in zip(calls, self._ids, strict=False):
            # client.job.id
            encoded.append(messages.encode_job(method, parameters, self._channel, job_id))
            jobs.append(Job(job_id, method, self._channel, forget, attend))
        self._push(jobs, encoded, deadline)
        return jobs

    def close(self) -> None:
        """Settle what is unsettled by ConnectionLost, and disconnect; harmless when done twice."""
        self._closed = True
        self._subscription.close()
        self._pusher.close()
        self._timer.close()
        with self._lock:
            jobs = self._unsettled.close()
        self._settle(jobs, ConnectionLost, "the client was closed before a result came")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _push(self, jobs: list[Job], encoded: list[bytes], deadline: float | None) -> None:
        # client.register.before-push
        with self._lock:
            for job in jobs:
                self._unsettled.register(job.id, job, deadline)
            several = len(self._unsettled) > 1
        if several:
            self._subscription.take_over()
        if deadline is not None:
            self._timer.watch(deadline)
        try:
            # client.subscribe.before-push
            while subscribed := self._subscription.require(remaining(deadline)):
                with self._lock:
                    open_ = [self._unsettled.pushing(job.id) for job in jobs]
                if self._subscription.connection is subscribed:
                    ids = [job.id for job in itertools.compress(jobs, open_)]
                    self._pusher.push(list(itertools.compress(encoded, open_)), ids)
                    return
        except (ConnectionLost, NotQueued) as error:
            # client.settle.not-queued
            self._refused([job.id for job in jobs], str(error))

    def _arrived(self, message: bytes) -> None:
        try:
            result = messages.decode_result(message)
        except InvalidMessage as error:
            # client.ignore.malformed
            log.debug("ignored channel=%s: %s", self._channel, error)
            return
        # client.settle.result, client.ignore.unknown
        with self._lock:
            job = self._unsettled.settle(result.id)
        if job is not None:
            # client.settle.value, client.settle.error
            job.settle(result.value, result.error)

    def _expire(self) -> float | None:
        with self._lock:
            jobs = self._unsettled.expire(time.monotonic())
            deadline = self._unsettled.next_deadline()
        # client.timeout.settles
        self._settle(jobs, JobTimeout, "no result came within the job's timeout")
        return deadline

    def _subscription_lost(self) -> None:
        with self._lock:
            jobs = self._unsettled.lost()
        event = "the client was closed" if self._closed else "the subscription was lost"
        self._settle(jobs, ConnectionLost, f"{event} before a result came")

    def _push_lost(self, job_ids: Sequence[str], error: ConnectionLost) -> None:
        with self._lock:
            jobs = self._unsettled.lost(job_ids)
        self._settle(jobs, ConnectionLost, f"the reply to the push was lost: {error}")

    def _refused(self, job_ids: Sequence[str], reason: str) -> None:
        with self._lock:
            jobs = [job for job_id in job_ids if (job := self._unsettled.settle(job_id))]
        self._settle(jobs, NotQueued, reason)

    def _forget(self, job_id: str) -> None:
        with self._lock:
            self._unsettled.settle(job_id)

    def _attend(self, settled: Callable[[], bool], seconds: float | None) -> None:
        if len(self._unsettled) == 1:
            self._subscription.attend(settled, seconds)

    def _awaited(self) -> bool:
        return len(self._unsettled) > 0

    def _settle(self, jobs: list[Job], error: type[JobQueueError], reason: str) -> None:
        for job in jobs:
            log.info("%s channel=%s id=%s: %s", error.__name__, job.channel, job.id, reason)
            job.settle(None, error(reason))


_clients: WeakSet[Client] = WeakSet()


def _begin_after_fork() -> None:
    for client in _clients:
        client._begin()  # noqa: SLF001 - the threads of a client don't survive a fork


os.register_at_fork(after_in_child=_begin_after_fork)


def deadline_of(timeout: float | None) -> float | None:
    """Return the time at which a timeout that begins now has passed."""
    # client.timeout.local
    if timeout is None:
        return None
    if not timeout >= 0:  # NaN, too
        raise ValueError(f"a timeout is a number of seconds, not {timeout}")
    return time.monotonic() + timeout


def remaining(deadline: float | None) -> float | None:
    """Return how long it is until the deadline, in seconds."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
