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

from simulation.client import Client
from simulation.clock import Clock
from simulation.laws import Broken, Laws
from simulation.network import Connection
from simulation.plan import STORM_SECONDS, Push
from simulation.redis_process import RedisProcess
from simulation.server import Life
from simulation.store import Store

if TYPE_CHECKING:
    from simulation.plan import Fault, Plan, Server
    from simulation.server import Session

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
        self.laws = Laws(self.clock, b"q", b"q:dead", plan.attempts)
        self.chance = random.Random(f"world {plan.seed}")
        self.story: deque[tuple[float, str, tuple[Any, ...]]] = deque(maxlen=STORY)
        self.struck: Counter[str] = Counter()
        self.steps = 0
        self._away = 0
        self._calm = False
        self._ending = False
        self._by_step: dict[tuple[str, int], list[Fault]] = {}
        self._steps: Counter[str] = Counter()
        self._stopped_at: dict[Life, float] = {}
        self._down: dict[str, float] = {}
        self._snapshots: dict[Fault, Store] = {}
        self._take_redis(Store(self.laws.removed))
        for fault in plan.faults:
            self._plan(fault)
        self.lives: dict[str, Life] = {}
        self._lived: Counter[str] = Counter()
        for server in plan.servers:
            self._start(server)
        self.clients = [Client(self, each) for each in plan.clients]

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
        self.clock.run(STORM_SECONDS + CALM_SECONDS)
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
        self._steps[actor.name] += 1
        if self._calm or self._ending:
            return True
        for fault in self._by_step.get((actor.name, self._steps[actor.name]), ()):
            connection = at if isinstance(at, Connection) else at.connection
            self.struck[fault.kind] += 1
            self.note("FAULT {}", fault)
            self._hit(actor, connection, fault)
            if actor.over:
                return False
        return True

    def life_over(self, life: Life, killed_by: bytes | None = None) -> None:
        """Start a server again that has ended or died."""
        self.laws.life_over(killed_by)
        self.note("{} has ended: {}", life, life.error or "it was stopped or killed")
        self._stopped_at.pop(life, None)
        if not self._ending:
            self.clock.after(self._down.pop(life.name, 1.0), self._start, life.settings)

    def _start(self, settings: Server) -> None:
        if not self._ending:
            life = Life(self, settings, self._lived[settings.name])
            self.lives[settings.name] = life
            self._lived[settings.name] += 1
            life.begin()

    def _take_redis(self, store: Store) -> None:
        self.redis = RedisProcess(self.clock, self.laws, store)
        self.redis.saves_memory = self.plan.seed % 2 == 0
        self.laws.store = store

    def _plan(self, fault: Fault) -> None:
        if fault.step:
            self._by_step.setdefault((fault.target, fault.step), []).append(fault)
            return
        if fault.kind in {"restart older", "fail over"}:
            self.clock.at(fault.at - fault.values[2], self._keep, fault)
        self.clock.at(fault.at, self._hit_redis, fault)

    def _keep(self, fault: Fault) -> None:
        self._snapshots[fault] = self.redis.store.copy()

    def _hit(self, actor: Life | Client, connection: Connection | None, fault: Fault) -> None:
        lasts, fraction, seconds = fault.values
        match fault.kind:
            case "kill" if isinstance(actor, Client):
                actor.kill()
            case "kill" | "lose host" if isinstance(actor, Life):
                self._down[actor.name] = lasts
                actor.kill(host_lost=fault.kind == "lose host")
                self.life_over(actor)
            case "pause":
                actor.pause(lasts)
            case "stop" if isinstance(actor, Life):
                self._stop(actor)
            case "cut" if connection is not None:
                connection.cut_next_write(fraction, seconds)
            case "die" if connection is not None:
                self.clock.after(seconds, connection.die, lasts, None)
            case "be late" if connection is not None:
                connection.be_late(lasts)
            case "hold" if connection is not None:
                connection.hold(lasts)

    def _hit_redis(self, fault: Fault) -> None:
        if self._ending:
            return
        self.struck[fault.kind] += 1
        self.note("FAULT {}", fault)
        lasts, fraction, older = fault.values
        redis = self.redis
        match fault.kind:
            case "restart":
                self._restart(redis.store, lasts, lasts * fraction)
            case "restart older":
                self._restart(self._snapshots.pop(fault), lasts, 0.0)
                self.laws.restored(self.redis.store)
            case "freeze":
                redis.stop(lasts)
            case "fail over":
                self._take_redis(self._snapshots.pop(fault))
                self.redis.replicas = redis.replicas
                redis.demote(self.redis)
                if older:
                    self.laws.restored(self.redis.store)
            case "step clock":
                redis.step_clock(20 * lasts * (1 if fraction > 0.5 else -1))
            case "refuse connects":
                self._away += 1
                self.clock.after(lasts, self._is_back)
            case _:
                switch = {
                    "fill": "full",
                    "refuse subscriptions": "refuses_subscriptions",
                    "forbid publish": "forbids_publish",
                }[fault.kind]
                setattr(redis, switch, True)
                self.clock.after(lasts, _switch_off, redis, switch)

    def _restart(self, store: Store, away: float, loading: float) -> None:
        before = self.redis
        self._take_redis(store)
        self.redis.clock_offset = before.clock_offset
        self.redis.replicas = before.replicas
        self._away += 1
        self.clock.after(away, self._is_back)
        self.redis.loading = True
        self.clock.after(away + loading, _switch_off, self.redis, "loading")
        for connection in before.connections:
            connection.cut()

    def _is_back(self) -> None:
        self._away -= 1

    def _stop(self, life: Life) -> None:
        if not life.stopping:
            self._stopped_at[life] = self.clock.now
            self.note("{} is told to stop", life)
            life.stop()

    def _wait_for_rest(self) -> None:
        limit = self.clock.now + 120.0 + LONGEST_HANDLER_SECONDS * len(self.laws.jobs)
        while not self._quiet() and self.clock.now < limit:
            self.clock.run(self.clock.now + TURN_SECONDS)
        self.clock.run(self.clock.now + 2 * TURN_SECONDS)
        for life, since in self._stopped_at.items():
            raise Broken("each stop ends", f"{life} was told to stop at {since:.3f} s, and serves")
        self._check_callers()
        self.laws.at_rest(faults=bool(self.struck))

    def _quiet(self) -> bool:
        lists = self.redis.store.lists()
        return not (lists.keys() - {b"q:dead"}) and not any(
            self._waiting(each) for each in self.clients
        )

    def _waiting(self, client: Client) -> list[str]:
        calls = client.unsettled.values()
        return [each.job.name for each in calls if not each.job.may_wait]

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
        self._ending = True
        lives = [each for each in self.lives.values() if not each.over]
        for life in lives:
            self._stop(life)
        self.clock.run(self.clock.now + STOP_SECONDS)
        for life in lives:
            if not life.over:
                raise Broken("each stop ends", f"{life} serves {STOP_SECONDS:g} s after its stop")
            if life.error is not None:
                raise Broken("each stop ends", f"{life} ends by {life.error!r} at rest")
        for client in self.clients:
            client.close()
        self.redis.store.execute((b"LPUSH", b"q", b"nobody's"), self.redis.now_ms)
        if self.redis.claims():
            raise Broken(
                "no claim after the stop", "a claim still blocks when all servers have ended"
            )
        self.clock.run(self.clock.now + TURN_SECONDS)
        if self.redis.store.lists() | {b"q:dead": []} != {b"q": [b"nobody's"], b"q:dead": []}:
            raise Broken(
                "no claim after the stop", "a job leaves the queue when all servers have ended"
            )

    def _end_without_redis(self) -> None:
        self.clock.run(self.chance.uniform(0, STORM_SECONDS))
        self.note("Redis is gone for good, and all servers are told to stop")
        self._ending = True
        self._away += 1
        for connection in self.redis.connections:
            connection.cut()
        lives = [each for each in self.lives.values() if not each.over]
        for life in lives:
            self._stop(life)
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


def _switch_off(redis: RedisProcess, switch: str) -> None:
    setattr(redis, switch, False)
