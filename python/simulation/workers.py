"""The handlers of a server that runs several at a time, as the threads or tasks of the drivers."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from jobqueue.protocol.messages import Run, message_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.core.lease import Lease
    from jobqueue.protocol.messages import Answer, Dead, Timed, Work

    from simulation.server import Life


class Workers:
    """What was started and isn't confirmed, in the order in which it waits for a handler.

    Args:
        life: The run of a server whose handlers these are.
        concurrency: How many run at the same time.
        lease: Without which nothing is started; None if it isn't needed.
    """

    def __init__(self, life: Life, concurrency: int, lease: Lease | None) -> None:
        self.running: Counter[bytes] = Counter()
        self._life = life
        self._lease = lease
        self._free = concurrency
        self._waiting: deque[tuple[Work, int]] = deque()
        self._finished: list[Answer | Dead | Run] = []

    def start(self, work: Sequence[Work]) -> None:
        """Have handlers run, as many at once as are allowed."""
        self.running.update(map(message_of, work))
        generation = 0 if self._lease is None else self._lease.generation
        self._waiting += [(each, generation) for each in work]
        self._begin()

    def withdraw(self) -> None:
        """Take back what waits for a handler."""
        waiting, self._waiting = self._waiting, deque()
        self.confirmed([message_of(work) for work, _ in waiting])

    def outcomes(self, limit: int) -> list[Answer | Dead | Run] | None:
        """Return outcomes; None if there are none yet."""
        outcomes, self._finished = self._finished[:limit], self._finished[limit:]
        return outcomes or None

    def admit(self, jobs: list[Timed]) -> None:
        """Let those go on that wait for the time."""
        for job in jobs:
            self._life.handle(job, self._end)

    def room(self, limit: int) -> int | None:
        """Return how many more may run; None if none."""
        room = limit - self.running.total()
        return room if room > 0 else None

    def confirmed(self, messages: list[bytes]) -> None:
        """Count messages as running no longer."""
        for message in messages:
            self.running[message] -= 1
        self.running += Counter()
        self._life.world.clock.after(0, self._life.changed)

    def _begin(self) -> None:
        while self._waiting and self._free and not self._life.over:
            work, generation = self._waiting.popleft()
            if self._lease is not None and not self._lease.holds(
                generation, self._life.world.clock.now
            ):
                self.confirmed([message_of(work)])  # the next look finds it, if it is there still
                continue
            self._free -= 1
            self._life.handle(work, self._end)

    def _end(self, outcome: Answer | Dead | Run) -> None:
        if self._life.over:
            return
        self._finished.append(outcome)
        if not isinstance(outcome, Run):  # while it waits for the time, it takes no other job
            self._free += 1
            self._begin()
        self._life.changed()
