"""The client for asyncio: pushes jobs and settles each of them once.

As `jobqueue.threads.client`, with the same names in the same order. Two tasks serve a client, whatever the
number of jobs: one is subscribed, one reads the replies to pushes. They start with the first job.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
import uuid
from typing import TYPE_CHECKING, Any, Self

from jobqueue.aio.job import Job
from jobqueue.aio.pusher import Pusher
from jobqueue.aio.subscription import Subscription
from jobqueue.aio.timer import Timer
from jobqueue.core.unsettled import Unsettled
from jobqueue.errors import ConnectionLost, InvalidMessage, JobQueueError, JobTimeout, NotQueued
from jobqueue.protocol import keys, messages
from jobqueue.threads.client import deadline_of, remaining
from jobqueue.wire import pools

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from redis.asyncio import Redis

log = logging.getLogger("jobqueue.client")


class Client:
    """Runs jobs on the servers of one queue. Tasks may share it.

    In another event loop, or in the child after a fork, it begins anew, on a channel of its own;
    the jobs of before stay where they were.

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
        self._pool = pools.aio_pool_of(source)
        self._closed = False
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None

    def _begin(self) -> None:
        self._pool = pools.aio_pool_of(self._source)
        self._ids = map(str, itertools.count(1))
        self._channel = keys.results(self._queue, str(uuid.uuid4()))
        self._unsettled: Unsettled[Job] = Unsettled()
        self._timer = Timer(self._expire)
        self._subscription = Subscription(
            self._pool, self._channel, self._arrived, self._subscription_lost, self._awaited
        )
        self._pusher = Pusher(self._pool, self._queue.encode(), self._refused, self._push_lost)

    async def run(
        self,
        method: str,
        parameters: Any = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the job's, beyond this call
    ) -> Job:
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
        return (await self.run_many([(method, parameters)], timeout=timeout))[0]

    async def run_many(
        self,
        calls: Iterable[tuple[str, Any]],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the jobs', beyond this call
    ) -> list[Job]:
        """Push a job for each pair of method and parameters, in one round trip, in their order.

        All of them are checked before the first is pushed. Otherwise as `run`.
        """
        deadline = deadline_of(timeout)
        if self._closed:
            raise ValueError("the client is closed")
        home = (os.getpid(), asyncio.get_running_loop())
        if home != self._home:
            self._home = home
            self._begin()
        jobs, encoded, forget = [], [], self._forget
        for (method, parameters), job_id in zip(calls, self._ids, strict=False):
            # client.job.id
            encoded.append(messages.encode_job(method, parameters, self._channel, job_id))
            jobs.append(Job(job_id, method, self._channel, forget))
        await self._push(jobs, encoded, deadline)
        return jobs

    async def close(self) -> None:
        """Settle what is unsettled by ConnectionLost, and disconnect; harmless when done twice."""
        self._closed = True
        if self._home != (os.getpid(), asyncio.get_running_loop()):
            return
        await self._subscription.close()
        await self._pusher.close()
        self._timer.close()
        self._settle(
            self._unsettled.close(), ConnectionLost, "the client was closed before a result came"
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _push(self, jobs: list[Job], encoded: list[bytes], deadline: float | None) -> None:
        # client.register.before-push
        for job in jobs:
            self._unsettled.register(job.id, job, deadline)
        if deadline is not None:
            self._timer.watch(deadline)
        try:
            # client.subscribe.before-push
            while subscribed := await self._subscription.require(remaining(deadline)):
                open_ = [self._unsettled.pushing(job.id) for job in jobs]
                if self._subscription.connection is subscribed:
                    ids = [job.id for job in itertools.compress(jobs, open_)]
                    await self._pusher.push(list(itertools.compress(encoded, open_)), ids)
                    return
        except (ConnectionLost, NotQueued) as error:
            # client.settle.not-queued
            self._refused([job.id for job in jobs], str(error))
        except asyncio.CancelledError:  # nobody has got these jobs
            for job in jobs:
                self._forget(job.id)
            raise

    def _arrived(self, message: bytes) -> None:
        try:
            result = messages.decode_result(message)
        except InvalidMessage as error:
            # client.ignore.malformed
            log.debug("ignored channel=%s: %s", self._channel, error)
            return
        # client.settle.result, client.ignore.unknown
        job = self._unsettled.settle(result.id)
        if job is not None:
            # client.settle.value, client.settle.error
            job.settle(result.value, result.error)

    def _expire(self) -> float | None:
        # client.timeout.settles
        expired = self._unsettled.expire(time.monotonic())
        self._settle(expired, JobTimeout, "no result came within the job's timeout")
        return self._unsettled.next_deadline()

    def _subscription_lost(self) -> None:
        jobs = self._unsettled.lost()
        event = "the client was closed" if self._closed else "the subscription was lost"
        self._settle(jobs, ConnectionLost, f"{event} before a result came")

    def _push_lost(self, job_ids: Sequence[str], error: ConnectionLost) -> None:
        jobs = self._unsettled.lost(job_ids)
        self._settle(jobs, ConnectionLost, f"the reply to the push was lost: {error}")

    def _refused(self, job_ids: Sequence[str], reason: str) -> None:
        jobs = [job for job_id in job_ids if (job := self._unsettled.settle(job_id))]
        self._settle(jobs, NotQueued, reason)

    def _forget(self, job_id: str) -> None:
        self._unsettled.settle(job_id)

    def _awaited(self) -> bool:
        return len(self._unsettled) > 0

    def _settle(self, jobs: list[Job], error: type[JobQueueError], reason: str) -> None:
        for job in jobs:
            log.info("%s channel=%s id=%s: %s", error.__name__, job.channel, job.id, reason)
            job.settle(None, error(reason))
