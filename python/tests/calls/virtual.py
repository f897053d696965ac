"""A world in virtual time for the core of a client: Redis, a server, a network, and a driver.

A seed decides everything that happens, and when. The world checks at each step what has to hold
whatever happens, so a seed that fails shows a fault, and shows it again.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from jobqueue.calls.calls import (
    ATTEMPT_SECONDS,
    CLOSE_SECONDS,
    Calls,
    State,
)
from jobqueue.calls.links import REPLY_TIMEOUT_SECONDS
from jobqueue.calls.unsettled import Submission
from jobqueue.errors import ConnectionLost, JobTimeout
from jobqueue.protocol.commands import ErrorReply

if TYPE_CHECKING:
    from collections.abc import Callable

ERRORS = ["READONLY", "LOADING", "MASTERDOWN", "OOM", "WRONGTYPE", "NOPERM"]
JUNK = [b"", b"[]", b'{"id": "x"}', b'{"id": "404", "result": 1}', b"\xff"]
LONGEST_UNPUSHED = ATTEMPT_SECONDS + REPLY_TIMEOUT_SECONDS + 1


class World:
    """One client in it, from its first job to its end."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1_000.0
        self.core: Calls[str] = Calls(b"queue", b"channel")
        self.links = self.random.choice([1, 2])
        self.connection = 0  # 0 is none
        self.confirmed = False  # whether the client has read that this connection is subscribed
        self.subscribed = False  # whether Redis has subscribed it
        self.queue: list[dict[str, Any]] = []
        self.submitted: dict[str, tuple[float, float | None]] = {}  # when, and the deadline
        self.cancelled: set[str] = set()
        self.settled: dict[str, object] = {}
        self.pushed: Counter[str] = Counter()
        self.outages = self.random.random() ** 2  # how often something goes wrong
        self._ids = map(str, itertools.count(1))
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._connections = itertools.count(1)
        self._arrivals: dict[tuple[int, int], float] = {}  # what was sent later arrives later

    def live(self, steps: int) -> None:
        """Let so much happen, close the client, and see that nothing is left."""
        for _ in range(steps):
            self.later(self.random.random() * 30, self.random.choice(self.deeds))
        while (
            self._events or self.core.next_tick() is not None or self.core.connect_at() is not None
        ):
            if not self._events:
                break
            self.step()
        self.core.close(self.now)
        until = self.now + CLOSE_SECONDS
        self.submit()  # which is refused
        self.turn()
        while self.core.state is not State.CLOSED:
            self.step()
            assert self.now <= until + 1e-6, "closing takes too long"
        assert len(self.core) == 0, "a job is left"
        assert set(self.submitted) == set(self.settled) | self.cancelled, "a job has no outcome"

    def step(self) -> None:
        """Go on to the next moment at which something happens."""
        times = [self._events[0][0]] if self._events else []
        times += [at for at in (self.core.next_tick(), self.core.connect_at()) if at is not None]
        moment = max(self.now, min(times))
        if moment == self.now and not (self._events and self._events[0][0] <= moment):
            self.turns += 1
            assert self.turns < 100, "the core wants a turn again and again"
        else:
            self.turns = 0
        self.now = moment
        if self._events and self._events[0][0] <= self.now:
            heapq.heappop(self._events)[2]()
        self.turn()
        self.check()

    turns = 0

    def later(self, delay: float, event: Callable[[], None]) -> None:
        """Have something happen after a while."""
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), event))

    # The driver.

    def turn(self) -> None:
        """Do what the core asks for."""
        try:
            self.write()
            self.core.tick(self.now)
            self.write()
        except ConnectionLost:
            self.lose()
        self.settle()
        at = self.core.connect_at()
        if at is not None and at <= self.now:
            self.core.attempt(self.now)
            number = next(self._connections)
            if self.random.random() > self.outages / 2:
                self.later(self.delay(), lambda: self.attempted(number))
            self.attempt = number

    def attempted(self, number: int) -> None:
        """The attempt is over, unless the core has given it up."""
        if self.attempt != number or self.core.state is not State.CONNECTING:
            return
        if self.random.random() < self.outages:
            self.lose()
        else:
            self.connection, self.subscribed, self.confirmed = number, False, False
            self.core.connected(self.links, self.now)

    def write(self) -> None:
        """Send what the core wants to be sent."""
        for link, command in self.core.take_controls(self.now):
            self.send(link, command)
        while self.random.random() < 0.9 and (push := self.core.take_push(self.now)):
            assert self.confirmed, "a push before the subscription of its connection is confirmed"
            for message in push[2:]:
                job = json.loads(message)["id"]
                assert job not in self.settled, "a push of a job that is settled"
                assert job not in self.cancelled, "a push of a job that is cancelled"
                self.pushed[job] += 1
                assert self.pushed[job] == 1, "a second push of one job"
            self.send(0, push)

    def settle(self) -> None:
        """Note the outcomes."""
        for job, value, error in self.core.take_settled():
            assert job not in self.settled, "a second outcome"
            assert job not in self.cancelled, "an outcome of a job that is cancelled"
            if isinstance(error, JobTimeout):
                deadline = self.submitted[job][1]
                assert deadline is not None
                assert deadline <= self.now, "a timeout before its time"
            self.settled[job] = error or value

    def lose(self) -> None:
        """Tell the core that the connection is lost."""
        self.connection, self.subscribed, self.confirmed = 0, False, False
        self.core.lost("the connection is lost", self.now, self.random.random())

    def check(self) -> None:
        """Check that no driver waits too long."""
        for job, (since, deadline) in self.submitted.items():
            if job not in self.settled and job not in self.cancelled:
                assert deadline is None or self.now <= deadline, "a timeout that has passed"
                waits = not self.pushed[job] and self.core.state is not State.OPEN
                assert not waits or self.now <= since + LONGEST_UNPUSHED, (
                    "no connection, no outcome"
                )

    # The network and Redis.

    def delay(self) -> float:
        """How long something takes: mostly little."""
        return self.random.choice([0.0, 0.001, 0.01, 0.3, 3.0 * self.random.random()])

    def send(self, link: int, command: tuple[bytes, ...]) -> None:
        """Send to Redis, where it arrives behind what was sent before."""
        self.travel(link, lambda: self.execute(link, command))

    def travel(self, link: int, arrive: Callable[[], None]) -> None:
        """Have something arrive, unless its connection is lost before."""
        connection = self.connection
        lane = (connection, link)
        at = max(self.now + self.delay(), self._arrivals.get(lane, 0.0))
        self._arrivals[lane] = at

        def over_the_wire() -> None:
            if self.connection == connection:
                arrive()

        self.later(at - self.now, over_the_wire)

    def execute(self, link: int, command: tuple[bytes, ...]) -> None:
        """Be Redis."""
        if self.random.random() < self.outages / 4:
            return  # it hangs
        if self.random.random() < self.outages / 4:
            code = self.random.choice(ERRORS)
            self.answer(link, ErrorReply(code, f"{code} as it happens"))
        elif command[0] == b"SUBSCRIBE":
            self.subscribed = True
            self.answer(link, [b"subscribe", b"channel", 1])
        elif command[0] == b"PING":
            self.answer(link, b"PONG" if link == 0 else [b"pong", b""])
        else:
            self.queue += map(json.loads, command[2:])
            self.answer(link, len(self.queue))

    def answer(self, link: int, frame: Any) -> None:
        """Send to the client."""
        self.travel(link, lambda: self.receive(link, frame))

    def receive(self, link: int, frame: Any) -> None:
        """Hand it to the core."""
        if isinstance(frame, list) and frame[0] == b"subscribe":
            self.confirmed = True
        try:
            self.core.received(link, [frame], self.now)
        except ConnectionLost:
            self.lose()

    # What may happen.

    def submit(self) -> None:
        """Run a few jobs."""
        timeout = self.random.choice([None, 0.0, 0.05, 1.0, 8.0, 20.0])
        deadline = None if timeout is None else self.now + timeout
        batch = []
        for _ in range(self.random.choice([1, 1, 3])):
            job = next(self._ids)
            self.submitted[job] = (self.now, deadline)
            batch.append(Submission(job, job, json.dumps({"id": job}).encode()))
        self.core.submit(batch, deadline)

    def cancel(self) -> None:
        """Give a job up."""
        self.settle()
        if open_ := [job for job in self.submitted if job not in self.settled]:
            job = self.random.choice(open_)
            self.core.cancel(job)
            self.cancelled.add(job)

    def serve(self) -> None:
        """Be a server: answer some jobs of the queue, late or twice or not at all."""
        self.random.shuffle(self.queue)
        while self.queue and self.random.random() < 0.8:
            job = self.queue.pop()["id"]
            for _ in range(self.random.choice([0, 1, 1, 1, 2])):
                result = json.dumps({"id": job, "result": job}).encode()
                self.later(self.delay(), partial(self.publish, result))

    def junk(self) -> None:
        """Publish what is not a result."""
        self.publish(self.random.choice(JUNK))

    def publish(self, message: bytes) -> None:
        """Send a message to all subscribers."""
        if self.subscribed:
            self.answer(self.links - 1, [b"message", b"channel", message])

    def cut(self) -> None:
        """Lose the connection, now and then."""
        if self.connection and self.random.random() < self.outages:
            self.lose()

    @property
    def deeds(self) -> list[Callable[[], None]]:
        """What happens, as often as it stands here."""
        return [
            self.submit,
            self.submit,
            self.submit,
            self.cancel,
            self.serve,
            self.serve,
            self.cut,
            self.junk,
        ]


def run(seed: int) -> World:
    """Let a world live, and name its seed where something doesn't hold."""
    world = World(seed)
    try:
        world.live(world.random.randrange(1, 40))
    except Exception as error:
        raise AssertionError(f"seed {seed} at {world.now - 1_000:.3f} s: {error}") from error
    for job, outcome in world.settled.items():
        assert isinstance(outcome, Exception) or outcome == job, f"seed {seed}: another's result"
    return world
