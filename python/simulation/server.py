"""A server in virtual time: the sessions of the core, and a driver that takes their steps.

A `Life` is one run of a server, from its start to its end or its death. Faults strike at a step that
their plan names, just before it is taken, so none is too short to be hit.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from jobqueue.core import steps
from jobqueue.core.handlers import Handlers, failed, succeeded
from jobqueue.core.parallel import Parallel
from jobqueue.core.reconnect import run_with_reconnect
from jobqueue.core.serial import Serial
from jobqueue.core.steps import Unreachable
from jobqueue.errors import ConnectionLost, JobError
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Run, message_of

from simulation.laws import Broken
from simulation.network import Connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.core.steps import Moment, Step, Steps
    from jobqueue.protocol.commands import Command
    from jobqueue.protocol.messages import Answer, Dead, Work

    from simulation.plan import Server
    from simulation.world import World

REPLY_SECONDS = 5.0  # as in the drivers
STEPS_AT_ONCE = 100_000  # without any time passing, before it counts as a hang
_LATER: Any = object()


def _answer(parameters: Any) -> Any:
    return parameters


def _refuse(parameters: Any) -> Any:
    raise JobError("test.refused", "as asked", parameters)


def _crash(parameters: Any) -> Any:
    raise ValueError(parameters)


def _no_json(_: Any) -> Any:
    return {1, 2}


def _kill(_: Any) -> Any:
    raise SystemError("its server is dead")


HANDLERS = Handlers(None, awaits=False)
for _method, _handler in (
    ("answer", _answer),
    ("refuse", _refuse),
    ("crash", _crash),
    ("no-json", _no_json),
    ("kill", _kill),
):
    HANDLERS.register(_method, _handler)


class Session:
    """One session of a life, the step that it waits for, and its connection."""

    def __init__(self, life: Life, session: Steps[None]) -> None:
        self.ended = False
        self.error: ConnectionLost | None = None
        self.connection: Connection | None = None
        self.waits_for: Step | None = None
        self._life = life
        self._session = session
        self._moment: Moment | None = None
        self._number = 0  # of the step that is taken: what answers an earlier one comes too late
        self._unread: list[Any] = []
        self._lost = False

    def resume(self, value: Any = None) -> None:
        """Answer the step that is taken, and take the next ones, until one has to wait."""
        life = self._life
        for _ in range(STEPS_AT_ONCE):
            if life.over or self.ended:
                return
            self._number += 1
            self.waits_for = None
            resume: Any = (
                self._session.throw if isinstance(value, Exception) else self._session.send
            )
            try:
                step = resume(value)
            except StopIteration:
                self._end(None)
                return
            except ConnectionLost as error:
                self._end(error)
                return
            self.waits_for = step
            if not life.world.strike(life, self):
                return
            if life.paused:
                life.deferred.append((self._take_late, (step,)))
                return
            value = self._take(step)
            if value is _LATER:
                return
        raise Broken("moves on", f"{life} takes {STEPS_AT_ONCE} steps at once, now {step!r:.80}")

    def later(self, seconds: float, value: Any = None) -> None:
        """Answer the step that is taken in some seconds."""
        self._life.world.clock.after(seconds, self._resume_if, self._number, value)

    def heard(self, connection: Connection, replies: list[Any]) -> None:
        """Read what has arrived."""
        if self._life.paused:
            self._life.deferred.append((self.heard, (connection, replies)))
        elif connection is self.connection:
            self._unread += replies
            self._life.world.note("{} reads {}", self._life, replies)
            if isinstance(self.waits_for, steps.Exchange):
                self._read(self.waits_for)

    def lost(self, connection: Connection) -> None:
        """Notice that the connection is reset."""
        if self._life.paused:
            self._life.deferred.append((self.lost, (connection,)))
        elif connection is self.connection and not self._life.over:
            self._lost = True
            if isinstance(self.waits_for, steps.Exchange):
                self._lose("it was reset")

    def _take_late(self, step: Step) -> None:
        value = self._take(step)
        if value is not _LATER:
            self.resume(value)

    def _resume_if(self, number: int, value: Any) -> None:
        if self._life.paused:
            self._life.deferred.append((self._resume_if, (number, value)))
        elif number == self._number:
            self.resume(value)

    def _end(self, error: ConnectionLost | None) -> None:
        self.ended, self.error = True, error
        if self.connection is not None:
            self.connection.close()
        self._life.changed()

    def _take(self, step: Step) -> Any:  # noqa: C901, PLR0911, PLR0912 - one case for each step
        life = self._life
        match step:
            case steps.Now():
                self._moment = steps.Moment(life.world.clock.now, stopping=life.stopping)
                return self._moment
            case steps.Jitter():
                return life.chance.random()
            case steps.Sleep(seconds):
                self.later(seconds)
            case steps.Pause(seconds):
                if life.stopping:
                    return None
                self.later(seconds)
            case steps.Connect():
                self._connect()
            case steps.Send(commands):
                return self._write(commands)
            case steps.Exchange(commands):
                error = self._write(commands)
                if error is not None:
                    return error
                return self._read(step, at_once=True)
            case steps.Handle(work):
                life.handle(work, self.resume)
            case steps.Start(work):
                life.start(work)
                return None
            case steps.Confirmed(messages):
                life.confirmed(messages)
                return None
            case steps.Running():
                return list(life.running.elements())
            case steps.Room():
                return life.ready(step, _LATER)
            case steps.Outcomes(_, seconds):
                if seconds is not None:
                    self.later(seconds)
                return life.ready(step, _LATER)
            case _:
                raise TypeError(f"a step that the driver doesn't know: {step!r}")
        return _LATER

    def _connect(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        self._unread, self._lost = [], False
        seconds, reached = self._life.world.way_to_redis(self._life.chance)
        if reached:
            self._life.world.clock.after(seconds, self._connected, self._number)
        else:
            self.later(seconds, Unreachable("there is no Redis"))

    def _connected(self, number: int) -> None:
        life = self._life
        if number != self._number or life.over:
            return
        if life.world.refuses:
            self._resume_if(number, Unreachable("there is no Redis"))
            return
        life.connected = True
        self.connection = Connection(life.world.clock, life.chance, life.world.redis, self)
        self._resume_if(number, None)

    def _write(self, commands: list[Command]) -> ConnectionLost | None:
        life, moment = self._life, self._moment
        claims = any(each[0] in {b"BLMOVE", b"LMOVE"} for each in commands)
        if claims and (moment is None or moment.stopping):
            raise Broken("no claim after the stop", f"{life} claims, and knows of the request")
        if self._lost or self.connection is None:
            return ConnectionLost("it was reset before")
        life.world.note("{} sends {}", life, commands)
        self.connection.write(commands)
        return None

    def _read(self, step: steps.Exchange, *, at_once: bool = False) -> Any:
        if len(self._unread) >= step.replies:
            read, self._unread = self._unread[: step.replies], self._unread[step.replies :]
            if at_once:
                return read
            self.resume(read)
            return None
        # Each reply may take as long as this; what has arrived since doesn't count.
        wait = self._life.settings.block_seconds + REPLY_SECONDS
        self._life.world.clock.after(wait, self._silent, self._number, len(self._unread))
        return _LATER

    def _silent(self, number: int, read: int) -> None:
        if number == self._number and len(self._unread) == read and not self._life.over:
            if self._life.paused:
                self._life.deferred.append((self._silent, (number, read)))
            else:
                self._lose("Redis doesn't reply")

    def _lose(self, why: str) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        self.resume(ConnectionLost(f"the connection is lost: {why}"))


class Life:
    """One run of a server.

    Args:
        world: What it lives in.
        settings: Its name, and how it works.
        number: How many lives the name had before.
    """

    def __init__(self, world: World, settings: Server, number: int) -> None:
        self.world = world
        self.settings = settings
        self.name = settings.name
        self.chance = random.Random(f"{world.plan.seed}/{self.name}/{number}")
        self.over = False
        self.stopping = False
        self.connected = False  # once, at least
        self.paused = False
        self.deferred: list[tuple[Any, tuple[Any, ...]]] = []
        self.running: Counter[bytes] = Counter()
        self._label = f"{self.name} (life {number + 1})"
        self._started: list[Work] = []
        self._busy: list[bytes] = []
        self._outcomes: list[Answer | Dead] = []
        keys = Keys.of("q", self.name)
        limits: dict[str, Any] = {
            "prefetch": settings.prefetch,
            "block_seconds": settings.block_seconds,
            "attempts": world.plan.attempts,
        }
        if settings.concurrency == 1:
            serial = Serial(keys, **limits)
            self.sessions = [Session(self, run_with_reconnect(serial.session))]
        else:
            parallel = Parallel(keys, concurrency=settings.concurrency, **limits)
            sessions = (parallel.claiming(), parallel.confirming())
            self.sessions = [Session(self, each) for each in sessions]

    def __repr__(self) -> str:
        return self._label

    @property
    def error(self) -> ConnectionLost | None:
        """Why it ended other than by a graceful stop."""
        return next((each.error for each in self.sessions if each.error), None)

    def begin(self) -> None:
        """Start its sessions."""
        for session in self.sessions:
            session.resume()

    def stop(self) -> None:
        """Request a graceful stop."""
        self.stopping = True
        for session in self.sessions:
            if isinstance(session.waits_for, steps.Pause):
                session.later(0)

    def kill(self, *, host_lost: bool) -> None:
        """End it as by kill -9; where the host is lost, Redis isn't told."""
        self.over = True
        for session in self.sessions:
            if session.connection is not None:
                if host_lost:
                    session.connection.die(noticed_after=300.0, late_seconds=None)
                session.connection.close()
        for message in self._busy:
            self.world.laws.ended(self, message)

    def pause(self, seconds: float) -> None:
        """Let it stand still, as between SIGSTOP and SIGCONT."""
        if not self.paused:
            self.paused = True
            self.world.clock.after(seconds, self._go_on)

    def _go_on(self) -> None:
        self.paused = False
        deferred, self.deferred = self.deferred, []
        for do, arguments in deferred:
            if self.paused:
                self.deferred.append((do, arguments))
            else:
                do(*arguments)

    def handle(self, work: Work, then: Any) -> None:
        """Run the handler of a message, which takes a while."""
        job = HANDLERS.decide(work)
        if isinstance(job, Run):
            self.world.laws.started(self, job.message)
            self.world.note("{} starts {}", self, job.message)
            self._busy.append(job.message)
            self.world.clock.after(self._seconds(), self._handled, job, then)
        else:
            self.world.clock.after(0, self._handled, job, then)

    def _handled(self, job: Run | Answer | Dead, then: Any) -> None:
        if self.over:
            return
        if self.paused:
            self.deferred.append((self._handled, (job, then)))
            return
        if not isinstance(job, Run):
            then(job)
            return
        if job.method == "kill":
            self.world.note("{} dies of {}", self, job.message)
            self.kill(host_lost=False)
            self.world.life_over(self, killed_by=job.message)
            return
        self._busy.remove(job.message)
        self.world.laws.ended(self, job.message)
        try:
            value = HANDLERS[job.method](job.parameters)
        except (JobError, ValueError) as error:
            then(failed(job, error))
        else:
            then(succeeded(job, value))

    def start(self, work: Sequence[Work]) -> None:
        """Have handlers run, as many at once as are allowed."""
        self.running.update(map(message_of, work))
        self._started += work
        self._begin()

    def confirmed(self, messages: list[bytes]) -> None:
        """Count messages as running no longer."""
        for message in messages:
            self.running[message] -= 1
        self.running += Counter()
        self.world.clock.after(0, self.changed)

    def ready(self, step: Step, otherwise: Any) -> Any:
        """Answer a step that waits for room or for outcomes, if that is possible now."""
        if isinstance(step, steps.Room):
            if self.sessions[-1].error is not None:
                self._end()
                return otherwise
            room = step.limit - self.running.total()
            return room if room > 0 else otherwise
        if isinstance(step, steps.Outcomes) and self._outcomes:
            outcomes, self._outcomes = self._outcomes[: step.limit], self._outcomes[step.limit :]
            return outcomes
        return otherwise

    def changed(self) -> None:
        """Answer the sessions that wait for room or for outcomes, and notice the end."""
        if self.over:
            return
        if self.paused:
            self.deferred.append((self.changed, ()))
            return
        if self.sessions[0].ended:
            self._end()
            return
        for session in self.sessions:
            step = session.waits_for
            if isinstance(step, steps.Room | steps.Outcomes):
                value = self.ready(step, _LATER)
                if value is not _LATER:
                    session.resume(value)

    def _end(self) -> None:
        self.over = True
        for session in self.sessions:
            if session.connection is not None:
                session.connection.close()
        for message in self._busy:
            self.world.laws.ended(self, message)
        if self.error is None and (self._busy or self.running):
            raise Broken(
                "drains", f"{self} ends without an error, and hasn't answered all it started"
            )
        if self.error is not None and self.connected and not self.stopping:
            raise Broken("goes on", f"{self} ends although nobody has told it to: {self.error}")
        self.world.life_over(self)

    def _begin(self) -> None:
        while self._started and len(self._busy) < self.settings.concurrency:
            self.handle(self._started.pop(0), self._finished)

    def _finished(self, outcome: Answer | Dead) -> None:
        if self.over:
            return
        self._outcomes.append(outcome)
        self._begin()
        self.changed()

    def _seconds(self) -> float:
        return self.chance.choice((0.0, 0.001, 0.001, 0.01, 0.1, 1.0, 3.0)) * self.chance.random()
