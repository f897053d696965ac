"""A server in virtual time: one run of it, from its start to its end or its death.

A server of two queues is two of these in one process: they share the hands, and begin and end together.
Faults strike at a step that their plan names, just before it is taken, so none is too short to be hit.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from jobqueue.core.handlers import failed, succeeded
from jobqueue.core.lease import Lease
from jobqueue.core.parallel import Parallel
from jobqueue.core.reconnect import run_with_reconnect
from jobqueue.core.serial import Serial
from jobqueue.core.sharing import Sharing, Turns
from jobqueue.core.takeover import Takeover
from jobqueue.errors import ConnectionLost, JobError, ProcessorLost
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Run, Timed

from simulation.broken import Broken
from simulation.kept import LIMIT_SECONDS
from simulation.methods import HANDLERS
from simulation.names import QUEUE, SECOND
from simulation.plan import GRACE_SECONDS
from simulation.renewals import Renewals
from simulation.session import Session
from simulation.workers import Hands, Workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.core.sharing import Seat
    from jobqueue.protocol.messages import Answer, Dead, Work

    from simulation.plan import Server
    from simulation.redis_process import RedisProcess
    from simulation.world import World


class Life:
    """One run of a server.

    Args:
        world: What it lives in.
        settings: Its name, and how it works.
        number: How many lives the name had before.
        former: The token of the last of them, where the host knows it.
        first: The one of the first queue, if this is of the second.
    """

    def __init__(
        self,
        world: World,
        settings: Server,
        number: int,
        former: bytes | None = None,
        first: Life | None = None,
    ) -> None:
        self.world = world
        self.settings = settings
        self.name = settings.name
        self.processor = settings.twin or self.name
        if settings.fresh:
            self.processor = f"{self.name}-{number + 1}"
        self.parts: list[Life] = [self] if first is None else first.parts
        self.keys = Keys.of((QUEUE if first is None else SECOND).decode(), self.processor)
        second = "" if first is None else ", second queue"
        self.chance = random.Random(f"{world.plan.seed}/{self.name}/{number}{second}")
        self.over = False
        self.stopping = False
        self.connected = False  # the session that claims, once, at least
        self.stood_still_until = -1.0
        self.checked_at = 0.0  # when it asked for the time last
        self.renewals = Renewals()
        self.lease: Lease | None = None
        self.token = b"%s/%d" % (self.name.encode(), number)
        self._label = f"{self.name} (life {number + 1}{second})"
        self.paused = False
        self.ended = False
        self._deferred: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._busy: list[bytes] = []
        # Of lives before the last one: no host keeps these tokens.
        tokens = {b"%s/%d" % (self.name.encode(), each) for each in range(number)}
        self._forgotten = tokens - {former}
        self._asked: dict[bytes, float] = {}  # jobs that can expire, and since when a place is free
        self._freed_at = 0.0
        if settings.shares is None:
            self.seats: list[Seat | None] = [None]
            self.hands = Hands(settings.concurrency)
        elif first is None:
            self.seats = [*Turns(2, settings.concurrency, settings.shares).seats]
            self.hands = Hands(settings.concurrency)
        else:
            self.hands = first.hands
            self.parts.append(self)
        self._begin_sessions(former, (first or self).seats[first is not None])

    def __repr__(self) -> str:
        return self._label

    @property
    def error(self) -> ConnectionLost | ProcessorLost | None:
        """Why it ended other than by a graceful stop."""
        return next((each.error for each in self.serving if each.error), None)

    @property
    def stood_still(self) -> bool:
        """Whether its process was stopped since its last check, so that it can't know what it may not do."""
        return self.checked_at < self.stood_still_until

    def begin(self) -> None:
        """Start its sessions."""
        for part in self.parts:
            for session in part.sessions:
                session.resume()

    def connects(self, session: Session) -> None:
        """Note that a session has a connection; a server without one to claim on ends at its start."""
        # server.connection.start
        self.connected |= session is self.serving[0]

    def stop(self) -> None:
        """Request a graceful stop."""
        for part in self.parts:
            part.stopping = True
        for part in self.parts:
            for session in part.serving:
                session.stop()

    def kill(self, *, host_lost: bool) -> None:
        """End it as by kill -9; where the host is lost, Redis isn't told."""
        for part in self.parts:
            part.close(host_lost=host_lost)

    def pause(self, seconds: float) -> None:
        """Let it stand still, as between SIGSTOP and SIGCONT."""
        for part in self.parts:
            if not part.paused:
                part.paused = True
                self.world.clock.after(seconds, part.go_on)

    def asleep(self, do: Callable[..., None], *arguments: Any) -> bool:
        """Tell whether it stands still; then this is done as soon as it goes on."""
        if self.paused:
            self._deferred.append((do, arguments))
        return self.paused

    def check_lease(self, redis: RedisProcess) -> None:
        """Check that a claim may be sent to a Redis.

        Raises:
            Broken: Its lease may end before the claim does, and it could have known.
        """
        if self.lease is None or self.stood_still:
            return
        seconds = self.world.clock.now - self.renewals.last_for(redis)
        if seconds > self.lease.seconds - self.settings.block_seconds:
            raise Broken(
                "claims within its lease", f"{self} claims {seconds:.3f} s after its last renewal"
            )

    def check_look(self) -> None:
        """Check that the list may be read.

        Raises:
            Broken: This life has never had its lease.
        """
        if self.lease is not None and not self.renewals:
            raise Broken("has its lease first", f"{self} looks at its list without a lease")

    def broken(self) -> bool:
        """Tell whether a session that runs beside the claims has failed; then it ends."""
        failed = self.ended or self.serving[-1].error is not None
        if failed:
            self._end()
        return failed

    def handle(self, work: Work | Timed, then: Callable[[Answer | Dead | Run], None]) -> None:
        """Run the handler of a message, which takes a while."""
        job = HANDLERS.decide(work)
        asks = isinstance(job, Run) and job.expires_at_ms is not None and type(work) is not Timed
        if isinstance(job, Run) and not asks:
            free_since = self._asked.pop(job.message, self._freed_at)
            self.world.laws.started(self, job.message, free_since)
            self.world.note("{} starts {}", self, job.message)
            self._busy.append(job.message)
            self.world.clock.after(self._seconds(), self._handled, job, then)
        else:
            if isinstance(job, Run) and self.settings.concurrency > 1:
                self._asked[job.message] = self.world.clock.now
            self.world.clock.after(0, self._decided, job, then)

    def changed(self) -> None:
        """Let the sessions go on that wait for room or for outcomes, and notice the end."""
        if self.over or self.ended or self.asleep(self.changed):
            return
        if self.serving[0].ended:
            self._end()
            return
        for session in self.serving:
            session.changed()

    def _begin_sessions(self, former: bytes | None, seat: Seat | None) -> None:
        world, settings = self.world, self.settings
        limits: dict[str, Any] = {
            "prefetch": settings.prefetch,
            "block_seconds": settings.block_seconds,
            "attempts": world.plan.attempts,
            "keep_ms": round(LIMIT_SECONDS * 1000),
        }
        self.sessions: list[Session] = []
        if settings.takeover:
            self.lease = Lease(
                self.keys,
                self.token,
                seconds=world.plan.lease_seconds,
                block_seconds=settings.block_seconds,
                former=former,
            )
            limits["takeover"] = Takeover(self.keys, self.lease, GRACE_SECONDS)
            self.sessions.append(Session(self, self.lease.renewing(), stops=False))
        self.workers = Workers(self, self.hands, self.lease, seat)
        if seat is None and settings.concurrency == 1:
            serial = Serial(self.keys, **limits)
            self.serving = [Session(self, run_with_reconnect(serial.session, self.lease))]
        else:
            kind = Parallel if seat is None else Sharing
            parallel = kind(self.keys, concurrency=settings.concurrency, **limits)
            sessions = (parallel.claiming(), parallel.confirming())
            self.serving = [Session(self, each) for each in sessions]
        self.sessions += self.serving

    def go_on(self) -> None:
        """Do what had to wait while it stood still."""
        self.paused = False
        self.stood_still_until = self.world.clock.now
        deferred, self._deferred = self._deferred, []
        for do, arguments in deferred:
            if not self.asleep(do, *arguments):
                do(*arguments)

    def _decided(
        self, decision: Run | Answer | Dead, then: Callable[[Answer | Dead | Run], None]
    ) -> None:
        if not self.over and not self.asleep(self._decided, decision, then):
            then(decision)

    def _handled(self, job: Run, then: Callable[[Answer | Dead | Run], None]) -> None:
        if self.over or self.asleep(self._handled, job, then):
            return
        if job.method == "kill":
            self.world.note("{} dies of {}", self, job.message)
            self.kill(host_lost=False)
            self.world.life_over(self.parts[0], killed_by=job.message)
            return
        self._busy.remove(job.message)
        self._freed_at = self.world.clock.now
        self.world.laws.ended(self, job.message)
        try:
            value = HANDLERS[job.method]([*job.parameters, self.world.laws.runs(job.message)])
        except (JobError, ValueError) as error:
            then(failed(job, error))
        else:
            then(succeeded(job, value))

    def close(self, *, host_lost: bool = False) -> None:
        """End its sessions and its handlers."""
        self.over = True
        for session in self.sessions:
            if session.connection is not None and host_lost:
                session.connection.die(noticed_after=300.0, late_seconds=None)
            session.close()
        for message in self._busy:
            self.world.laws.ended(self, message)

    def _end(self) -> None:
        """End, when all of the process have come to their ends."""
        if self.ended:
            return
        self.ended = True
        if self.error is None and (self._busy or self.workers.running):
            raise Broken(
                "drains", f"{self} ends without an error, and hasn't answered all it started"
            )
        if self.error is None:
            self.world.laws.owners.ends_well(self)
        elif not (self.stopping or self._may_end()):
            raise Broken("goes on", f"{self} ends although nobody has told it to: {self.error}")
        elif len(self.parts) > 1:
            self.stop()  # the other queue ends as at a stop
        if all(part.ended for part in self.parts):
            for part in self.parts:
                part.close()
            self.world.life_over(self.parts[0])

    def _may_end(self) -> bool:
        """Whether it may end by itself: it has never reached Redis, or has lost its name to another life.

        That happens where a late command or an older Redis brings back a lease of a life before the last,
        and where another host has a server of this name.
        """
        if not self.connected:
            return True
        if not isinstance(self.error, ProcessorLost):
            return False
        redis = self.world.redis
        holder = redis.store.execute((b"GET", self.keys.lease), redis.now_ms)
        return holder in self._forgotten or self.world.laws.owners.has_twin(self)

    def _seconds(self) -> float:
        return self.chance.choice((0.0, 0.001, 0.001, 0.01, 0.1, 1.0, 3.0)) * self.chance.random()
