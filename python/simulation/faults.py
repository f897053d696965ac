"""How the faults of a plan strike: an actor at a step, Redis at a time; and what they excuse."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from simulation.network import Connection
from simulation.plan import GRACE_SECONDS, STORM_SECONDS
from simulation.sent import kinds_of
from simulation.server import Life

if TYPE_CHECKING:
    from simulation.client import Client
    from simulation.plan import Fault
    from simulation.redis_process import RedisProcess
    from simulation.session import Session
    from simulation.store import Store
    from simulation.world import World

DEATHS = {"kill", "lose host", "kill for good", "kill late"}
# No lease lapses by these while its server lives.
HARMLESS = {*DEATHS, "stop", "fill", "forbid publish", "refuse subscriptions"}
# When a fault is over, until each lease is renewed, or its server has noticed that it has lapsed.
LAPSE_SECONDS = 25.0
LAST_ARRIVAL = STORM_SECONDS + 10.0  # of what is late


class Faults:
    """The faults of one world.

    Args:
        world: Where they strike.
    """

    def __init__(self, world: World) -> None:
        self.struck: Counter[str] = Counter()
        self._world = world
        self._waiting: defaultdict[str, dict[Fault, int]] = defaultdict(dict)  # how many steps more
        self._snapshots: dict[Fault, Store] = {}
        for fault in world.plan.faults:
            self._plan(fault)

    def strike(self, actor: Life | Client, at: Session | Connection) -> None:
        """Count a step, and let the faults strike that are planned for it."""
        waiting = self._waiting[actor.name]
        if not waiting:
            return
        kinds = {"steps"}
        if isinstance(actor, Life) and not isinstance(at, Connection):
            kinds |= kinds_of(at.waits_for)
            if self._world.redis.store.entries(actor.keys.in_process):
                kinds.add("busy steps")
        for fault in list(waiting):
            if fault.counts not in kinds or self._world.clock.now < fault.at:
                continue
            waiting[fault] -= 1
            if not waiting[fault]:
                del waiting[fault]
                if not actor.over:
                    self._hit(actor, at, fault)

    def _hit(self, actor: Life | Client, at: Session | Connection, fault: Fault) -> None:
        self._note(fault)
        connection = at if isinstance(at, Connection) else at.connection
        if connection is not None:
            self._hit_connection(connection, fault)
        if isinstance(actor, Life):
            assert not isinstance(at, Connection)
            self._hit_server(actor, fault, at)
        else:
            lasts, _, seconds = fault.values
            actor.disturbed_until = self._world.laws.kept.over_at(lasts + seconds)
            self._hit_client(actor, fault)

    def _plan(self, fault: Fault) -> None:
        if fault.step:
            self._waiting[fault.target][fault] = fault.step
            return
        if fault.kind in {"restart older", "fail over", "part"}:
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

    def _hit_server(self, life: Life, fault: Fault, at: Session) -> None:
        if fault.kind in DEATHS:
            self._world.down[life.name] = fault.values[0]
            if fault.kind == "kill late":
                at.send_late(self._late(fault.values[2]))
            if fault.kind == "kill for good" and self._can_do_without(life):
                self._world.gone.add(life.name)
            life.kill(host_lost=fault.kind == "lose host")
            self._world.life_over(life, host_lost=fault.kind == "lose host")
        elif fault.kind == "pause":
            life.pause(fault.values[0])
        elif fault.kind == "stop":
            self._world.down[life.name] = fault.values[0]
            self._world.stop(life)
        elif fault.kind == "stop for good":
            if self._can_do_without(life):
                self._world.gone.add(life.name)
            self._world.stop(life)

    def _late(self, seconds: float) -> float:
        """How much later something may arrive: not when all has to come to rest."""
        return min(seconds, max(0.0, LAST_ARRIVAL - self._world.clock.now))

    def _can_do_without(self, life: Life) -> bool:
        """Whether a server never has to come back: another one adopts what it leaves."""
        return life.lease is not None and any(
            each.takeover
            and each.name not in {life.name, *self._world.gone}
            and (each.shares or not life.settings.shares)
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
                connection.be_late(self._late(lasts))
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
            case "part":
                world.part_redis(self._snapshots.pop(fault), lasts)
            case "step clock":
                self._step_clock(redis, 20 * lasts, ahead=fraction > 0.5)
            case "refuse connects":
                world.refuse(lasts)
            case _:
                self._switch_on(redis, fault.kind, lasts)

    def _step_clock(self, redis: RedisProcess, seconds: float, *, ahead: bool) -> None:
        if self._world.plan.lease_seconds:  # by less than G, or a command is later than that
            seconds = min(seconds, GRACE_SECONDS / 4)
        self._world.laws.owners.clock_was_set = True
        for each in (redis, *self._world.parted):
            each.step_clock(seconds if ahead else -seconds)

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
