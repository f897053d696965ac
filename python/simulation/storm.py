"""Schedules: faults that follow each other, which chance alone draws too seldom.

Pure. Each one is what a bug of takeover needs to show; in a right core it does no harm. Steps are counted
by what is sent in them, so that a schedule meets the moment for which it is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from simulation.plan import STORM_SECONDS, Fault

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from simulation.plan import Server


class Schedule(NamedTuple):
    """Faults, and how often servers start what they find, where that matters."""

    faults: tuple[Fault, ...]
    attempts: int | None = None


LATEST = 0.6 * STORM_SECONDS  # when a schedule begins
BURSTS = (5.0, 9.0, 13.0)  # when many jobs come at once


def schedule(chance: random.Random, servers: Sequence[Server], lease: float | None) -> Schedule:
    """Draw a schedule for servers, some of which have takeover."""
    able = [each for each in servers if each.takeover]
    if not able or lease is None:
        return Schedule(())
    chance.shuffle(able)
    draw = chance.choice(SCHEDULES)
    return Schedule(tuple(draw(chance, able, lease)), 1 if draw is _recovers_twice else None)


def _named(servers: list[Server]) -> Server:
    """Prefer a server whose next life has the same name."""
    return next((each for each in servers if not each.fresh), servers[0])


def _greedy(servers: list[Server]) -> Server:
    """Return the server that has most jobs on its list."""
    return max(servers, key=lambda each: max(each.concurrency, each.prefetch))


def _stops_late(chance: random.Random, servers: list[Server], _: float) -> list[Fault]:
    """What a server sends last arrives when its next life has begun."""
    server = _named(servers).name
    late = (chance.uniform(0.1, 12), 0.0, 0.0)
    down = (0.01 * chance.random(), 0.0, 0.0)
    return [
        Fault("be late", server, chance.choice((1, 1, 2)), "ends", 0.0, late),
        Fault("stop", server, chance.randint(1, 40), "steps", 0.0, down),
        Fault("stop", server, chance.randint(60, 200), "steps", 0.0, down),
    ]


def _claims_late(chance: random.Random, servers: list[Server], lease: float) -> list[Fault]:
    """A claim arrives when its server has stopped, and is away for longer."""
    server = servers[0].name
    claim = chance.randint(1, 12)
    late = (chance.uniform(5, 25), 0.0, 0.0)
    away = (late[0] + chance.uniform(0, 3 * lease), 0.0, 0.0)
    return [
        Fault("be late", server, claim, "claims", 0.0, late),
        Fault("stop", server, claim + chance.randint(1, 6), "claims", 0.0, away),
    ]


def _dies_claiming(chance: random.Random, servers: list[Server], _: float) -> list[Fault]:
    """A claim of a dead server arrives much later, perhaps when its next life has stopped."""
    soon = chance.random() < 0.6
    server = (_named(servers) if soon else servers[0]).name
    claim = chance.randint(1, 12)
    late = chance.uniform(5, 30)
    faults = [
        Fault("kill late", server, claim, "claims", 0.0, (0.5 if soon else late + 5, 0.0, late))
    ]
    if soon:
        stop = claim + chance.randint(1, 4)
        faults.append(Fault("stop", server, stop, "claims", 0.0, (late, 0.0, 0.0)))
    return faults


def _dies_adopting(chance: random.Random, servers: list[Server], lease: float) -> list[Fault]:
    """The adoptions of dead servers arrive when their leases have ended."""
    victim = _greedy(servers)
    others = [each for each in servers if each is not victim]
    late = lease * chance.uniform(1, 2) + chance.random()
    away = late + chance.uniform(1, 10)
    at = chance.choice(BURSTS)
    step, down = chance.randint(2, 8), (away + 4 * lease, 0.0, 0.0)
    faults = [Fault("kill", victim.name, step, "busy steps", at, down)]
    for other in others:
        step = chance.choice((2, 2, 3))
        faults.append(Fault("kill late", other.name, step, "adoptions", at, (away, 0.0, late)))
    return faults


def _lapses_twice(chance: random.Random, servers: list[Server], lease: float) -> list[Fault]:
    """A server loses its lease, and soon once more."""
    server = servers[0].name
    at = chance.uniform(0, LATEST / 2)
    again = at + chance.uniform(1, 4) * lease
    how = chance.choice(("kill", "pause"))
    return [
        Fault(how, server, 1, "steps", at, (lease * chance.uniform(1, 2.5), 0.0, 0.0)),
        Fault(how, server, 1, "busy steps", again, (lease * chance.uniform(1.2, 3), 0.0, 0.0)),
    ]


def _parts(chance: random.Random, servers: list[Server], lease: float) -> list[Fault]:
    """A server is connected to the old primary and to the new one."""
    at = chance.uniform(1, LATEST)
    lasts = lease * chance.uniform(1.5, 3)
    parts = Fault("part", "redis", 0, "", at, (lasts, 0.0, chance.choice((0.0, 0.0, 1.0))))
    cuts = [
        Fault("cut", each.name, chance.randint(1, 3), "claims", at, (0.0, chance.random(), 0.0))
        for each in servers
    ]
    return [parts, *cuts]


def _renews_slowly(chance: random.Random, servers: list[Server], lease: float) -> list[Fault]:
    """A renewal arrives when the lease has almost ended; the one before was sent L/4 earlier."""
    slow = (lease * chance.uniform(0.5, 0.74), 0.0, 0.0)
    return [
        Fault("hold", each.name, chance.randint(*number), "renewals", 0.0, slow)
        for each in servers
        for number in ((3, 6), (9, 14))
    ]


def _leaves_much(chance: random.Random, servers: list[Server], _: float) -> list[Fault]:
    """A server dies with many jobs on its list, and new ones come meanwhile."""
    victim = _greedy(servers)
    step, away = chance.randint(2, 8), (60.0, 0.0, 0.0)
    return [Fault("kill", victim.name, step, "busy steps", chance.choice(BURSTS), away)]


def _recovers_twice(chance: random.Random, servers: list[Server], _: float) -> list[Fault]:
    """A server finds what its own late claim has brought; it dies if it counts that."""
    faults = []
    for each in servers:
        at = chance.uniform(0, LATEST)
        late, down = (chance.uniform(0.02, 1), 0.0, 0.0), (0.5, 0.0, 0.0)
        faults += [
            Fault("be late", each.name, 1, "claims", at, late),
            Fault("kill late", each.name, 1, "counts", at, down),
        ]
    return faults


SCHEDULES: tuple[Callable[[random.Random, list[Server], float], list[Fault]], ...] = (
    _stops_late,
    _claims_late,
    _dies_claiming,
    _dies_adopting,
    _lapses_twice,
    _parts,
    _renews_slowly,
    _leaves_much,
    _recovers_twice,
)
