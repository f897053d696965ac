"""How the faults of a plan strike: an actor at a step, Redis at a time; and what they excuse."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from simulation.network import Connection
from simulation.plan import GRACE_SECONDS
from simulation.server import Life

if TYPE_CHECKING:
    from simulation.client import Client
    from simulation.plan import Fault
    from simulation.redis_process import RedisProcess
    from simulation.session import Session
    from simulation.store import Store
    from simulation.world import World

DEATHS = {"kill", "lose host", "kill for good"}
# No lease lapses by these while its server lives.
HARMLESS = {*DEATHS, "stop", "fill", "forbid publish", "refuse subscriptions"}
# When a fault is over, until each lease is renewed, or its server has noticed that it has lapsed.
LAPSE_SECONDS = 25.0


class Faults:
    """The faults of one world.

    Args:
        world: Where they strike.
    """

    def __init__(self, world: World) -> None:
        self.struck: Counter[str] = Counter()
        self._world = world
        self._by_step: dict[tuple[str, bool, int], list[Fault]] = {}
        self._steps: Counter[tuple[str, bool]] = Counter()
        self._snapshots: dict[Fault, Store] = {}
        for fault in world.plan.faults:
            self._plan(fault)

    def strike(self, actor: Life | Client, at: Session | Connection) -> None:
        """Count a step, and let the faults strike that are planned for it."""
        counted = [(actor.name, False)]
        if isinstance(actor, Life) and self._world.redis.store.entries(actor.keys.in_process):
            counted.append((actor.name, True))
        self._steps.update(counted)
        for name in counted:
            for fault in self._by_step.get((*name, self._steps[name]), ()):
                if actor.over:
                    return
                self._note(fault)
                connection = at if isinstance(at, Connection) else at.connection
                if connection is not None:
                    self._hit_connection(connection, fault)
                if isinstance(actor, Life):
                    self._hit_server(actor, fault)
                else:
                    lasts, _, seconds = fault.values
                    actor.disturbed_until = self._world.laws.kept.over_at(lasts + seconds)
                    self._hit_client(actor, fault)

    def _plan(self, fault: Fault) -> None:
        if fault.step:
            at = (fault.target, fault.busy, fault.step)
            self._by_step.setdefault(at, []).append(fault)
            return
        if fault.kind in {"restart older", "fail over"}:
            self._world.clock.at(fault.at - fault.values[2], self._keep, fault)
        self._world.clock.at(fault.at, self._hit_redis, fault)

    def _keep(self, fault: Fault) -> None:
        self._snapshots[fault] = self._world.redis.store.copy()

    def _note(self, fault: Fault) -> None:
        self.struck[fault.kind] += 1
        self._world.note("FAULT {}", fault)
        if not fault.step:
            self._world.laws.kept.disturb(fault.values[0] + fault.values[2])
        lasts, fraction, seconds = fault.values
        owners = self._world.laws.owners
        if fault.kind == "restart":  # it is away, and then loads its data
            lasts += lasts * fraction
        # While Redis is full, a lease that has lapsed before can't be taken again.
        if fault.kind not in HARMLESS or (fault.kind == "fill" and owners.excused):
            owners.excuse(lasts + seconds + LAPSE_SECONDS)
        if fault.kind == "fill":
            owners.full(lasts)

    def _hit_server(self, life: Life, fault: Fault) -> None:
        if fault.kind in DEATHS:
            self._world.down[life.name] = fault.values[0]
            if fault.kind == "kill for good" and self._can_do_without(life):
                self._world.gone.add(life.name)
            life.kill(host_lost=fault.kind == "lose host")
            self._world.life_over(life, host_lost=fault.kind == "lose host")
        elif fault.kind == "pause":
            life.pause(fault.values[0])
        elif fault.kind == "stop":
            self._world.stop(life)
        elif fault.kind == "stop for good":
            if self._can_do_without(life):
                self._world.gone.add(life.name)
            self._world.stop(life)

    def _can_do_without(self, life: Life) -> bool:
        """Whether a server never has to come back: another one adopts what it leaves."""
        return life.lease is not None and any(
            each.takeover and each.name not in {life.name, *self._world.gone}
            for each in self._world.plan.servers
        )

    def _hit_client(self, client: Client, fault: Fault) -> None:
        if fault.kind == "kill":
            client.kill()
        elif fault.kind == "pause":
            client.pause(fault.values[0])
        elif fault.kind == "listen late":
            client.listens_late_seconds = fault.values[0]

    def _hit_connection(self, connection: Connection, fault: Fault) -> None:
        lasts, fraction, seconds = fault.values
        match fault.kind:
            case "cut" | "listen late":
                connection.cut_next_write(fraction, seconds)
            case "die":
                self._world.clock.after(seconds, connection.die, lasts, None)
            case "be late" | "stop for good":
                connection.be_late(lasts)
            case "hold":
                connection.hold(lasts)

    def _hit_redis(self, fault: Fault) -> None:
        if self._world.ending:
            return
        self._note(fault)
        world, redis = self._world, self._world.redis
        lasts, fraction, older = fault.values
        match fault.kind:
            case "restart":
                self._restart(redis.store, lasts, lasts * fraction)
            case "restart older":
                self._restart(self._snapshots.pop(fault), lasts, 0.0)
                world.laws.restored(world.redis.store)
            case "freeze":
                redis.stop(lasts)
            case "fail over":
                world.take_redis(self._snapshots.pop(fault), redis.clock_offset)
                redis.demote(world.redis)
                if older:
                    world.laws.restored(world.redis.store)
            case "step clock":
                seconds = 20 * lasts
                if world.plan.lease_seconds:  # by less than G, or a command is later than that
                    seconds = min(seconds, GRACE_SECONDS / 4)
                world.laws.owners.clock_was_set = True
                redis.step_clock(seconds * (1 if fraction > 0.5 else -1))
            case "refuse connects":
                world.refuse(lasts)
            case _:
                self._switch_on(redis, fault.kind, lasts)

    def _switch_on(self, redis: RedisProcess, kind: str, seconds: float) -> None:
        switch = {
            "fill": "full",
            "refuse subscriptions": "refuses_subscriptions",
            "forbid publish": "forbids_publish",
        }[kind]
        setattr(redis, switch, True)
        self._world.clock.after(seconds, _switch_off, redis, switch)
        if kind == "refuse subscriptions":  # Redis ends those that an ACL allows no more
            for connection in redis.connections:
                if connection.subscribed:
                    connection.cut()

    def _restart(self, store: Store, away: float, loading: float) -> None:
        world, before = self._world, self._world.redis
        world.take_redis(store, before.clock_offset)
        world.redis.succeed(before)
        world.refuse(away)
        world.redis.loading = True
        world.clock.after(away + loading, _switch_off, world.redis, "loading")
        for connection in before.connections:
            connection.cut()


def _switch_off(redis: RedisProcess, switch: str) -> None:
    setattr(redis, switch, False)
