"""A client's jobs that have no outcome yet, and which of them an event settles.

Whoever takes a job out of here settles it, and nobody else can: that is how each job is settled
once. Time is an argument, in seconds on one clock. Not safe to use from two threads at once.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

JobT = TypeVar("JobT")


class Unsettled(Generic[JobT]):
    """The jobs by id, their deadlines, and whether each may have reached the queue."""

    def __init__(self) -> None:
        self._jobs: dict[str, tuple[JobT, float | None]] = {}
        self._pushed: set[str] = set()
        self._deadlines: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def register(self, job_id: str, job: JobT, deadline: float | None) -> None:
        """Expect an outcome for the job."""
        self._jobs[job_id] = (job, deadline)
        if deadline is not None:
            if len(self._deadlines) > 2 * len(self._jobs) + 100:
                self._forget_settled_deadlines()
            heapq.heappush(self._deadlines, (deadline, job_id))

    def pushing(self, job_id: str) -> bool:
        """Note that the job is about to reach the queue; False where it is settled and must not."""
        if job_id not in self._jobs:
            return False
        self._pushed.add(job_id)
        return True

    def settle(self, job_id: str) -> JobT | None:
        """Take the job out; None where it is unknown or already settled."""
        # client.settle.once, client.ignore.unknown
        self._pushed.discard(job_id)
        job, _ = self._jobs.pop(job_id, (None, None))
        return job

    def next_deadline(self) -> float | None:
        """Return the earliest deadline of an unsettled job."""
        while self._deadlines and self._deadlines[0][1] not in self._jobs:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def expire(self, now: float) -> list[JobT]:
        """Take out the jobs whose deadlines have passed."""
        # client.timeout.settles, client.timeout.local
        expired = []
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            job = self.settle(self._deadlines[0][1])
            expired.extend([] if job is None else [job])
        return expired

    def lost(self, job_ids: Iterable[str] | None = None) -> list[JobT]:
        """Take out the jobs that nothing would settle after a lost connection.

        They may have been pushed, and have no timeout. The others go on waiting
        (client.lost.waits).

        Args:
            job_ids: The jobs that the connection carried; None where it carries all.
        """
        # client.lost.settles
        carried = self._pushed if job_ids is None else self._pushed.intersection(job_ids)
        hopeless = [
            job_id for job_id in self._jobs if job_id in carried and not self._has_deadline(job_id)
        ]
        return [job for job_id in hopeless if (job := self.settle(job_id)) is not None]

    def close(self) -> list[JobT]:
        """Take out all jobs."""
        jobs = [job for job, _ in self._jobs.values()]
        self._jobs.clear()
        self._pushed.clear()
        self._deadlines.clear()
        return jobs

    def _has_deadline(self, job_id: str) -> bool:
        return self._jobs[job_id][1] is not None

    def _forget_settled_deadlines(self) -> None:
        self._deadlines = [entry for entry in self._deadlines if entry[1] in self._jobs]
        heapq.heapify(self._deadlines)
