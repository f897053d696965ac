"""A client in virtual time: the core's `Calls`, and a driver that does what a client's thread does.

It pushes what its plan says, at the planned times, and tells the laws what each caller is told.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Any

from jobqueue.calls.calls import ATTEMPT_SECONDS, Calls, State
from jobqueue.calls.kept import Keep
from jobqueue.calls.times import deadline_of, keep_ms_of
from jobqueue.calls.unsettled import Submission
from jobqueue.errors import ConnectionLost
from jobqueue.protocol import keys, messages
from jobqueue.protocol.handles import Handle

from simulation.broken import Broken
from simulation.callers import Call
from simulation.network import Connection

if TYPE_CHECKING:
    from jobqueue.protocol.commands import Command

    from simulation import plan
    from simulation.world import World


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
        queue = self.queue = settings.queue
        self.own_list = b""
        self._channel = keys.results(queue.decode(), self.name)
        self._calls: Calls[Call] = Calls(queue, self._channel.encode())
        self._ids = 0
        self._attempt = 0
        self.losses = 0
        self.closed = False
        self.disturbed_until = 0.0  # by faults of its own
        self.listens_late_seconds = 0.0  # for how long its next subscription is held
        self.open_since: float | None = None  # for how long it has been subscribed
        self._stood_still = 0.0  # until when
        self._unanswered: deque[Command] = deque()  # what was written to the first link
        self._turn_at = float("inf")
        self.unsettled: dict[str, Call] = {}
        self._pushed = ""  # the id of the job that was pushed last
        self.last_told: Exception | None = None  # of that one
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
        batch = [self._submission(push, deadline, expires_at) for _ in range(push.jobs)]
        self._pushed = batch[-1].id
        self.world.note("{} submits {} x {}", self, push.jobs, push.method)
        for part in [[each] for each in batch] if push.collect else [batch]:
            self._calls.submit(part, deadline)
        if push.cancel_after is not None:
            self.world.clock.after(push.cancel_after, self._cancel, [each.id for each in batch])
        self._turn()

    def collect(self, given: Call, handle: str) -> None:
        """Have a caller wait for the result of a job of another client, by its handle."""
        how = given.collect
        if self.over or self.closed or how is None:
            return
        if self.paused:
            self.deferred.append((self.collect, (given, handle)))
            return
        self._ids += 1
        job_id = str(self._ids)
        deadline = deadline_of(how.timeout, self.world.clock.now)
        call = Call(given.job, job_id, given.method, deadline, self, collects=True)
        call.job.deleted |= how.delete
        self.unsettled[job_id] = call
        self.world.note("{}/{} collects {}", self, job_id, call.job.name)
        keep = Keep.collected(Handle.read(handle), delete=how.delete)
        self._calls.submit([Submission(job_id, call, None, None, keep)], deadline)
        self._turn()

    def close(self) -> None:
        """Close it: what waits is pushed, for a while."""
        if not self.over:
            self.closed = True
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
    def excused(self) -> bool:
        """Whether what it tells its callers may be late, since its process stood still or it is closed."""
        return self.closed or self.world.clock.now <= self._stood_still + ATTEMPT_SECONDS

    def _submission(
        self, push: plan.Push, deadline: float | None, expires_at: float | None
    ) -> Submission[Call]:
        self._ids += 1
        job_id = str(self._ids)
        listens = self._channel + (f"/{job_id}" if push.collect else "")
        channel = listens + ("-forbidden" if push.method == "forbidden" else "")
        parameters = [self.name, job_id]
        keep_ms = keep_ms_of(push.keep)
        message = messages.encode_job(push.method, parameters, channel, job_id, keep_ms=keep_ms)
        if push.method == "malformed":
            message = message[:-1]
        job = self.world.laws.know(
            message,
            result=f"{channel} {job_id}".encode(),
            dead=push.method in {"forbidden", "malformed"},
        )
        job.name = f"{self.name}/{job_id}"
        job.expected = parameters
        job.expires_at = expires_at
        job.channel = listens.encode()
        job.keep = keep_ms / 1000
        keep = Keep(job_id, job.keep, channel=listens if push.collect else None)
        call = Call(job, job_id, push.method, deadline, self, collect=push.collect)
        self.unsettled[job_id] = call
        return Submission(job_id, call, message, expires_at, keep if keep_ms else None)

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
                self._note_replies(*heard)
                self._calls.received(*heard, now)
            self._write(now)
            self._calls.tick(now)
            self._write(now)
        except ConnectionLost as error:
            self._lose(str(error))
        self._connect(now)
        self._settle()
        if self._calls.state is State.CLOSED:  # the driver closes its links, and reads no more
            for link in self.links:
                link.close()
            self.links = []
        if self.open_since is None and self._calls.state is State.OPEN:
            self.open_since = now
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
            self._send(link, command)
        while push := self._calls.take_push(now):
            if not self.world.strike(self, self.links[0]):
                return
            if push[0] == b"LPUSH":
                self.world.laws.encoded(push[2:])
                self._check_channels(push[2:])
            self._send(0, push)

    def _send(self, link: int, command: Command) -> None:
        if link == 0:
            self._unanswered.append(command)
        self.world.note("{} sends {}", self, command)
        self.links[link].write([command])

    def _check_channels(self, pushed: Command) -> None:
        for message in pushed:
            job = self.world.laws.jobs[message]
            if job.channel not in self.links[-1].channels:
                raise Broken("subscribes first", f"{self} pushes, and isn't subscribed")

    def _note_replies(self, link: int, frames: list[Any]) -> None:
        """Note which pushes are answered."""
        replies = [each for each in frames if not isinstance(each, list) or each[0] != b"message"]
        for reply in replies if link == 0 else []:
            command = self._unanswered.popleft()
            if command[0] == b"LPUSH" and isinstance(reply, int):
                for message in command[2:]:
                    self.world.laws.jobs[message].confirmed = True

    def _lose(self, reason: str) -> None:
        self.losses += 1
        for call in self.unsettled.values():
            call.lost(self.world.clock.now)
        self.open_since = None
        self._unanswered.clear()
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
            self.links[-1].hold(self.listens_late_seconds)
            self.listens_late_seconds = 0.0
            self._calls.connected(self._count_of_links, clock.now)
        self._turn()

    def _settle(self) -> None:
        for call, value, error in self._calls.take_settled():
            self.unsettled.pop(call.id, None)
            if call.id == self._pushed:
                self.last_told = error
            self.world.note("{}/{} is told {}", self, call.id, value if error is None else error)
            call.told(value, error, self)
        for call, handle in self._calls.take_handles():
            self.world.laws.kept.handed(call.job, handle)
            self.world.hand_over(self, call, handle)
