"""One world: a plan comes true, faults strike, and the laws are watched until everything is at rest.

A world has three parts. In the storm, jobs are pushed and faults strike. Then there are no more
faults; all that was accepted has to be answered, and every caller told. At the end all servers are
stopped, and have to end without leaving anything. Or Redis goes away for good in the storm, and all
servers are stopped.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from simulation import plan
from simulation.broken import Broken
from simulation.client import Client
from simulation.clock import Clock
from simulation.faults import Faults
from simulation.laws import Laws
from simulation.names import DEAD, QUEUES
from simulation.plan import GRACE_SECONDS, LONGEST_FAULT, STORM_SECONDS, Push
from simulation.redis_process import RedisProcess
from simulation.server import Life
from simulation.store import Store

if TYPE_CHECKING:
    from simulation.callers import Call
    from simulation.network import Connection
    from simulation.plan import Plan, Server
    from simulation.session import Session

CALM_SECONDS = 12.0  # after the storm; every fault is over by then
TURN_SECONDS = 10.0  # between two checks whether everything is at rest
STOP_SECONDS = 30.0  # server.stop.unreachable
LONGEST_HANDLER_SECONDS = 3.0
CONNECT_SECONDS = 5.0  # how long an attempt to connect waits for a Redis that doesn't reply
STORY = 2_000  # the latest lines that are kept


class World:
    """Servers, clients and a Redis.

    Args:
        plan: What happens.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.clock = Clock()
        self.laws = Laws(self.clock, plan.attempts)
        self.laws.owners.lapse_seconds = plan.lease_seconds
        self.chance = random.Random(f"world {plan.seed}")
        self.story: deque[tuple[float, str, tuple[Any, ...]]] = deque(maxlen=STORY)
        self.steps = 0
        self._away = 0
        self._calm = False
        self.parted: list[RedisProcess] = []  # old primaries that serve on
        self.ending = False
        self._stopped_at: dict[Life, float] = {}
        self.down: dict[str, float] = {}  # for how long the next end of a server lasts
        self.gone: set[str] = set()  # servers that never come back
        self._tokens: dict[str, bytes] = {}  # of the last life of a name, where its host is there
        self.take_redis(Store(self.laws.removed, self.laws.owners.moved), plan.clock_ahead)
        self._faults = Faults(self)
        self.lives: dict[str, Life] = {}
        self._lived: Counter[str] = Counter()
        for server in plan.servers:
            self._start(server)
        self.clients = [Client(self, each) for each in plan.clients]

    @property
    def struck(self) -> Counter[str]:
        """How many faults of each kind have struck."""
        return self._faults.struck

    @property
    def refuses(self) -> bool:
        """Whether Redis refuses connects, or isn't there."""
        return self._away > 0

    def run(self) -> None:
        """Let the plan come true.

        Raises:
            Broken: A law is broken.
        """
        if self.plan.ends_without_redis:
            self._end_without_redis()
            return
        self.clock.run(STORM_SECONDS + CALM_SECONDS + LONGEST_FAULT * self.plan.lease_seconds)
        self._calm = True
        self._wait_for_rest()
        self._probe()
        self._stop_all()

    def note(self, sentence: str, *values: Any) -> None:
        """Add a line to the story."""
        self.story.append((self.clock.now, sentence, values))

    def way_to_redis(self, chance: random.Random) -> tuple[float, bool]:
        """Tell how long an attempt to connect takes, and whether it reaches a Redis."""
        seconds = 0.0005 + 0.002 * chance.random()
        if self.refuses:
            return seconds, False
        stands_still = self.redis.stopped_until - self.clock.now
        if stands_still > CONNECT_SECONDS:
            return CONNECT_SECONDS, False
        return max(seconds, stands_still), True

    def strike(self, actor: Life | Client, at: Session | Connection) -> bool:
        """Count a step, and let the faults strike that are planned for it; tell whether it lives on."""
        self.steps += 1
        if not (self._calm or self.ending):
            self._faults.strike(actor, at)
        return not actor.over

    def life_over(
        self, life: Life, *, killed_by: bytes | None = None, host_lost: bool = False
    ) -> None:
        """Start a server again that has ended or died, unless it is gone for good."""
        self.laws.life_over(life, killed_by)
        error = next((part.error for part in life.parts if part.error), None)
        self.note("{} has ended: {}", life, error or "it was stopped or killed")
        self._stopped_at.pop(life.parts[0], None)
        if host_lost:
            self._tokens.pop(life.name, None)
        down = self.down.pop(life.name, 1.0)
        if not self.ending and life.name not in self.gone:
            self.clock.after(down, self._start, life.settings)

    def stop(self, life: Life) -> None:
        """Tell a server to stop."""
        if not life.stopping:
            self._stopped_at[life.parts[0]] = self.clock.now
            self.note("{} is told to stop", life)
            life.stop()

    def take_redis(self, store: Store, clock_offset: float) -> None:
        """Let another Redis serve."""
        self.redis = RedisProcess(self.clock, self.laws, store)
        self.redis.clock_offset = clock_offset
        self.laws.expiry.clock_is(clock_offset)
        self.redis.saves_memory = self.plan.seed % 2 == 0
        self.laws.store = self.laws.owners.store = store
        self.laws.kept.redis = self.redis

    def part_redis(self, store: Store, seconds: float) -> None:
        """Let a replica serve, while those who are connected to the old primary stay there for some seconds."""
        old = self.redis
        self.take_redis(store, old.clock_offset)
        old.part(self.redis)
        self.laws.restored(store)
        self.parted.append(old)
        self.clock.after(seconds, self._demote, old)

    def hand_over(self, giver: Client, call: Call, handle: str) -> None:
        """Have somebody else collect a result by its handle, after a while, whether or not the giver lives."""
        if call.collect is not None:
            self.clock.after(call.collect.after, self._collect, giver, call, handle)

    def refuse(self, seconds: float) -> None:
        """Let nobody connect to Redis for some seconds."""
        self._away += 1
        self.clock.after(seconds, self._is_back)

    def _demote(self, old: RedisProcess) -> None:
        self.parted.remove(old)
        old.demote(self.redis)
        # Sentinel ends all connections then. Who was subscribed has missed what was published elsewhere.
        for connection in old.connections:
            if connection.subscribed or self.chance.random() < 0.5:
                connection.cut()
        self.note("The old primary is demoted, and has lost what it has accepted since")

    def _collect(self, giver: Client, call: Call, handle: str) -> None:
        others = [
            each
            for each in self.clients
            if each is not giver and each.queue == giver.queue and not each.over
        ]
        if not others:
            name = f"collector-{len(self.clients)}"
            others = [Client(self, plan.Client(name, 2, (), giver.queue))]
            self.clients += others
        self.chance.choice(others).collect(call, handle)

    def _is_back(self) -> None:
        self._away -= 1

    def _start(self, settings: Server) -> None:
        if not self.ending:
            former = None if settings.fresh else self._tokens.get(settings.name)
            number = self._lived[settings.name]
            life = self.lives[settings.name] = Life(self, settings, number, former)
            if settings.shares is not None:
                Life(self, settings, number, former, life)
            self._lived[settings.name] += 1
            self._tokens[settings.name] = life.token
            for part in life.parts:
                self.laws.owners.begins(part)
            life.begin()

    def _wait_for_rest(self) -> None:
        limit = self.clock.now + 120.0 + LONGEST_HANDLER_SECONDS * len(self.laws.jobs)
        while not self._quiet() and self.clock.now < limit:
            self.clock.run(self.clock.now + TURN_SECONDS)
        self.clock.run(self.clock.now + 2 * TURN_SECONDS)
        limit = self.clock.now + GRACE_SECONDS + 4 * self.plan.lease_seconds
        while self.laws.owners.nobodys(self.redis.store) and self.clock.now < limit:
            self.clock.run(self.clock.now + TURN_SECONDS)
        for life, since in self._stopped_at.items():
            raise Broken("each stop ends", f"{life} was told to stop at {since:.3f} s, and serves")
        self._check_callers()
        self.laws.at_rest(faults=bool(self.struck))
        self.laws.owners.at_rest(self.redis.store)

    def _quiet(self) -> bool:
        lists = self.redis.store.lists()
        return not (lists.keys() - {*DEAD}) and not any(
            self._waiting(each) for each in self.clients
        )

    def _waiting(self, client: Client) -> list[str]:
        return [call.job.name for call in client.unsettled.values() if not self._may_wait(call)]

    def _may_wait(self, call: Call) -> bool:
        if call.collects:  # what isn't kept any more can't be told from what isn't answered yet
            return self.refuses or not self.laws.kept.there(call.job)
        return call.job.may_wait

    def _check_callers(self) -> None:
        for client in self.clients:
            for name in self._waiting(client):
                raise Broken("no caller waits for ever", f"the caller of {name} waits at rest")

    def _probe(self) -> None:
        living = [each for each in self.clients if not each.over]
        for _ in range(2):  # the first may find out that Redis is elsewhere
            for client in living:
                client.push(Push(self.clock.now, 1, "answer", None, None))
            self.clock.run(self.clock.now + 2 * TURN_SECONDS)
            self._check_callers()
        for client in living:
            if client.last_told is not None:
                raise Broken("serves again", f"{client} is told {client.last_told!r} at rest")

    def _stop_all(self) -> None:
        self.ending = True
        lives = [each for each in self.lives.values() if not each.over]
        for life in lives:
            self.stop(life)
        self.clock.run(self.clock.now + STOP_SECONDS)
        for life in lives:
            if not life.over:
                raise Broken("each stop ends", f"{life} serves {STOP_SECONDS:g} s after its stop")
            for part in life.parts:
                if part.error is not None:
                    raise Broken("each stop ends", f"{part} ends by {part.error!r} at rest")
        for client in self.clients:
            client.close()
        self.laws.owners.when_all_have_stopped(self.redis.store, self.redis.now_ms)
        for queue in QUEUES:
            self.redis.store.execute((b"LPUSH", queue, b"nobody's"), self.redis.now_ms)
        if self.redis.claims():
            raise Broken(
                "no claim after the stop", "a claim still blocks when all servers have ended"
            )
        self.clock.run(self.clock.now + TURN_SECONDS)
        left = {key: each for key, each in self.redis.store.lists().items() if key not in DEAD}
        if left != {queue: [b"nobody's"] for queue in QUEUES}:
            raise Broken(
                "no claim after the stop", "a job leaves the queue when all servers have ended"
            )

    def _end_without_redis(self) -> None:
        self.clock.run(self.chance.uniform(0, STORM_SECONDS))
        self.note("Redis is gone for good, and all servers are told to stop")
        self.ending = True
        self._away += 1
        for redis in (self.redis, *self.redis.replicas, *self.parted):
            for connection in redis.connections:
                connection.cut()
        lives = [each for each in self.lives.values() if not each.over]
        for life in lives:
            self.stop(life)
        longest = max((self._drains(life) for life in lives), default=0.0)
        self.clock.run(self.clock.now + STOP_SECONDS + CALM_SECONDS + longest)
        for life in lives:
            if not life.over:
                raise Broken("each stop ends", f"{life} serves on although Redis is gone")
        self.clock.run(self.clock.now + STORM_SECONDS)
        self._check_callers()

    def _drains(self, life: Life) -> float:
        settings = life.settings
        each = LONGEST_HANDLER_SECONDS / settings.concurrency
        return each * max(settings.prefetch, settings.concurrency)
