"""One Redis in virtual time: its connections, what blocks, what is published, and how it can fail.

It executes one command at a time, each connection's in their order. It can be stopped, filled up,
forbid commands, become a replica that refuses to write, and have its clock stepped; then it answers
as Redis 7.0 does, or where that differs, as Valkey 9. `store` has the data.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from simulation.clock import BEGINS_MS
from simulation.names import LEASES, QUEUES, RESULTS
from simulation.refusals import (
    ABORTED,
    NO_MULTI,
    ON_CHANNELS,
    OOM,
    SUBSCRIBED,
    UNBLOCKED,
    refusal_of,
)
from simulation.scripts import evaluate
from simulation.store import OK, READS, Store

if TYPE_CHECKING:
    from jobqueue.protocol.commands import Command

    from simulation.clock import Clock
    from simulation.laws import Laws
    from simulation.network import Connection


class Session:
    """What Redis knows of one connection."""

    def __init__(self) -> None:
        self.unread: deque[Command] = deque()
        self.queued: list[Command] | None = None  # since MULTI
        self.aborted = False
        self.blocked: Command | None = None
        self.blocked_until_ms = 0.0


class RedisProcess:
    """A Redis that serves.

    Args:
        clock: The world's.
        laws: Are told what is pushed, removed and published.
        store: The data that it starts with.
    """

    def __init__(self, clock: Clock, laws: Laws, store: Store) -> None:
        self.store = store
        self.full = False
        self.saves_memory = (
            True  # at maxmemory it refuses what MULTI queues: Redis does, Valkey 9 not
        )
        self.loading = False
        self.refuses_subscriptions = False
        self.forbids_publish = False
        self.stopped_until = 0.0
        self.clock_offset = 0.0
        self.forgets = False  # what it accepts is lost: another one has been made primary
        self.replica_of: RedisProcess | None = None
        self.replicas: list[RedisProcess] = []
        self._clock = clock
        self._laws = laws
        self._sessions: dict[Connection, Session] = {}
        self._blocked: list[Connection] = []
        self._subscribers: dict[bytes, list[Connection]] = {}

    @property
    def now_ms(self) -> int:
        """Its time, which may be stepped; what is there for a while ends by the primary's."""
        if self.replica_of is not None:
            return self.replica_of.now_ms
        return BEGINS_MS + round((self._clock.now + self.clock_offset) * 1000)

    @property
    def connections(self) -> list[Connection]:
        """Those that it believes to be alive."""
        return list(self._sessions)

    def claims(self) -> int:
        """How many claims block."""
        return len(self._blocked)

    def accept(self, connection: Connection) -> None:
        """Take a new connection."""
        self._sessions[connection] = Session()

    def forget(self, connection: Connection) -> None:
        """Notice that a connection is gone: its claim doesn't wait any more."""
        self._sessions.pop(connection, None)
        if connection in self._blocked:
            self._blocked.remove(connection)
        for channel in connection.channels:
            self._deliver_no_more(connection, channel)

    def receive(self, connection: Connection, commands: list[Command]) -> None:
        """Read what has arrived, and execute it."""
        session = self._sessions.get(connection)
        if session is None:
            return
        session.unread.extend(commands)
        if self.stopped_until <= self._clock.now:
            self._serve(connection, session)

    def stop(self, seconds: float) -> None:
        """Do nothing for some seconds, as after SIGSTOP; what arrives is executed then."""
        self.stopped_until = max(self.stopped_until, self._clock.now + seconds)
        self._clock.at(self.stopped_until, self._go_on)

    def step_clock(self, seconds: float) -> None:
        """Set the clock forward or back: what ends at a time ends earlier or later."""
        self.clock_offset += seconds
        self._laws.expiry.clock_is(self.clock_offset)
        for connection in list(self._blocked):
            claim = self._sessions[connection].blocked
            assert claim is not None
            self._plan_the_end(connection, claim)

    def part(self, primary: RedisProcess) -> None:
        """Go on by itself although another one is the primary, for those that are connected."""
        primary.succeed(self)
        self.replicas = []
        self.forgets = True
        self.store = self.store.copy(watched=False)

    def demote(self, primary: RedisProcess) -> None:
        """Become a replica: connections stay, writes and blocked claims are refused."""
        if not self.forgets:
            primary.succeed(self)
        self.forgets = False
        primary.replicas.append(self)
        self.replicas = []
        self._follow(primary)
        for connection in list(self._blocked):
            self._end(connection, UNBLOCKED)

    def succeed(self, before: RedisProcess) -> None:
        """Have the replicas of another Redis."""
        self.replicas = before.replicas
        for replica in self.replicas:
            replica._follow(self)  # noqa: SLF001 - of this class

    def _follow(self, primary: RedisProcess) -> None:
        self.replica_of = primary
        self.store = primary.store  # it lags only until it is promoted

    def _go_on(self) -> None:
        if self.stopped_until <= self._clock.now:
            for connection, session in list(self._sessions.items()):
                self._serve(connection, session)

    def _serve(self, connection: Connection, session: Session) -> None:
        replies: list[Any] = []
        while session.unread and session.blocked is None and connection in self._sessions:
            command = session.unread.popleft()
            reply = self._execute(connection, session, command)
            if command[0] == b"BLMOVE" and reply is None:
                session.blocked = command
                seconds = float(command[5]) or float("inf")
                session.blocked_until_ms = self.now_ms + seconds * 1000
                self._blocked.append(connection)
                self._plan_the_end(connection, command)
            else:
                replies.append(reply)
        if replies:
            connection.reply(replies)

    def _execute(  # noqa: PLR0911 - one for each kind of command
        self, connection: Connection, session: Session, command: Command
    ) -> Any:
        self._laws.owners.executes_for(connection)
        if command[0] == b"EXEC":
            return self._exec(session)
        refusal = refusal_of(self, command, queues=session.queued is not None)
        listens = connection.subscribed and not connection.resp3
        if listens and command[0] not in {b"PING", *ON_CHANNELS}:
            return SUBSCRIBED
        if refusal is not None:
            self._laws.refused(command)
            session.aborted = True
            return refusal
        if session.queued is not None:
            session.queued.append(command)
            return b"QUEUED"
        match command[0]:
            case b"MULTI":
                session.queued, session.aborted = [], False
                return OK
            case b"SUBSCRIBE":
                if command[1] not in connection.channels:
                    self._subscribers.setdefault(command[1], []).append(connection)
                    connection.channels.add(command[1])
                return [b"subscribe", command[1], len(connection.channels)]
            case b"UNSUBSCRIBE":
                connection.channels.discard(command[1])
                self._deliver_no_more(connection, command[1])
                return [b"unsubscribe", command[1], len(connection.channels)]
            case b"PING":
                return [b"pong", b""] if listens else b"PONG"
        return self._carry_out(command)

    def _exec(self, session: Session) -> Any:
        queued, session.queued = session.queued, None
        if queued is None:
            return NO_MULTI
        # What needs memory or writes is refused as a whole; permissions, for each command.
        refusals = [refusal_of(self, each) for each in queued]
        for command, refusal in zip(queued, refusals, strict=True):
            if refusal is not None:
                self._laws.refused(command)
        if session.aborted or any(each and each.code != "NOPERM" for each in refusals):
            return ABORTED
        return [
            self._carry_out(command) if refusal is None else refusal
            for command, refusal in zip(queued, refusals, strict=True)
        ]

    def _carry_out(self, command: Command) -> Any:
        if command[0] == b"PUBLISH":
            return self._publish(command[1], command[2])
        if command[0] == b"EVAL":
            return self._evaluate(command)
        if self.forgets:
            return self._forget_later(command)
        if command[0] == b"INCR":
            self._laws.counts()
        if command[0] == b"DEL" and command[1].startswith(LEASES):
            self._laws.owners.releases(command[1])
        if command[0] == b"SET" and command[1].startswith(RESULTS):
            return self._laws.kept.stores(self.store, command, self.now_ms)
        reply = self.store.execute(command, self.now_ms)
        if command[0] in {b"SET", b"PEXPIRE"} and reply and command[1].startswith(LEASES):
            self._laws.owners.renewed(command[1], taken=b"NX" in command)
        if command[0] == b"LPUSH" and isinstance(reply, int):
            self._laws.pushed(command[1], command[2:])
            self._wake()
        if command[0] == b"LMOVE" and command[2] in QUEUES:
            self._wake()
        return reply

    def _forget_later(self, command: Command) -> Any:
        reply = self.store.execute(command, self.now_ms)
        if command[0] in {b"LPUSH", b"LREM"}:
            self._laws.forgotten(command)
        if command[0] == b"SET" and command[1].startswith(RESULTS):
            self._laws.kept.stored_elsewhere(command)
        if command[0] == b"LPUSH" or (command[0] == b"LMOVE" and command[2] in QUEUES):
            self._wake()
        return reply

    def _evaluate(self, script: Command) -> Any:
        wrote = False

        def call(command: Command) -> Any:
            nonlocal wrote
            refusal = refusal_of(self, command)
            # What has begun to write may end at maxmemory, too.
            if refusal is not None and not (wrote and refusal is OOM):
                return refusal
            wrote = wrote or command[0] not in READS
            return self._carry_out(command)

        return evaluate(script, call)

    def _deliver_no_more(self, connection: Connection, channel: bytes) -> None:
        subscribers = self._subscribers.get(channel, [])
        if connection in subscribers:
            subscribers.remove(connection)
            if not subscribers:
                del self._subscribers[channel]

    def _publish(self, channel: bytes, message: bytes) -> int:
        lasting = self.replica_of is None and not self.forgets
        self._laws.published(channel, message, lasting=lasting)
        receivers = list(self._subscribers.get(channel, ()))
        for connection in receivers:
            connection.reply([[b"message", channel, message]])
        for replica in self.replicas:
            replica._publish(channel, message)  # noqa: SLF001 - of this class
        return len(receivers)

    def _wake(self) -> None:
        empty: set[bytes] = set()
        for connection in list(self._blocked):
            claim = self._sessions[connection].blocked
            assert claim is not None
            if claim[1] in empty:
                continue
            self._laws.owners.executes_for(connection)
            entry = self.store.execute(claim, self.now_ms)
            if entry is None:
                empty.add(claim[1])
            else:
                self._end(connection, entry)

    def _end(self, connection: Connection, reply: Any) -> None:
        """End a claim, and execute what was sent behind it, once the present command is over."""
        self._blocked.remove(connection)
        session = self._sessions[connection]
        session.blocked = None
        connection.reply([reply])
        self._clock.after(0, self.receive, connection, [])

    def _plan_the_end(self, connection: Connection, claim: Command) -> None:
        session = self._sessions.get(connection)
        if session is None or session.blocked is not claim:
            return
        seconds = (session.blocked_until_ms - self.now_ms) / 1000
        if self.stopped_until > self._clock.now:
            self._clock.at(self.stopped_until, self._plan_the_end, connection, claim)
        elif seconds > 0:
            self._clock.after(seconds, self._plan_the_end, connection, claim)
        else:
            self._end(connection, None)
