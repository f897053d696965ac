"""Several queues share the hands of one server: whose turn it is, and how each of them claims.

A hand runs one job at a time; it is a thread or a task. A queue that may hold jobs competes for hands.
It claims only as many jobs as there are hands kept for it, and gives back those that it didn't need. A
queue that was found empty rests: its next claim waits in Redis, and no hand waits for it. If that
claim brings a job when no hand is free, the job is returned, and its queue competes again.

A hand is free when the removal of its job is confirmed. If that fails since Redis is away, it is lent to
the other queues as soon as the handler has ended; its own queue still counts it as used.

Two orders are possible. `fair`: next is the queue that has taken the least, so of two that compete
none is ever more than one job ahead. `priority`: next is the first that competes. A queue whose claim
is on its way still competes, so that no other one overtakes it.

Of the entries that may have ended a server (`core.attempts`), one that was counted before runs at the
same time as none of another queue's.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from jobqueue.core.attempts import Suspect
from jobqueue.core.parallel import Parallel
from jobqueue.core.reconnect import run_with_reconnect
from jobqueue.core.steps import (
    Now,
    Release,
    Rest,
    Room,
    Sleep,
    Start,
    Take,
    Turn,
    exchange,
)
from jobqueue.errors import ConnectionLost, ProcessorLost
from jobqueue.protocol import commands

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.core.attempts import Entry
    from jobqueue.core.reconnect import Backoff
    from jobqueue.core.steps import Moment, Steps


Order: TypeAlias = Literal["fair", "priority"]
ORDERS: tuple[Order, ...] = ("fair", "priority")


class Turns:
    """The hands that are free, and the seats of the queues, in the order of their priority.

    Args:
        queues: The number of queues.
        hands: The number of hands.
        order: Which queue is next.
    """

    def __init__(self, queues: int, hands: int, order: Order) -> None:
        self.hands = self.free = hands
        self.seats = [Seat(self) for _ in range(queues)]
        self._order = order

    def allot(self) -> None:
        """Keep the hands that are free for the queues that wait for them."""
        while self.free and (seat := self._next()) is not None:
            seat.keep()

    def others(self, seat: Seat) -> list[Seat]:
        """Return the seats of the other queues."""
        return [other for other in self.seats if other is not seat]

    def _next(self) -> Seat | None:
        rivals = [seat for seat in self.seats if seat.competes]
        if self._order == "priority":
            first = rivals[:1]
        else:
            least = min((seat.taken for seat in rivals), default=0)
            first = [seat for seat in rivals if seat.taken == least]
        return next((seat for seat in first if seat.waits), None)


class Seat:
    """What one queue has of the hands, and what it waits for."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.taken = 0  # by which `fair` compares; only the differences between rivals count
        self.kept = 0  # hands
        self._active = True  # at the start nobody knows which queue has jobs
        self._wants = 0
        self._suspect = False  # whether it wants, or has, its hand for one
        self._alone = False  # whether that was counted before
        self._suspects: Counter[bytes] = Counter()  # those that run
        self._runs_alone = False  # whether one of these was counted before
        self._unconfirmed = 0  # messages
        self._ended: Counter[bytes] = Counter()  # those whose handlers have ended, with a hand each
        self._lent: Counter[bytes] = Counter()  # those whose hands were given back before

    @property
    def competes(self) -> bool:
        """Whether others have to wait until this queue has had its turn."""
        return self._active and not self._held_up and not self._full

    @property
    def waits(self) -> bool:
        """Whether it wants one more hand."""
        return self.kept < self._wants and not self._full

    def ask(self, wants: int, *, suspect: bool = False, alone: bool = False) -> None:
        """Give back the hands that weren't needed, and compete for so many, or for one for a suspect."""
        self._give_back()
        self._compete()
        self._wants, self._suspect, self._alone = wants, suspect, alone
        self._turns.allot()

    def granted(self) -> int:
        """Return the number of hands that are kept; if there are any, there will be no more."""
        if self.kept:
            self._wants = 0
        return self.kept

    def take(self) -> bool:
        """Keep a hand for a job that has come without a turn, if one is free; compete in any case."""
        self._compete()
        if not self._turns.free or self._full:
            return False
        self._suspect = False
        self.keep()
        return True

    def keep(self) -> None:
        """Keep one of the free hands."""
        self._turns.free -= 1
        self.kept += 1
        self.taken += 1

    def rest(self) -> None:
        """Give back the hands, and let the others go first until the next `ask`."""
        self._give_back()
        self._active = False
        self._turns.allot()

    def start(self, messages: Iterable[bytes]) -> None:
        """Use a kept hand for each of the messages."""
        for message in messages:
            self.kept -= 1
            self._unconfirmed += 1
            self._suspects[message] += self._suspect
        self._runs_alone |= self._suspect and self._alone

    def ended(self, message: bytes) -> None:
        """Note that the handler of a message has ended."""
        self._ended[message] += 1

    def release(self) -> None:
        """Lend the others the hands of all whose handlers have ended: confirming them may take long."""
        self._turns.free += self._ended.total()
        self._lent += self._ended
        self._ended.clear()
        self._turns.allot()

    def done(self, messages: Iterable[bytes]) -> None:
        """Note that messages are confirmed; a hand becomes free for each, unless it was lent before."""
        full = self._full
        for message in messages:
            self._unconfirmed -= 1
            if self._lent[message]:
                self._lent[message] -= 1
            else:
                self._turns.free += 1
                self._ended[message] -= 1  # 0 before, if it wasn't run
            self._suspects[message] -= 1
        self._lent, self._ended, self._suspects = +self._lent, +self._ended, +self._suspects
        self._runs_alone &= bool(self._suspects)
        if full and not self._full:
            self._level()
        self._turns.allot()

    @property
    def _full(self) -> bool:
        """Whether it may have no more hands, though some are free: it has lent them."""
        # server.concurrency.limit: what is unconfirmed never grows beyond the hands.
        return bool(self._lent) and self.kept + self._unconfirmed >= self._turns.hands

    def _compete(self) -> None:
        if not self._active:
            self._level()
            self._active = True

    def _level(self) -> None:
        """Start level with the others: who rested, or could have no hand, has missed nothing."""
        rivals = [seat.taken for seat in self._turns.seats if seat.competes]
        if rivals:
            self.taken = max(self.taken, max(rivals) - 1)
        else:
            for seat in self._turns.seats:
                seat.taken = 0

    def _give_back(self) -> None:
        self._turns.free += self.kept
        self.taken -= self.kept
        self.kept = self._wants = 0

    @property
    def _held_up(self) -> bool:
        """Whether it waits for the suspects of another queue."""
        # server.attempts.alone
        if not (self._suspect and self.waits):
            return False
        return any(other._forbids(alone=self._alone) for other in self._turns.others(self))  # noqa: SLF001

    def _forbids(self, *, alone: bool) -> bool:
        starts = self._suspect and self.kept > 0
        if not (starts or self._suspects):
            return False
        return alone or self._runs_alone or (starts and self._alone)


class Sharing(Parallel):
    """One run of a server of one of several queues. The arguments are those of `Parallel`.

    It differs from `Parallel` only in how it claims: first for as many jobs as hands are kept for it,
    without waiting. If there are none, it gives back the hands, and its next claim waits in Redis.
    """

    _unconfirmable = Release()

    def __init__(self, *args: Any, **limits: Any) -> None:
        super().__init__(*args, **limits)
        self._entries: deque[Entry] = deque()  # found or adopted, and not started yet

    def claiming(self) -> Steps[None]:
        """Recover and claim until a stop is requested and everything that is running is confirmed."""
        try:
            yield from run_with_reconnect(self._claim, self._takeover.lease, on_loss=Rest())
        except (ConnectionLost, ProcessorLost):  # Redis may be reachable when the last handler ends
            yield Room(1)
            raise

    def _claim(self, backoff: Backoff) -> Steps[None]:
        looks, takeover, generation = self._looks, self._takeover, backoff.generation
        moment: Moment = yield Now()
        looks.connected(moment.seconds)
        if not (yield from takeover.begin(generation, Rest())):
            return
        self._entries.clear()
        while True:
            entry = self._entries[0] if self._entries else None
            hands: int = yield (yield from self._turn(entry))
            moment = yield Now()
            if looks.due(moment.seconds):
                # server.recovery.first, server.recovery.reconnect
                yield from self._look(moment, generation)
            elif entry is not None:
                yield from self._start_next(entry, generation)
            elif moment.stopping:
                # server.stop.no-claim
                if (yield from self._drained(moment, generation)):
                    return
            elif takeover.due(moment.seconds):
                # server.takeover.first
                adopted = yield from takeover.look_after(generation, looks)
                if adopted is not None:
                    self._entries.append(self._attempts.adopted(adopted))
            else:
                yield from takeover.before_claim(generation, moment)
                looks.claiming(moment.seconds)
                jobs = yield from self._claimed(commands.claim(self._keys, hands), backoff)
                yield Start(jobs)
                if not jobs:
                    yield from self._wait(backoff)

    def _turn(self, entry: Entry | None) -> Steps[Turn]:
        if entry is None:
            return Turn(self._concurrency, suspect=False, alone=False)
        if not isinstance(entry, Suspect):
            return Turn(1, suspect=False, alone=False)
        count = yield from exchange(commands.attempts(self._keys, entry.message))
        return Turn(1, suspect=True, alone=count > 0)

    def _start_next(self, entry: Entry, generation: int) -> Steps[None]:
        if beside := (yield from self._start(entry, generation)):
            yield Room(beside)  # until one more has ended
        else:
            self._entries.popleft()

    def _wait(self, backoff: Backoff) -> Steps[None]:
        """Wait for a job without a hand, and start it if there is one when it arrives."""
        looks, takeover, generation = self._looks, self._takeover, backoff.generation
        yield Rest()
        moment: Moment = yield Now()
        if moment.stopping or looks.due(moment.seconds):
            return
        yield from takeover.before_claim(generation, moment)
        block = looks.claiming(moment.seconds, takeover.wait_seconds(moment.seconds))
        jobs = yield from self._claimed(commands.claim(self._keys, 1, block), backoff)
        if not jobs:
            return
        free = yield Take()
        yield from takeover.check_now(generation)
        if free:
            yield Start(jobs)
        else:
            yield from exchange(commands.give_back(self._keys))

    def _drained(self, moment: Moment, generation: int) -> Steps[bool]:
        """Wait for what runs and end, unless a lost claim can have moved one more job."""
        seconds = self._looks.last_look(moment.seconds)
        if seconds is None:
            # server.stop.drains
            yield Room(1)
            yield from self._takeover.end(self._looks)
            return True
        yield Rest()
        yield Sleep(seconds)
        yield from self._look((yield Now()), generation)
        return False

    def _look(self, moment: Moment, generation: int) -> Steps[None]:
        self._entries = deque((yield from self._found(moment, generation)))
