"""A world in virtual time for one server of several queues: Redis, a driver, and handlers.

A seed decides everything that happens, and when. The world checks at each step what has to hold.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, TypeAlias

from jobqueue.core import steps
from jobqueue.core.sharing import Sharing, Turns
from jobqueue.errors import ConnectionLost
from jobqueue.protocol.commands import ErrorReply
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Answer, message_of
from simulation.clock import Clock
from simulation.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.core.sharing import Order
    from jobqueue.core.steps import Step, Steps
    from jobqueue.protocol.commands import Command

    Claim: TypeAlias = "tuple[Session, int, Command]"

BLOCK_SECONDS = 2.0
AWAY = ConnectionLost("Redis is away")


class Session:
    """One session of the core, its connection, and what it waits for."""

    def __init__(self, queue: Queue, session: Steps[None]) -> None:
        self.waits_for: Step | None = None
        self.over = False
        self._queue, self._world, self._session = queue, queue.world, session
        self._taken = 0  # steps: what answers an earlier one is too late

    def resume(self, value: Any = None) -> None:
        """Answer the step that is taken, and take the next ones, until one has to wait."""
        later = object()
        answer = value
        while answer is not later:
            resume: Any = self._session.throw if isinstance(answer, Exception) else None
            self._taken += 1
            try:
                step = (resume or self._session.send)(answer)
            except StopIteration:
                self.over, self.waits_for = True, None
                self._world.changed()
                return
            self.waits_for = step
            answer = self._take(step, later)

    def wake(self) -> None:
        """Go on if the hands have become free, or there are outcomes."""
        if isinstance(self.waits_for, steps.Turn | steps.Room | steps.Outcomes):
            later = object()
            value = self._queue.ready(self.waits_for, later)
            if value is not later:
                self.resume(value)

    def lose(self) -> None:
        """Lose the connection while a reply is outstanding."""
        if isinstance(self.waits_for, steps.Exchange | steps.TimedExchange):
            self.resume(ConnectionLost("the connection is lost"))

    def _answer(self, taken: int, value: Any = None) -> None:
        if taken != self._taken:
            return
        if isinstance(self.waits_for, steps.TimedExchange) and isinstance(value, list):
            value = value, self._now()
        self.resume(value)

    def _now(self) -> steps.Moment:
        return steps.Moment(self._world.clock.now, self._world.stopping)

    def _take(self, step: Step, later: object) -> Any:  # noqa: C901, PLR0912 - one case for each step
        queue, world = self._queue, self._world
        answer: Any = None
        match step:
            case steps.Now():
                answer = self._now()
            case steps.Jitter():
                answer = world.random.random()
            case steps.Sleep(seconds) | steps.Pause(seconds):
                world.clock.after(seconds, self._answer, self._taken)
                answer = later
            case steps.Exchange() | steps.TimedExchange() | steps.Connect() if queue.away:
                world.clock.after(world.delay(), self._answer, self._taken, AWAY)
                answer = later
            case steps.Connect():
                world.clock.after(world.delay(), self._answer, self._taken)
                answer = later
            case steps.Exchange(commands) | steps.TimedExchange(commands):
                world.check_claims(commands)
                world.clock.after(world.delay(), self._execute, self._taken, [*commands], [])
                answer = later
            case steps.Running():
                answer = list(queue.running.elements())
            case steps.Start(work):
                queue.start([*map(message_of, work)])
            case steps.Confirmed(messages):
                queue.confirmed(messages)
            case steps.Release():
                queue.seat.release()
                world.check()
                world.changed()
            case steps.Take():
                answer = queue.seat.take()
                world.taken_without_turn += answer
                world.returned += not answer
            case steps.Rest():
                queue.seat.rest()
                world.changed()
            case steps.Turn(wants, suspect, alone):
                queue.seat.ask(wants, suspect=suspect, alone=alone)
                world.changed()
                answer = queue.ready(step, later)
            case steps.Room():
                queue.seat.rest()
                world.changed()
                answer = queue.ready(step, later)
            case steps.Outcomes():
                answer = queue.ready(step, later)
            case _:
                raise TypeError(f"a step that the driver doesn't know: {step!r}")
        return answer

    def _execute(self, taken: int, commands: list[Command], replies: list[Any]) -> None:
        """Be Redis: execute what has arrived, also if its connection has been lost since."""
        world = self._world
        for command in commands:
            reply = world.execute(command)
            if reply is None and command[0] == b"BLMOVE":
                claim = (self, taken, command)
                self._queue.blocked.append(claim)
                world.clock.after(float(command[-1]), self.unblock, claim, None)
                return
            replies.append(reply)
        world.clock.after(world.delay(), self._answer, taken, replies)

    def unblock(self, claim: Claim, message: bytes | None) -> None:
        """Answer a claim that blocks, the only command of its write, unless that has happened."""
        if claim in self._queue.blocked:
            self._queue.blocked.remove(claim)
            self._world.clock.after(self._world.delay(), self._answer, claim[1], [message])


class Queue:
    """One queue of the server: its sessions, and what it has started."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = b"q%d" % number
        self.keys = Keys.of(f"q{number}", "p")
        self.seat = world.turns.seats[number]
        self.away = False  # its Redis
        self.running: Counter[bytes] = Counter()
        self.blocked: list[Claim] = []
        self.started: list[bytes] = []
        self.finished: list[bytes] = []
        self._outcomes: deque[Answer] = deque()
        sharing = Sharing(
            self.keys,
            concurrency=world.hands,
            prefetch=1,
            block_seconds=BLOCK_SECONDS,
            attempts=3,
        )
        self.claiming = Session(self, sharing.claiming())
        self.confirming = Session(self, sharing.confirming())

    def push(self, *messages: bytes) -> None:
        """Have jobs arrive."""
        for message in messages:
            self.world.pushed.append(message)
            self.world.execute((b"LPUSH", self.keys.queue, message))
        while self.blocked and self.world.store.entries(self.keys.queue):
            claim = self.blocked[0]
            claim[0].unblock(claim, self.world.execute(claim[2]))

    def ready(self, step: Step, otherwise: object) -> Any:
        """Answer a step that waits, if that is possible now."""
        answer: Any = 0
        match step:
            case steps.Turn():
                answer = self.seat.granted()
            case steps.Room(limit):
                answer = max(0, limit - self.running.total())
            case steps.Outcomes(limit):
                if self.claiming.over and not self._outcomes:
                    return []
                answer = [self._outcomes.popleft() for _ in range(min(limit, len(self._outcomes)))]
        return answer or otherwise

    def start(self, messages: list[bytes]) -> None:
        """Start handlers."""
        self.seat.start(messages)
        for message in messages:
            self.running[message] += 1
            self.started.append(message)
            self.world.busy.append(message)
            self.world.clock.after(self.world.work_seconds(), self._end, message)
        self.world.check()

    def _end(self, message: bytes) -> None:
        self.finished.append(message)
        self.world.finished(self)
        self.world.busy.remove(message)
        self.seat.ended(message)
        self._outcomes.append(Answer(message, b"c", "1", b"result"))
        self.world.changed()

    def confirmed(self, messages: list[bytes]) -> None:
        """Free their hands."""
        self.running.subtract(messages)
        self.running = +self.running
        self.seat.done(messages)
        self.world.check()
        self.world.changed()

    def leave(self) -> None:
        """Have its Redis away, and all connections to it lost."""
        self.away = True
        self.claiming.lose()
        self.confirming.lose()


class World:
    """One server of several queues."""

    def __init__(self, seed: int, order: Order, *, queues: int, hands: int) -> None:
        self.random = random.Random(seed)
        self.clock = Clock()
        self.store = Store()
        self.turns = Turns(queues, hands, order)
        self.hands = hands
        self.stopping = False
        self.pushed: list[bytes] = []
        self.busy: list[bytes] = []
        self.suspects: dict[bytes, bool] = {}  # and whether it was counted before
        self.beside = 0  # how often suspects of two queues ran at the same time
        self.taken_without_turn = self.returned = 0
        self.slow = 0.01
        self.finished: Callable[[Queue], None] = lambda queue: None  # noqa: ARG005
        self._wakes = False
        self.queues = [Queue(self, number) for number in range(queues)]

    def begin(self) -> None:
        """Start all sessions."""
        for queue in self.queues:
            queue.claiming.resume()
            queue.confirming.resume()

    def end(self) -> None:
        """Stop the server, and wait until it has ended."""
        self.stopping = True
        self.clock.run(self.clock.now + 60)
        for queue in self.queues:
            assert queue.claiming.over, "a queue doesn't stop"
            assert queue.confirming.over, "its results don't end"
            assert self.store.entries(queue.keys.in_process) == [], "it has left something behind"
        assert self.turns.free == self.hands, "a hand was never given back"

    def changed(self) -> None:
        """Wake whoever waits, a little later, in an order of chance."""
        if not self._wakes:
            self._wakes = True
            self.clock.after(self.random.choice([0.0, 0.0, 0.001]), self._wake)

    def _wake(self) -> None:
        self._wakes = False
        sessions = [each for queue in self.queues for each in (queue.claiming, queue.confirming)]
        self.random.shuffle(sessions)
        for session in sessions:
            session.wake()

    def delay(self) -> float:
        """How long a way to Redis or back takes."""
        return self.random.choice([0.0, 0.0001, 0.001, self.slow * self.random.random()])

    def work_seconds(self) -> float:
        """How long a handler takes."""
        return self.random.choice([0.0, 0.001, 0.02 * self.random.random(), 0.1])

    def execute(self, command: Command) -> Any:
        """Be Redis, one without transactions."""
        if command[0] in {b"MULTI", b"EXEC"}:
            return ErrorReply("NOPERM", "NOPERM no permissions to run the command")
        if command[0] == b"PUBLISH":
            return 1
        return self.store.execute(command, int(self.clock.now * 1000))

    def check_claims(self, commands: list[Command]) -> None:
        """A claim is sent only before the stop, and while a hand is free or kept."""
        claims = [
            each for each in commands if each[0] in {b"LMOVE", b"BLMOVE"} and each[3] == b"RIGHT"
        ]
        if claims:
            kept = sum(seat.kept for seat in self.turns.seats)
            assert not self.stopping, "a claim after the stop"
            assert self.turns.free + kept > 0, "a claim while no hand is free"

    def check(self) -> None:
        """No more hands than there are; suspects of two queues together only if none was counted."""
        assert len(self.busy) <= self.hands, "more handlers run than there are hands"
        assert 0 <= self.turns.free <= self.hands - len(self.busy), "a hand was freed twice"
        for queue in self.queues:
            assert queue.running.total() <= self.hands, "what is unconfirmed grows without limit"
        suspects = [each for each in self.busy if each in self.suspects]
        if len({each.partition(b":")[0] for each in suspects}) > 1:
            self.beside += 1
            assert not any(map(self.suspects.get, suspects)), "one that was counted isn't alone"
