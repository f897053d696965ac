"""When jobs expire: the laws about `expires_at_ms`, by Redis's clock, which can be set at any moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.calls.clock import GOOD_SECONDS

from simulation.broken import Broken
from simulation.clock import BEGINS_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulation.clock import Clock
    from simulation.laws import Job

MEMBER = b',"expires_at_ms":'
ROUND_MS = 1.0
ASKING_SECONDS = 5.0  # the longest wait of a client for Redis's time


class Expiry:
    """What Redis's clock has shown in one world, and what follows for the jobs.

    Args:
        clock: The world's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Since when Redis's clock is ahead of the world's, and by how many milliseconds.
        self._sets: list[tuple[float, float]] = []

    def clock_is(self, ahead_seconds: float) -> None:
        """Note that Redis's clock is set, or that another Redis serves."""
        self._sets.append((self._clock.now, ahead_seconds * 1000))

    def read(self, message: bytes) -> tuple[bytes, float]:
        """Return a job's message before it was known when it expires, and that, since the world's beginning."""
        head, _, tail = message.rpartition(MEMBER)
        return head + b"}", int(tail[:-1]) - BEGINS_MS

    def pushed(self, job: Job) -> None:
        """Check the time that a client has computed, by a TIME that was asked for at most a minute before.

        Raises:
            Broken: It isn't the one that the caller has asked for.
        """
        if job.expires_at is None or job.expires_at_ms is None:
            return
        ahead = [
            each for _, each in self._in_force(self._clock.now - GOOD_SECONDS - ASKING_SECONDS)
        ]
        error = job.expires_at_ms - job.expires_at * 1000
        if not min(ahead) - ROUND_MS <= error <= max(ahead) + ASKING_SECONDS * 1000:
            raise Broken(
                "expires as it was asked",
                f"{job.name} is to expire {error:.0f} ms later than its caller said",
            )

    def started(self, job: Job, free_since: float) -> None:
        """Check that a job may start, for whose handler a place has been free for a while.

        Raises:
            Broken: It had expired, whenever Redis was asked for its time since then.
        """
        if job.expires_at_ms is None:
            return
        late = min(self._times(free_since)) - job.expires_at_ms
        if late > ROUND_MS:
            raise Broken("expires", f"{job.name} starts, and had expired {late:.0f} ms before")

    def refused(self, job: Job) -> None:
        """Check that a job may be answered as expired.

        Raises:
            Broken: It had time left, whenever Redis was asked for its time since it was pushed.
        """
        at = job.expires_at_ms
        if at is None or max(self._times(job.accepted_at)) < at - ROUND_MS:
            raise Broken("runs in time", f"{job.name} is refused, and has time left")

    def _in_force(self, since: float) -> Iterator[tuple[float, float]]:
        """Return what Redis's clock has been ahead since a moment, and from when."""
        for number, (at, ahead) in enumerate(self._sets):
            following = self._sets[number + 1 :]
            if not following or following[0][0] >= since:
                yield max(at, since), ahead

    def _times(self, since: float) -> list[float]:
        """Return the earliest and the latest times of Redis since a moment, each time that it is set, too."""
        in_force = list(self._in_force(since))
        ends = [at for at, _ in in_force[1:]] + [self._clock.now]
        return [
            at * 1000 + ahead
            for (begin, ahead), end in zip(in_force, ends, strict=True)
            for at in (begin, end)
        ]
