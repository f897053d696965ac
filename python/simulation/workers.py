"""The hands of a server, and what each of its queues has started, as the threads or tasks of the drivers."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from jobqueue.protocol.messages import Run, message_of

from simulation.broken import Broken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.core.lease import Lease
    from jobqueue.core.sharing import Seat
    from jobqueue.core.steps import Turn
    from jobqueue.protocol.messages import Answer, Dead, Timed, Work

    from simulation.server import Life


class Hands:
    """Those that run handlers, for one queue or for two.

    Args:
        count: How many handlers run at the same time.
    """

    def __init__(self, count: int) -> None:
        self.count = self._free = count
        self._waiting: deque[tuple[Workers, Work, int]] = deque()

    def start(self, workers: Workers, work: Sequence[Work], generation: int) -> None:
        """Have handlers run, as many at once as there are hands."""
        self._waiting += [(workers, each, generation) for each in work]
        self._begin()

    def withdraw(self) -> None:
        """Take back what waits for a hand."""
        waiting, self._waiting = self._waiting, deque()
        for workers, work, _ in waiting:
            workers.confirmed([message_of(work)])

    def ended(self) -> None:
        """Note that a handler has ended."""
        self._free += 1
        self._begin()

    def _begin(self) -> None:
        while self._waiting and self._free:
            workers, work, generation = self._waiting.popleft()
            self._free -= workers.run(work, generation)


class Workers:
    """What was started and isn't confirmed, in the order in which it waits for a handler.

    Args:
        life: The run of a server whose handlers these are.
        hands: They run the handlers.
        lease: Without which nothing is started; None if it isn't needed.
        seat: Its place among the queues that share the hands, if there are several.
    """

    def __init__(self, life: Life, hands: Hands, lease: Lease | None, seat: Seat | None) -> None:
        self.running: Counter[bytes] = Counter()
        self._life = life
        self._lease = lease
        self._hands = hands
        self._seat = seat
        self._finished: list[Answer | Dead | Run] = []

    def start(self, work: Sequence[Work]) -> None:
        """Have handlers run, as many at once as are allowed."""
        messages = [*map(message_of, work)]
        self.running.update(messages)
        if self._seat is not None:
            self._seat.start(messages)
            if self.running.total() > self._hands.count:
                raise Broken("claims for its hands", f"{self._life} starts more than it has hands")
        self._hands.start(self, work, 0 if self._lease is None else self._lease.generation)

    def run(self, work: Work, generation: int) -> bool:
        """Run a handler, and tell whether that takes a hand."""
        if self._life.over:
            return False
        now = self._life.world.clock.now
        if self._lease is not None and not self._lease.holds(generation, now):
            self.confirmed([message_of(work)])  # the next look finds it, if it is there still
            return False
        self._life.handle(work, self._end)
        return True

    def withdraw(self) -> None:
        """Take back what waits for a handler."""
        self._hands.withdraw()

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

    def ask(self, turn: Turn) -> None:
        """Compete for hands."""
        assert self._seat is not None
        self._seat.ask(turn.wants, suspect=turn.suspect, alone=turn.alone)
        self._changed()

    def granted(self) -> int | None:
        """Return how many hands are kept; None if there are none yet."""
        assert self._seat is not None
        return self._seat.granted() or None

    def take(self) -> bool:
        """Keep a hand, if one is free."""
        assert self._seat is not None
        return self._seat.take()

    def rest(self) -> None:
        """Give back the hands that are kept."""
        if self._seat is not None:
            self._seat.rest()
            self._changed()

    def release(self) -> None:
        """Give back the hands of jobs whose handlers have ended."""
        assert self._seat is not None
        self._seat.release()
        self._changed()

    def confirmed(self, messages: list[bytes]) -> None:
        """Count messages as running no longer."""
        for message in messages:
            self.running[message] -= 1
        self.running += Counter()
        if self._seat is not None:
            self._seat.done(messages)
        self._changed()

    def _end(self, outcome: Answer | Dead | Run) -> None:
        if self._life.over:
            return
        waits = isinstance(outcome, Run)  # for the time, and takes no other job meanwhile
        if self._seat is not None and not waits:
            self._seat.ended(outcome.message)
        self._finished.append(outcome)
        if not waits:
            self._hands.ended()
        self._life.changed()

    def _changed(self) -> None:
        for part in self._life.parts:
            self._life.world.clock.after(0, part.changed)
