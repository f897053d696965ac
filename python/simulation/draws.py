"""What a seed means: the plan that is drawn by it.

Pure. `storm` has the faults that are to follow each other.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from jobqueue.core.sharing import ORDERS

from simulation.names import QUEUE, SECOND
from simulation.plan import (
    COUNTED,
    LONGEST_FAULT,
    STORM_SECONDS,
    Client,
    Collect,
    Fault,
    Plan,
    Push,
    Server,
)
from simulation.storm import BURSTS, schedule

LARGE_EVERY = 500  # each so many seeds, a world of hundreds


class Mix(NamedTuple):
    """What kinds of faults strike servers, and how many of all faults strike servers and clients."""

    kinds: tuple[str, ...]
    servers: float
    clients: float


METHODS = ("answer",) * 8 + ("refuse", "crash", "no-json", "unknown", "forbidden", "malformed")
LEASES = (None, 2.0, 8.0)  # None: no server has takeover
EXPIRIES = (0.003, 0.05, 0.5, 3.0, 20.0)
KEEPS = (0.5, 5.0, 60.0, 60.0)
TIMEOUTS = (None, None, 0.05, 1.0, 10.0, 30.0)

ON_SERVERS = (
    "kill",
    "kill",
    "lose host",
    "pause",
    "stop",
    "cut",
    "cut",
    "cut",
    "die",
    "be late",
    "hold",
    "kill for good",
    "stop for good",
    "kill late",
)
LAPSES = {
    "pause",
    "be late",
    "stop for good",
    "restart",
    "freeze",
    "fill",
    "refuse connects",
    "part",
}
ON_CLIENTS = ("pause", "cut", "cut", "die", "hold", "kill", "listen late")
ON_REDIS = (
    "restart",
    "restart older",
    "freeze",
    "fill",
    "fail over",
    "part",
    "step clock",
    "refuse connects",
    "refuse subscriptions",
    "forbid publish",
)


def draw(seed: int) -> Plan:
    """Draw a plan."""
    chance = random.Random(f"plan {seed}")
    large = seed % LARGE_EVERY == LARGE_EVERY - 1
    lease = chance.choice(LEASES)
    storms = lease is not None and chance.random() < 0.6
    servers = tuple(
        _server(chance, number, lease, hoards=storms)
        for number in range(150 if large else chance.choice((1, 1, 2, 3, 6)))
    )
    shares = not large and chance.random() < 0.2
    if shares:
        servers = _sharing(chance, servers)
    if chance.random() < (0.4 if shares else 0.1):
        servers = _with_twin(chance, servers)
    clients = tuple(
        _client(chance, number, shares=shares)
        for number in range(100 if large else chance.choice((1, 1, 2, 4)))
    )
    scheduled, few = schedule(chance, servers, lease if storms else None)
    number = chance.choice((0, 1, 2, 3) if scheduled else (0, 1, 2, 3, 5, 8, 13))
    number = 300 if large else number
    # Few kinds of faults meet in ways in which many hide each other.
    kinds = tuple(chance.sample(ON_SERVERS, 3)) if chance.random() < 0.4 else ON_SERVERS
    mix = Mix(kinds, 0.6, 0.2) if chance.random() < 0.7 else Mix(kinds, 0.15, 0.75)
    faults = [_fault(chance, mix, servers, clients, lease or 0.0) for _ in range(number)]
    faults += scheduled
    attempts = few or chance.choice((0, 1, 3, 3, 4))
    if attempts and chance.random() < 0.4:
        clients = (*clients, _killer(chance))
    if chance.random() < (0.7 if scheduled else 0.3):
        clients = (*clients, _steady(bursts=bool(scheduled)))
    if chance.random() < 0.3:
        clients = (*clients, _patient())
        faults += _two_losses(chance)
    without_redis = chance.random() < 0.1
    ahead = chance.choice((0.0, 1.0, 30.0, 3_600.0)) * chance.uniform(-1, 1)
    return Plan(seed, servers, clients, tuple(faults), attempts, lease or 0.0, without_redis, ahead)


def _server(chance: random.Random, number: int, lease: float | None, *, hoards: bool) -> Server:
    longest = 5.0 if lease is None else lease / 3
    takeover = lease is not None and chance.random() < 0.9
    return Server(
        f"server-{number + 1}",
        chance.choice((1, 1, 1, 2, 3, 12)),
        150
        if chance.random() < 0.02
        else chance.choice((1, 2, 5, 12) if hoards else (1, 1, 1, 2, 5)),
        min(chance.choice((0.3, 0.5, 2.0, 2.0, 5.0)), longest),
        takeover=takeover,
        fresh=takeover and chance.random() < 0.6,
    )


def _sharing(chance: random.Random, servers: tuple[Server, ...]) -> tuple[Server, ...]:
    """Let some servers, the first one at least, serve both queues."""
    return tuple(
        each._replace(shares=chance.choice(ORDERS)) if not number or chance.random() < 0.6 else each
        for number, each in enumerate(servers)
    )


def _with_twin(chance: random.Random, servers: tuple[Server, ...]) -> tuple[Server, ...]:
    """Let another host have a server of the same name by mistake, of two queues rather than of one."""
    able = [each for each in servers if each.takeover]
    sharing = [each for each in able if each.shares]
    if not able:
        return servers
    first = chance.choice(sharing or able)
    named = first._replace(fresh=False)
    others = (named if each is first else each for each in servers)
    return (*others, named._replace(name=f"{first.name}-twin", twin=first.name))


def _client(chance: random.Random, number: int, *, shares: bool) -> Client:
    keeps = chance.random() < 0.5
    pushes = [_push(chance, keeps=keeps) for _ in range(chance.choice((1, 3, 10, 30)))]
    links = chance.choice((1, 1, 2))
    queue = SECOND if shares and chance.random() < 0.5 else QUEUE
    return Client(f"client-{number + 1}", links, tuple(pushes), queue)


def _push(chance: random.Random, *, keeps: bool) -> Push:
    keep = chance.choice(KEEPS) if keeps and chance.random() < 0.7 else None
    return Push(
        at=chance.uniform(0, STORM_SECONDS) * chance.choice((1.0, chance.random())),
        jobs=chance.choice((1, 1, 1, 2, 5, 200 if chance.random() < 0.02 else 10)),
        method=chance.choice(METHODS),
        timeout=chance.choice(TIMEOUTS),
        cancel_after=chance.uniform(0, 1) if chance.random() < 0.05 else None,
        expires=chance.choice(EXPIRIES) if chance.random() < 0.15 else None,
        keep=keep,
        collect=_collect(chance) if keep is not None and chance.random() < 0.4 else None,
    )


def _collect(chance: random.Random) -> Collect:
    after = chance.choice((0.0, 0.01, 1.0, 30.0)) * chance.random()
    return Collect(after, chance.choice(TIMEOUTS), delete=chance.random() < 0.2)


def _killer(chance: random.Random) -> Client:
    """Make a client with one job that kills whoever runs it."""
    push = Push(chance.uniform(0, STORM_SECONDS / 2), 1, "kill", None, None)
    return Client("killer", 1, (push,))


def _steady(*, bursts: bool) -> Client:
    """Make a client that pushes a job again and again, so that no late claim finds the queue empty."""
    pushes = [Push(0.3 * number, 1, "answer", None, None) for number in range(100)]
    pushes += [Push(at, 15, "answer", None, None) for at in BURSTS if bursts]
    return Client("steady", 1, tuple(pushes))


def _patient() -> Client:
    """Make a client with two links that waits long for its results, which are kept."""
    at = [0.5 * number for number in range(50)]
    pushes = [Push(each, 1, "answer", None, None, keep=60.0) for each in at]
    return Client("patient", 2, tuple(pushes))


def _two_losses(chance: random.Random) -> list[Fault]:
    """Have the patient client lose two connections, soon one after the other."""
    first = chance.randint(2, 50)
    at = (first, first + chance.randint(1, 10))
    return [
        Fault("listen late", "patient", step, "steps", 0.0, (lasts, 1.0, 0.0))
        for step, lasts in zip(at, (0.1 * chance.random(), 4 * chance.random()), strict=True)
    ]


def _fault(
    chance: random.Random,
    mix: Mix,
    servers: tuple[Server, ...],
    clients: tuple[Client, ...],
    lease: float,
) -> Fault:
    group = chance.random()
    counts = chance.choice(("steps", "busy steps"))
    step = chance.randint(
        1, chance.choice((10, 30, 100, 300) if counts == "steps" else (3, 10, 30))
    )
    at = chance.uniform(0, STORM_SECONDS)
    lasts = chance.choice((0.01, 0.5, 3.0, 8.0)) * chance.random()
    others = (chance.random(), chance.choice((0.0, 0.003, 1.0, 6.0)) * chance.random())
    if group < mix.servers:
        kind, target = chance.choice(mix.kinds), chance.choice(servers).name
        if kind == "kill late":
            counts, step = chance.choice(COUNTED[2:]), chance.choice((1, 1, 2, 5, 20))
    elif group < mix.servers + mix.clients:
        kind, target, counts = chance.choice(ON_CLIENTS), chance.choice(clients).name, "steps"
    else:
        kind, target, step = chance.choice(ON_REDIS), "redis", 0
    if kind in LAPSES and not target.startswith("client") and chance.random() < 0.5:
        lasts = max(lasts, chance.uniform(1, LONGEST_FAULT) * lease)
    return Fault(kind, target, step, counts, 0.0 if step else at, (lasts, *others))
