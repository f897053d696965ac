"""A client in virtual time: the core's `Calls`, and a driver that does what a client's thread does.

It pushes what its plan says, at the planned times, and tells the laws what each caller is told.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from jobqueue.calls.calls import ATTEMPT_SECONDS, Calls, State
from jobqueue.calls.times import deadline_of
from jobqueue.calls.unsettled import Submission
from jobqueue.errors import ConnectionLost, JobError
from jobqueue.protocol import keys, messages

from simulation.broken import Broken
from simulation.network import Connection

if TYPE_CHECKING:
    from simulation import plan
    from simulation.laws import Job
    from simulation.world import World

QUEUE = b"q"
EXPECTED_ERRORS = {
    "refuse": "test.refused",
    "crash": "handler-error",
    "no-json": "result-not-serializable",
    "unknown": "method-not-found",
}


class Call:
    """A job, its caller's deadline, and how often its client had been without a connection before."""

    def __init__(
        self, job: Job, job_id: str, method: str, deadline: float | None, losses: int
    ) -> None:
        self.job = job
        self.id = job_id
        self.method = method
        self.deadline = deadline
        self.losses = losses


class Client:
    """One client, in a process of its own.

    Args:
        world: What it lives in.
        settings: Its name, its links, and what it pushes.
    """

    def __init__(self, world: World, settings: plan.Client) -> None:
        self.world = world
        self.name = settings.name
        self.chance = random.Random(f"{world.plan.seed}/{self.name}")
        self.over = False
        self.paused = False
        self.deferred: list[tuple[Any, tuple[Any, ...]]] = []
        self.links: list[Connection] = []
        self._count_of_links = settings.links
        self._channel = keys.results("q", self.name)
        self._calls: Calls[Call] = Calls(QUEUE, self._channel.encode())
        self._ids = 0
        self._attempt = 0
        self._losses = 0
        self._stood_still = 0.0  # until when
        self._closed = False
        self._turn_at = float("inf")
        self.unsettled: dict[str, Call] = {}
        self.last_told: Exception | None = None
        for push in settings.pushes:
            world.clock.at(push.at, self.push, push)

    def __repr__(self) -> str:
        return self.name

    def push(self, push: plan.Push) -> None:
        """Have callers run jobs."""
        if self.over:
            return
        if self.paused:
            self.deferred.append((self.push, (push,)))
            return
        deadline = deadline_of(push.timeout, self.world.clock.now)
        expires_at = None
        if push.expires is not None and push.method != "malformed":
            expires_at = self.world.clock.now + push.expires
        batch = []
        for _ in range(push.jobs):
            self._ids += 1
            job_id = str(self._ids)
            channel = self._channel + ("-forbidden" if push.method == "forbidden" else "")
            parameters = [self.name, job_id]
            message = messages.encode_job(push.method, parameters, channel, job_id)
            if push.method == "malformed":
                message = message[:-1]
            job = self.world.laws.know(
                message,
                result=f"{channel} {job_id}".encode(),
                dead=push.method in {"forbidden", "malformed"},
            )
            job.name = f"{self.name}/{job_id}"
            job.expected = parameters
            call = Call(job, job_id, push.method, deadline, self._losses)
            batch.append(Submission(job_id, call, message, expires_at))
            self.unsettled[job_id] = call
        self.world.note("{} submits {} x {}", self, push.jobs, push.method)
        self._calls.submit(batch, deadline)
        if push.cancel_after is not None:
            self.world.clock.after(push.cancel_after, self._cancel, [each.id for each in batch])
        self._turn()

    def close(self) -> None:
        """Close it: what waits is pushed, for a while."""
        if not self.over:
            self._closed = True
            self._calls.close(self.world.clock.now)
            self._turn()

    def kill(self) -> None:
        """End it as by kill -9: its callers are gone."""
        self.over = True
        self.unsettled.clear()
        for link in self.links:
            link.close()

    def pause(self, seconds: float) -> None:
        """Let it stand still, as between SIGSTOP and SIGCONT."""
        if not self.paused:
            self.paused = True
            self._stood_still = self.world.clock.now + seconds
            self.world.clock.after(seconds, self._go_on)

    def heard(self, connection: Connection, replies: list[Any]) -> None:
        """Read what has arrived."""
        if self.paused:
            self.deferred.append((self.heard, (connection, replies)))
        elif connection in self.links:
            self._turn((self.links.index(connection), replies))

    def lost(self, connection: Connection) -> None:
        """Notice that the connection is reset."""
        if self.paused:
            self.deferred.append((self.lost, (connection,)))
        elif connection in self.links and not self.over:
            self._lose("the connection to Redis is lost")
            self._turn()

    @property
    def state(self) -> State:
        """The state of its session."""
        return self._calls.state

    def _go_on(self) -> None:
        self.paused = False
        deferred, self.deferred = self.deferred, []
        for do, arguments in deferred:
            do(*arguments)
        self._turn()

    def _cancel(self, ids: list[str]) -> None:
        for job_id in ids:
            self._calls.cancel(job_id)
            self.unsettled.pop(job_id, None)
        self._turn()

    def _turn(self, heard: tuple[int, list[Any]] | None = None) -> None:
        if self.over:
            return
        now = self.world.clock.now
        try:
            if heard is not None:
                self._calls.received(*heard, now)
            self._write(now)
            self._calls.tick(now)
            self._write(now)
        except ConnectionLost as error:
            self._lose(str(error))
        self._connect(now)
        self._settle(now)
        self._plan_the_next(now)

    def _plan_the_next(self, now: float) -> None:
        times = [self._calls.next_tick(), self._calls.connect_at()]
        at = min((each for each in times if each is not None), default=None)
        if at is not None and (at < self._turn_at or self._turn_at <= now):
            self._turn_at = max(at, now)
            self.world.clock.at(at, self._wake, self._turn_at)

    def _wake(self, at: float) -> None:
        if self.paused or at != self._turn_at:
            return  # it turns when it goes on; or an earlier turn has planned another one
        self._turn_at = float("inf")
        self._turn()

    def _write(self, now: float) -> None:
        for link, command in self._calls.take_controls(now):
            if not self.world.strike(self, self.links[link]):
                return
            self.links[link].write([command])
        while push := self._calls.take_push(now):
            if not self.links[-1].subscribed:
                raise Broken("subscribes first", f"{self} pushes, and isn't subscribed")
            if not self.world.strike(self, self.links[0]):
                return
            if push[0] == b"LPUSH":
                self.world.laws.encoded(push[2:])
            self.links[0].write([push])

    def _lose(self, reason: str) -> None:
        self._losses += 1
        for link in self.links:
            link.close()
        self.links = []
        self.world.note("{} has lost its connection: {}", self, reason)
        self._calls.lost(reason, self.world.clock.now, self.chance.random())

    def _connect(self, now: float) -> None:
        at = self._calls.connect_at()
        if at is None or at > now:
            return
        self._attempt += 1
        self._calls.attempt(now)
        seconds, reached = self.world.way_to_redis(self.chance)
        self.world.clock.after(seconds, self._connected, self._attempt, reached)

    def _connected(self, attempt: int, reached: bool) -> None:  # noqa: FBT001 - by the clock
        if self.paused:
            self.deferred.append((self._connected, (attempt, reached)))
            return
        if self.over or attempt != self._attempt or self._calls.state is not State.CONNECTING:
            return
        if not reached or self.world.refuses:
            self._lose("there is no Redis")
        else:
            clock, redis = self.world.clock, self.world.redis
            resp3 = self._count_of_links == 1
            self.links = [
                Connection(clock, self.chance, redis, self, resp3=resp3)
                for _ in range(self._count_of_links)
            ]
            self._calls.connected(self._count_of_links, clock.now)
        self._turn()

    def _settle(self, now: float) -> None:
        for call, value, error in self._calls.take_settled():
            self.unsettled.pop(call.id, None)
            self.last_told = error
            self.world.note("{}/{} is told {}", self, call.id, value if error is None else error)
            if isinstance(error, JobError):
                self._check_error(call, error)
            elif error is None and value != call.job.expected:
                raise Broken("the job's own result", f"{call.job.name} is told {value!r:.80}")
            self.world.laws.settled(
                call.job,
                error,
                deadline=call.deadline,
                lost=self._losses > call.losses or self.state is State.CLOSED,
                excused=self._closed or now <= self._stood_still + ATTEMPT_SECONDS,
            )

    def _check_error(self, call: Call, error: JobError) -> None:
        given_up = error.code == "too-many-attempts" and self.world.laws.may_be_given_up(call.job)
        expired = error.code == "expired" and call.job.expires_at_ms is not None
        if error.code != EXPECTED_ERRORS.get(call.method) and not (given_up or expired):
            raise Broken("the job's own result", f"{call.job.name} is told {error!r}")
