"""What a seed means: who takes part, what is pushed, and which faults strike whom and when.

Pure. A plan holds everything that is decided beforehand, so that a fault can be left out and the
rest stays as it is: that is how a failure is shrunk.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

STORM_SECONDS = 30.0
LARGE_EVERY = 500  # each so many seeds, a world of hundreds
LONGEST_FAULT = 4.0  # L: of those by which leases lapse
GRACE_SECONDS = 60.0  # G: longer than any command is late here


class Server(NamedTuple):
    """The settings of a server."""

    name: str
    concurrency: int
    prefetch: int
    block_seconds: float
    takeover: bool = False
    fresh: bool = False  # whether each life has a new name


class Collect(NamedTuple):
    """How somebody else collects a job's result by its handle."""

    after: float  # so many seconds after its pusher has got the handle
    timeout: float | None
    delete: bool


class Push(NamedTuple):
    """Jobs of one method that are pushed together, or each by itself where they get handles."""

    at: float
    jobs: int
    method: str
    timeout: float | None
    cancel_after: float | None
    expires: float | None = None  # after so many seconds
    keep: float | None = None  # for how many seconds results are kept
    collect: Collect | None = None


class Client(NamedTuple):
    """A client, with one link (RESP3) or two, and its pushes."""

    name: str
    links: int
    pushes: tuple[Push, ...]


class Fault(NamedTuple):
    """One fault.

    It strikes an actor at the step with this number, or something else at this time. Only steps with
    a job on the server's list may be counted: most faults have no effect on an idle server.
    """

    kind: str
    target: str
    step: int  # 0: at the time
    busy: bool  # whether only steps with a job are counted
    at: float
    values: tuple[float, ...]

    def __str__(self) -> str:
        when = f"at its step {self.step}" if self.step else f"at {self.at:.3f} s"
        when += " with a job" if self.busy else ""
        values = " ".join(f"{each:.3g}" for each in self.values)
        return f"{self.kind} {self.target} {when} ({values})"


class Mix(NamedTuple):
    """What kinds of faults strike servers, and how many of all faults strike servers and clients."""

    kinds: tuple[str, ...]
    servers: float
    clients: float


@dataclass(frozen=True)
class Plan:
    """A world's beginning, and what is going to happen to it.

    Attributes:
        seed: Decides also what the plan leaves open: how long each message and handler takes.
        attempts: How often servers start what they find; 0 is without limit.
        lease_seconds: L, for servers with takeover.
        ends_without_redis: Whether Redis is away for good at the end, when all servers are stopped.
        clock_ahead: How many seconds Redis's clock is ahead of all others at the beginning.
    """

    seed: int
    servers: tuple[Server, ...]
    clients: tuple[Client, ...]
    faults: tuple[Fault, ...]
    attempts: int
    lease_seconds: float
    ends_without_redis: bool
    clock_ahead: float = 0.0


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
)
LAPSES = {"pause", "be late", "stop for good", "restart", "freeze", "fill", "refuse connects"}
ON_CLIENTS = ("pause", "cut", "cut", "die", "hold", "kill", "listen late")
ON_REDIS = (
    "restart",
    "restart older",
    "freeze",
    "fill",
    "fail over",
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
    servers = tuple(
        _server(chance, number, lease)
        for number in range(150 if large else chance.choice((1, 1, 2, 3, 6)))
    )
    clients = tuple(
        _client(chance, number) for number in range(100 if large else chance.choice((1, 1, 2, 4)))
    )
    number = 300 if large else chance.choice((0, 1, 2, 3, 5, 8, 13))
    # Few kinds of faults meet in ways in which many hide each other.
    kinds = tuple(chance.sample(ON_SERVERS, 3)) if chance.random() < 0.4 else ON_SERVERS
    mix = Mix(kinds, 0.6, 0.2) if chance.random() < 0.7 else Mix(kinds, 0.15, 0.75)
    faults = [_fault(chance, mix, servers, clients, lease or 0.0) for _ in range(number)]
    attempts = chance.choice((0, 3, 3, 4))
    if attempts and chance.random() < 0.4:
        clients = (*clients, _killer(chance))
    if chance.random() < 0.3:
        clients = (*clients, _steady())
    if chance.random() < 0.3:
        clients = (*clients, _patient())
        faults += _two_losses(chance)
    without_redis = chance.random() < 0.1
    ahead = chance.choice((0.0, 1.0, 30.0, 3_600.0)) * chance.uniform(-1, 1)
    return Plan(seed, servers, clients, tuple(faults), attempts, lease or 0.0, without_redis, ahead)


def _server(chance: random.Random, number: int, lease: float | None) -> Server:
    longest = 5.0 if lease is None else lease / 3
    takeover = lease is not None and chance.random() < 0.9
    return Server(
        f"server-{number + 1}",
        chance.choice((1, 1, 1, 2, 3, 12)),
        150 if chance.random() < 0.02 else chance.choice((1, 1, 1, 2, 5)),
        min(chance.choice((0.3, 0.5, 2.0, 2.0, 5.0)), longest),
        takeover=takeover,
        fresh=takeover and chance.random() < 0.6,
    )


def _client(chance: random.Random, number: int) -> Client:
    keeps = chance.random() < 0.5
    pushes = [_push(chance, keeps=keeps) for _ in range(chance.choice((1, 3, 10, 30)))]
    return Client(f"client-{number + 1}", chance.choice((1, 1, 2)), tuple(pushes))


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


def _steady() -> Client:
    """Make a client that pushes a job again and again, so that no late claim finds the queue empty."""
    at = [0.3 * number for number in range(100)]
    return Client("steady", 1, tuple(Push(each, 1, "answer", None, None) for each in at))


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
        Fault("listen late", "patient", step, busy=False, at=0.0, values=(lasts, 1.0, 0.0))
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
    busy = chance.random() < 0.5
    step = chance.randint(1, chance.choice((3, 10, 30) if busy else (10, 30, 100, 300)))
    at = chance.uniform(0, STORM_SECONDS)
    lasts = chance.choice((0.01, 0.5, 3.0, 8.0)) * chance.random()
    others = (chance.random(), chance.choice((0.0, 0.003, 1.0, 6.0)) * chance.random())
    if group < mix.servers:
        kind, target = chance.choice(mix.kinds), chance.choice(servers).name
    elif group < mix.servers + mix.clients:
        kind, target, busy = chance.choice(ON_CLIENTS), chance.choice(clients).name, False
    else:
        kind, target, step, busy = chance.choice(ON_REDIS), "redis", 0, False
    if kind in LAPSES and not target.startswith("client") and chance.random() < 0.5:
        lasts = max(lasts, chance.uniform(1, LONGEST_FAULT) * lease)
    return Fault(kind, target, step, busy, at, (lasts, *others))
