"""A world in virtual time for one server: a small Redis, a network that fails, and a seed that decides.

It drives the real sessions of the core, each in a generator of its own, and takes their steps in the
order of a virtual clock. Nothing here is random but by the seed, so a seed repeats everything.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from jobqueue.core import steps
from jobqueue.core.parallel import Parallel
from jobqueue.core.reconnect import run_with_reconnect
from jobqueue.core.serial import Serial
from jobqueue.core.steps import Unreachable
from jobqueue.errors import ConnectionLost
from jobqueue.protocol.commands import ErrorReply
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Answer, Dead, Spent, message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from jobqueue.core.steps import Step, Steps
    from jobqueue.protocol.commands import Command
    from jobqueue.protocol.messages import Work

KEYS = Keys.of("q", "p")
REPLY_SECONDS = 5.0
READONLY = ErrorReply("READONLY", "READONLY You can't write against a read only replica.")


class Redis:
    """The lists, and what blocks on them; the newest entry of a list stands at its left, index 0."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.lists: dict[bytes, list[bytes]] = {}
        self.published: Counter[bytes] = Counter()
        self.counts: Counter[bytes] = Counter()
        self.away = False
        self.refuses = False
        self._blocked: list[tuple[float, Connection]] = []

    def execute(self, connection: Connection, commands: Iterable[Command] = ()) -> None:
        """Execute what the connection has sent, up to a claim that blocks."""
        connection.commands += commands
        while connection.commands and not connection.blocked:
            command = connection.commands.pop(0)
            if command[0] == b"MULTI":
                connection.queued = []
                reply: Any = b"OK"
            elif command[0] == b"EXEC":
                queued, connection.queued = connection.queued or [], None
                reply = [self.do(each) for each in queued]
            elif connection.queued is not None:
                connection.queued.append(command)
                reply = b"QUEUED"
            else:
                reply = self.do(command)
                if command[0] == b"BLMOVE" and reply is None:
                    connection.blocked = True
                    until = self._world.now + float(command[5])
                    self._blocked.append((until, connection))
                    self._world.at(until, partial(self._time_out, connection, until))
                    return
            connection.replied(reply)

    def do(self, command: Command) -> Any:  # noqa: PLR0911 - one for each command
        """Execute one command."""
        name, *arguments = command
        if self.refuses and name not in (b"LRANGE", b"PUBLISH"):
            return READONLY
        if name == b"PUBLISH":
            self.published[arguments[1]] += 1
            return 0
        if name in (b"GET", b"INCR", b"EXPIRE"):
            key = arguments[0]
            self.counts[key] += name == b"INCR"
            return self.counts[key] if name == b"INCR" else b"%d" % self.counts[key]
        entries = self.lists.setdefault(arguments[0], [])
        if name == b"LRANGE":
            return list(entries)
        if name == b"LPUSH":
            entries.insert(0, arguments[1])
            self._serve_blocked()
            return len(entries)
        if name == b"LREM":
            if arguments[2] not in entries:
                return 0
            entries.reverse()
            entries.remove(arguments[2])
            entries.reverse()
            return 1
        if not entries:
            return None
        self.lists.setdefault(arguments[1], []).insert(0, entries.pop())
        return self.lists[arguments[1]][0]

    def forget(self, connection: Connection) -> None:
        """Notice that the connection is gone: its claim waits no more."""
        connection.commands.clear()
        self._blocked = [each for each in self._blocked if each[1] is not connection]

    def _serve_blocked(self) -> None:
        while self._blocked and self.lists.get(KEYS.queue):
            _, connection = self._blocked.pop(0)
            self._end(connection, self.do((b"LMOVE", KEYS.queue, KEYS.in_process)))

    def _time_out(self, connection: Connection, until: float) -> None:
        if (until, connection) in self._blocked:
            self._blocked.remove((until, connection))
            self._end(connection, None)

    def _end(self, connection: Connection, reply: Any) -> None:
        connection.blocked = False
        connection.replied(reply)
        self.execute(connection)


class Connection:
    """What was sent on one connection and not yet executed, and what was replied and not yet read."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.queued: list[Command] | None = None
        self.blocked = False
        self.replies: list[Any] = []
        self.heard: Callable[[], None] = lambda: None

    def replied(self, reply: Any) -> None:
        """Deliver a reply."""
        self.replies.append(reply)
        self.heard()


class Session:
    """Takes the steps of one session in virtual time."""

    def __init__(self, world: World, life: Life, session: Steps[None]) -> None:
        self._world = world
        self._life = life
        self._session = session
        self._connection: Connection | None = None
        self._waits = 0  # the number of the step that is taken: an answer to an earlier one is late
        self.ended = False
        self.error: BaseException | None = None

    def resume(self, value: Any = None) -> None:
        """Answer the step that is taken, and take the next ones."""
        if self.ended or self._life.dead:
            return
        self._waits += 1
        try:
            resume: Any = self._session.send
            if isinstance(value, Exception):
                resume = self._session.throw
            step = resume(value)
        except StopIteration:
            self.ended = True
        except ConnectionLost as error:
            self.ended, self.error = True, error
        else:
            self._take(step)
            return
        self._life.changed()

    def _later(self, seconds: float, value: Any = None) -> None:
        waits = self._waits
        self._world.at(
            self._world.now + seconds, lambda: self.resume(value) if waits == self._waits else None
        )

    def _take(self, step: Step) -> None:  # noqa: C901 - one case for each step
        world, life = self._world, self._life
        match step:
            case steps.Now():
                self._later(0, steps.Moment(world.now, stopping=life.stopping))
            case steps.Jitter():
                self._later(0, world.chance.random())
            case steps.Sleep(seconds):
                self._later(seconds)
            case steps.Pause(seconds):
                life.pausing.append((self, self._waits))
                self._later(0 if life.stopping else seconds)
            case steps.Connect():
                self._lose()
                self._later(0.001, self._connect())
            case steps.Send(commands):
                self._write(commands, None)
            case steps.Exchange(commands, replies):
                self._write(commands, replies)
            case steps.Handle(work):
                life.run(work, self.resume)
            case steps.Start(work):
                life.start(work)
                self._later(0)
            case steps.Confirmed(messages):
                life.running.subtract(messages)
                self._later(0)
                life.changed()
            case steps.Running():
                self._later(0, list(life.running.elements()))
            case steps.Room() | steps.Outcomes():
                life.waiting.append((self, step, self._waits))
                life.changed()

    def waits_still(self, waits: int) -> bool:
        """Tell whether the step with this number is still the one that is taken."""
        return waits == self._waits

    def _connect(self) -> Any:
        if self._world.redis.away:
            return Unreachable("there is no Redis")
        self._connection = Connection()
        return None

    def _write(self, commands: list[Command], replies: int | None) -> None:
        world, connection = self._world, self._connection
        assert connection is not None
        delivered = len(commands)
        fault = world.fault()
        if fault:
            delivered = world.chance.randint(
                0, delivered
            )  # before, between or after they take effect
        world.redis.execute(connection, commands[:delivered])
        if fault:
            if world.chance.random() < 0.3:  # half-open: its claim waits on
                self._connection = None
                if world.late:
                    rest = commands[delivered:]
                    world.at(
                        world.now + world.chance.uniform(0, 8),
                        partial(world.redis.execute, connection, rest),
                    )
            self._lose()
            self._later(world.chance.choice([0.001, REPLY_SECONDS]), ConnectionLost("it is lost"))
        elif replies is None:
            self._later(0.0005)
        else:
            self._await_replies(connection, replies)

    def _await_replies(self, connection: Connection, replies: int) -> None:
        waits = self._waits

        def heard() -> None:
            if waits == self._waits and len(connection.replies) == replies:
                read, connection.replies = connection.replies, []
                self._later(0.0005, read)

        connection.heard = heard
        heard()

    def _lose(self) -> None:
        if self._connection is not None:
            self._world.redis.forget(self._connection)
            self._connection = None

    def kill(self) -> None:
        """End as by kill -9."""
        if self._world.chance.random() < 0.5:  # else the host lost power, and no FIN was sent
            self._lose()


class Life:
    """One life of a server, from its start to its end."""

    def __init__(
        self, world: World, *, concurrency: int, prefetch: int, block: float, attempts: int
    ) -> None:
        self._world = world
        self._concurrency = concurrency
        self.dead = False
        self.stopping = False
        self.runs: Counter[bytes] = Counter()
        self.running: Counter[bytes] = Counter()
        self.waiting: list[tuple[Session, Any, int]] = []
        self.pausing: list[tuple[Session, int]] = []
        self._started: list[Work] = []
        self._busy = 0
        self._outcomes: list[Answer | Dead] = []
        self.sessions: list[Session] = []
        if concurrency == 1:
            serial = Serial(KEYS, prefetch=prefetch, block_seconds=block, attempts=attempts)
            self.sessions = [Session(world, self, run_with_reconnect(serial.session))]
        else:
            parallel = Parallel(
                KEYS,
                concurrency=concurrency,
                prefetch=prefetch,
                block_seconds=block,
                attempts=attempts,
            )
            both = (parallel.claiming(), parallel.confirming())
            self.sessions = [Session(world, self, session) for session in both]
        for session in self.sessions:
            session.resume()

    @property
    def ended(self) -> bool:
        """Whether `run` has returned or raised."""
        return self.sessions[0].ended or any(each.error for each in self.sessions)

    def stop(self) -> None:
        """Request a stop."""
        self.stopping = True
        for session, waits in self.pausing:
            if session.waits_still(waits):
                session.resume()

    def kill(self) -> None:
        """End it as by kill -9."""
        self.dead = True
        for session in self.sessions:
            session.kill()

    def run(self, work: Work, then: Callable[[Answer | Dead], None]) -> None:
        """Run a handler, for a while; it may kill the server."""
        message = message_of(work)
        answer = Answer(message, b"c", "1", message)
        outcome: Answer | Dead = answer
        if isinstance(work, Spent):
            outcome = Dead(message, "given up", answer if work.readable else None)
        else:
            self.runs[message] += 1
            self._world.ran[message] += 1
        seconds = self._world.chance.choice([0.001, 0.1, 3.0])
        if message in self._world.killers and work == message:
            self._world.at(self._world.now + seconds, self._crash)
        else:
            self._world.at(self._world.now + seconds, lambda: then(outcome))

    def _crash(self) -> None:
        if not self.dead:
            self._world.restart()

    def start(self, work: Sequence[Work]) -> None:
        """Have handlers run, as many at once as are allowed."""
        self.running.update(map(message_of, work))
        self._started += work
        self._begin()

    def changed(self) -> None:
        """Answer the sessions that wait for room or for outcomes."""
        left, self.waiting = self.waiting, []
        for session, step, waits in left:
            if not session.waits_still(waits):
                continue
            if isinstance(step, steps.Room):
                room = step.limit - self.running.total()
                if room > 0:
                    session.resume(room)
                    continue
            elif self._outcomes:
                outcomes, self._outcomes = (
                    self._outcomes[: step.limit],
                    self._outcomes[step.limit :],
                )
                session.resume(outcomes)
                continue
            self.waiting.append((session, step, waits))

    def _begin(self) -> None:
        while self._started and self._busy < self._concurrency:
            self._busy += 1
            self.run(self._started.pop(0), self._finished)

    def _finished(self, outcome: Answer | Dead) -> None:
        self._busy -= 1
        self._outcomes.append(outcome)
        self._begin()
        self.changed()


class World:
    """One server under one name, its lives, its Redis, and the clock.

    Args:
        seed: Decides everything.
        faults: How many connections may be lost at most.
        late: Whether the network may deliver commands long after their connection was lost.
    """

    def __init__(self, seed: int, *, faults: int, late: bool = True) -> None:
        self.late = late
        self.chance = random.Random(seed)
        self.now = 0.0
        self.redis = Redis(self)
        self.faults = faults
        self.ran: Counter[bytes] = Counter()
        self.killers: set[bytes] = set()  # the jobs that kill their server
        self.lives: list[Life] = []
        self._events: list[tuple[float, int, Callable[[], Any]]] = []
        self._count = 0
        self._settings: dict[str, Any] = {
            "concurrency": self.chance.choice([1, 1, 3]),
            "prefetch": self.chance.choice([1, 1, 4]),
            "block": self.chance.choice([0.3, 2.0, 5.0]),
            "attempts": 3,
        }

    def at(self, when: float, what: Callable[[], Any]) -> None:
        """Do something at a time."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, what))

    def fault(self) -> bool:
        """Tell whether the connection is lost now."""
        lost = self.faults > 0 and self.chance.random() < 0.15
        self.faults -= lost
        return lost

    def start(self) -> Life:
        """Start a server; it tries again, as a process manager would, where it finds no Redis."""
        self.lives.append(Life(self, **self._settings))
        return self.lives[-1]

    def push(self, message: bytes) -> None:
        """Push a job, which Redis accepts at once."""
        self.redis.lists.setdefault(KEYS.queue, [])
        refuses, self.redis.refuses = self.redis.refuses, False
        self.redis.do((b"LPUSH", KEYS.queue, message))
        self.redis.refuses = refuses

    def inject(self, fault: str, begin: float, end: float) -> None:
        """Have Redis be away, or refuse to write, from one time to another."""
        self.at(begin, lambda: setattr(self.redis, fault, True))
        self.at(end, lambda: setattr(self.redis, fault, False))

    def restart(self) -> None:
        """Kill the server, and start it under the same name."""
        self.lives[-1].kill()
        self.start()

    def run_until(self, end: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= end:
            self.now, _, what = heapq.heappop(self._events)
            what()
        self.now = end
