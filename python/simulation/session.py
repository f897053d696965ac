"""One session of a server in virtual time: takes the core's steps as the drivers do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobqueue.core import steps
from jobqueue.core.steps import Unreachable
from jobqueue.errors import ConnectionLost, ProcessorLost

from simulation.broken import Broken
from simulation.methods import HANDLERS
from simulation.network import Connection
from simulation.sent import Exchanges, adopts, claims, looks, renews, written

if TYPE_CHECKING:
    from jobqueue.core.steps import Moment, Step, Steps
    from jobqueue.protocol.commands import Command

    from simulation.server import Life

REPLY_SECONDS = 5.0  # as in the drivers
STEPS_AT_ONCE = 100_000  # without any time passing, before it counts as a hang
_LATER: Any = object()


class Session:
    """The step that a session waits for, and its connection.

    Args:
        life: The run of a server that it belongs to.
        session: Its steps.
        stops: Whether it is told of a stop; another one ends with its server.
    """

    def __init__(self, life: Life, session: Steps[None], *, stops: bool = True) -> None:
        self.ended = False
        self.error: ConnectionLost | ProcessorLost | None = None
        self.connection: Connection | None = None
        self.waits_for: Step | None = None
        self._life = life
        self._session = session
        self._stops = stops
        self._moment: Moment | None = None
        self._number = 0  # of the step that is taken: what answers an earlier one comes too late
        self._unread: list[Any] = []
        self._lost = self._was_connected = False
        self._sent_at = 0.0

    @property
    def over(self) -> bool:
        """Whether its server has ended."""
        return self._life.over

    @property
    def own_list(self) -> bytes:
        """The list of the server's jobs."""
        return self._life.keys.in_process

    def send_late(self, seconds: float) -> None:
        """Have what it sends in this step arrive much later, and nothing after it."""
        if self.connection is not None:
            self.connection.die(2 * seconds, seconds)
            commands = written(self.waits_for)
            self._life.world.note("{} sends too late {}", self._life, commands)
            self.connection.write(commands)

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
            except (ConnectionLost, ProcessorLost) as error:
                self._end(error)
                return
            self.waits_for = step
            if not life.world.strike(life, self):
                return
            if life.asleep(self._take_late, step):
                return
            value = self._take(step)
            if value is _LATER:
                return
        raise Broken("moves on", f"{life} takes {STEPS_AT_ONCE} steps at once, now {step!r:.80}")

    def stop(self) -> None:
        """Wake up: a stop is requested."""
        if isinstance(self.waits_for, steps.Pause):
            self._later(0)

    def changed(self) -> None:
        """Go on, if it waits for what the workers have now."""
        value = _LATER
        if isinstance(self.waits_for, steps.Room | steps.Turn):
            value = self._wait(self.waits_for)
        elif isinstance(self.waits_for, steps.Outcomes):
            value = self._take(self.waits_for)
        if value is not _LATER:
            self.resume(value)

    def close(self) -> None:
        """Close its connection."""
        if self.connection is not None:
            self.connection.close()

    def heard(self, connection: Connection, replies: list[Any]) -> None:
        """Read what has arrived."""
        if not self._life.asleep(self.heard, connection, replies) and connection is self.connection:
            self._unread += replies
            self._life.world.note("{} reads {}", self._life, replies)
            if isinstance(self.waits_for, Exchanges):
                self._read(self.waits_for)

    def lost(self, connection: Connection) -> None:
        """Notice that the connection is reset."""
        if self._life.asleep(self.lost, connection):
            return
        if connection is self.connection and not self._life.over:
            self._lost = True
            if isinstance(self.waits_for, Exchanges):
                self._lose("it was reset")

    def _later(self, seconds: float, value: Any = None) -> None:
        self._life.world.clock.after(seconds, self._resume_if, self._number, value)

    def _take_late(self, step: Step) -> None:
        value = self._take(step)
        if value is not _LATER:
            self.resume(value)

    def _resume_if(self, number: int, value: Any) -> None:
        if not self._life.asleep(self._resume_if, number, value) and number == self._number:
            self.resume(value)

    def _end(self, error: ConnectionLost | ProcessorLost | None) -> None:
        self.ended, self.error = True, error
        self.close()
        self._life.changed()

    def _take(self, step: Step) -> Any:  # noqa: C901, PLR0911, PLR0912 - one case for each step
        life = self._life
        match step:
            case steps.Now():
                return self._now()
            case steps.Jitter():
                return life.chance.random()
            case steps.Sleep(seconds):
                self._later(seconds)
                return _LATER
            case steps.Pause(seconds):
                if not (life.stopping and self._stops):
                    self._later(seconds)
                    return _LATER
            case steps.Connect():
                self._connect()
                return _LATER
            case steps.Send(commands):
                return self._write(commands) or self._now()
            case steps.Exchange(commands) | steps.TimedExchange(commands):
                error = self._write(commands)
                return self._read(step, at_once=True) if error is None else error
            case steps.Handle(work):
                life.handle(work, lambda outcome: self.resume((outcome, self._now())))
                return _LATER
            case steps.Decide(work):
                return [HANDLERS.decide(each) for each in work], self._now()
            case steps.Start(work):
                life.workers.start(work)
            case steps.Withdraw():
                life.workers.withdraw()
            case steps.Outcomes(limit, seconds):
                outcomes = life.workers.outcomes(limit)
                if outcomes is None and seconds is not None:
                    self._later(seconds)
                return outcomes or _LATER
            case steps.Admit(jobs):
                life.workers.admit(jobs)
            case steps.Room():
                life.workers.rest()
                return self._wait(step)
            case steps.Turn():
                life.workers.ask(step)
                return self._wait(step)
            case steps.Take():
                return life.workers.take()
            case steps.Rest():
                life.workers.rest()
            case steps.Release():
                life.workers.release()
            case steps.Confirmed(messages):
                life.workers.confirmed(messages)
            case steps.Running():
                return list(life.workers.running.elements())
            case _:
                raise Broken("takes known steps", f"{life} takes {step!r:.80}")
        return None

    def _wait(self, step: steps.Room | steps.Turn) -> Any:
        life = self._life
        if life.broken():
            return _LATER
        if isinstance(step, steps.Turn):
            return life.workers.granted() or _LATER
        return life.workers.room(step.limit) or _LATER

    def _now(self) -> Moment:
        life = self._life
        self._moment = steps.Moment(life.world.clock.now, stopping=life.stopping and self._stops)
        if self._stops:
            life.checked_at = life.world.clock.now
        return self._moment

    def _connect(self) -> None:
        if self._was_connected:
            self._life.renewals.made_anew(self._life.world.clock.now)
        self.close()
        self.connection = None
        self._unread, self._lost = [], False
        seconds, reached = self._life.world.way_to_redis(self._life.chance)
        if reached:
            self._life.world.clock.after(seconds, self._connected, self._number)
        else:
            self._later(seconds, Unreachable("there is no Redis"))

    def _connected(self, number: int) -> None:
        life = self._life
        if number != self._number or life.over:
            return
        if life.world.refuses:
            self._resume_if(number, Unreachable("there is no Redis"))
            return
        life.connects(self)
        self._was_connected = True
        self.connection = Connection(life.world.clock, life.chance, life.world.redis, self)
        self._resume_if(number, None)

    def _write(self, commands: list[Command]) -> ConnectionLost | None:
        life, moment = self._life, self._moment
        if any(map(claims, commands)) and (moment is None or moment.stopping):
            raise Broken("no claim after the stop", f"{life} claims, and knows of the request")
        if self._lost or self.connection is None:
            life.renewals.lost(self.connection, life.world.clock.now)
            return ConnectionLost("it was reset before")
        if any(map(claims, commands)):
            life.check_lease(self.connection.redis)
            if life.settings.concurrency == 1 and not any(map(adopts, commands)):
                life.world.laws.owners.claims(life)
        if any(map(looks, commands)):
            life.check_look()
        self._sent_at = life.world.clock.now
        life.world.note("{} sends {}", life, commands)
        self.connection.write(commands)
        return None

    def _read(self, step: Exchanges, *, at_once: bool = False) -> Any:
        if len(self._unread) >= step.replies:
            read, self._unread = self._unread[: step.replies], self._unread[step.replies :]
            if renews(step.commands, read):
                assert self.connection is not None
                self._life.renewals.add(self.connection, self._sent_at)
            value = (read, self._now()) if isinstance(step, steps.TimedExchange) else read
            if at_once:
                return value
            self.resume(value)
            return None
        # Each reply may take as long as this; what has arrived since doesn't count.
        wait = self._life.settings.block_seconds + REPLY_SECONDS
        self._life.world.clock.after(wait, self._silent, self._number, len(self._unread))
        return _LATER

    def _silent(self, number: int, read: int) -> None:
        if self._life.over or number != self._number or len(self._unread) != read:
            return
        if not self._life.asleep(self._silent, number, read):
            self._lose("Redis doesn't reply")

    def _lose(self, why: str) -> None:
        self.close()
        self._life.renewals.lost(self.connection, self._life.world.clock.now)
        self.connection = None
        step = self.waits_for
        if isinstance(step, Exchanges) and any(map(adopts, step.commands)):
            self._life.world.laws.adoption_lost()
        self.resume(ConnectionLost(f"the connection is lost: {why}"))
