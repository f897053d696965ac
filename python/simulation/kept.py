"""What is kept, and who has to be told: the laws about stored results, and about those who look for them.

A result is stored before it is published, under the digest of its job, for its time, and stays as it
is. Whoever lives and is subscribed, or comes with a handle, is told it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from jobqueue.errors import ConnectionLost, JobTimeout
from jobqueue.protocol.handles import Handle

from simulation.broken import Broken

if TYPE_CHECKING:
    from jobqueue.protocol.commands import Command

    from simulation.callers import Call
    from simulation.client import Client
    from simulation.clock import Clock
    from simulation.laws import Job
    from simulation.redis_process import RedisProcess
    from simulation.store import Store

LIMIT_SECONDS = 3_600.0  # of the servers
SLACK_SECONDS = 1.0  # within which a result that can be found is told,
EACH_SECONDS = 0.2  # and for each job of the client, since it looks them up one after the other
DISTURBED_SECONDS = 12.0  # when a fault is over, until a client has noticed what it has missed


class Kept:
    """The stored results of one world.

    Args:
        clock: The world's.
    """

    def __init__(self, clock: Clock) -> None:
        self.redis: RedisProcess | None = None  # that serves
        self.collected = 0
        self._clock = clock
        self._by_key: dict[bytes, Job] = {}
        self._disturbed_until = 0.0

    def accepted(self, job: Job) -> None:
        """Note the bytes that Redis has accepted, whose digest names the stored result."""
        job.result_key = job.queue + b":result:" + hashlib.sha1(job.message).hexdigest().encode()  # noqa: S324
        self._by_key[job.result_key] = job

    def disturb(self, seconds: float) -> None:
        """Note a fault of Redis, by which results may be found late."""
        self._disturbed_until = max(self._disturbed_until, self.over_at(seconds))

    def over_at(self, seconds: float) -> float:
        """Return when a fault that lasts so long is over, and noticed."""
        return self._clock.now + seconds + DISTURBED_SECONDS

    def stores(self, store: Store, command: Command, now_ms: int) -> Any:
        """Execute a SET of a result, and check what it leaves."""
        key = command[1]
        job = self._by_key.get(key)
        if job is None:
            raise Broken("kept under its digest", f"{key.decode()} is of no job that was pushed")
        before, until = store.execute((b"GET", key), now_ms), store.remaining_ms(key, now_ms)
        reply = store.execute(command, now_ms)
        after, lasts = store.execute((b"GET", key), now_ms), store.remaining_ms(key, now_ms)
        if before is not None:
            if (after, lasts) != (before, until):
                raise Broken("kept as it was first", f"the result of {job.name} is replaced")
        elif lasts != round(job.keep * 1000):
            raise Broken("kept for its time", f"{job.name} is kept for {lasts} ms")
        else:
            job.stored_at = self._clock.now
            job.results.append(
                (self._clock.now, after)
            )  # who looks finds it before it is published
        return reply

    def stored_elsewhere(self, command: Command) -> None:
        """Note a result that is going to be lost, with the data of an old primary."""
        if (job := self._by_key.get(command[1])) is not None:
            job.results.append((self._clock.now, command[2]))

    def refused(self, key: bytes) -> None:
        """Note that Redis refuses to store a result, so that it may be published all the same."""
        if (job := self._by_key.get(key)) is not None:
            job.unstored = True

    def published(self, job: Job, *, lasting: bool) -> None:
        """Check that a result is stored where it is published."""
        excused = job.unstored or job.restored or not lasting
        if job.keep and job.stored_at is None and not excused:
            raise Broken("kept before it is published", f"{job.name} is answered, and not stored")

    def handed(self, job: Job, handle: str) -> None:
        """Check a handle that a caller gets."""
        read = Handle.read(handle)
        if not job.accepted or job.queue + b":result:" + read.digest != job.result_key:
            raise Broken("its own handle", f"{job.name} has the handle of a job that isn't there")

    def there(self, job: Job) -> bool:
        """Whether the result of a job can be found now."""
        redis, key = self.redis, job.result_key
        assert redis is not None
        return bool(key and redis.store.execute((b"EXISTS", key), redis.now_ms))

    def missed(self, call: Call, error: Exception | None, client: Client) -> None:
        """Check what is told to the caller of a kept job, or to a collector, who gets no result."""
        job, now = call.job, self._clock.now
        if not isinstance(error, JobTimeout | ConnectionLost) or client.excused:
            return
        early = call.lost_at is not None and now < call.lost_at + job.keep
        waits = call.deadline is None and not call.collects and job.confirmed
        if isinstance(error, ConnectionLost) and waits and (early or call.lost_at is None):
            raise Broken("waits for what is kept", f"{job.name} counts as lost too early")
        self.found_soon(call, repr(error), client)

    def found_soon(self, call: Call, outcome: str, client: Client) -> None:
        """Check that what is told hasn't been there for longer than a look at it takes."""
        job, now = call.job, self._clock.now
        if not self.there(job) or client.open_since is None or client.excused:
            return
        times = (job.stored_at or 0.0, client.open_since, client.disturbed_until, call.since)
        since = max(*times, self._disturbed_until)
        if now - since > SLACK_SECONDS + EACH_SECONDS * len(client.unsettled):
            raise Broken(
                "what is kept is found",
                f"{client} is told {outcome} of {job.name}, whose result has been kept "
                f"for {now - since:.3f} s while it was subscribed",
            )

    def told(self, call: Call, value: Any) -> None:
        """Check a value: the first that was published, or one that was published meanwhile."""
        job = call.job
        self.collected += call.collects
        first_at = next((at for at, _ in job.results), 0.0)
        over = self._clock.now >= first_at + job.keep  # so a later result may have been kept, too
        changes = over or job.unstored or job.restored or job.deleted
        results = [
            result for at, result in job.results if changes or at == first_at or at >= call.since
        ]
        if not any(_value_of(each) == value for each in results):
            raise Broken(
                "the job's own result", f"{job.name} is told {value!r:.80}, which isn't the first"
            )


def _value_of(result: bytes) -> Any:
    return json.loads(result).get("result")
