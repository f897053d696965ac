"""Which fault hits which program, when, and for how long: decided by a seed alone.

Pure: the random numbers come in as an argument. Two faults of one target never overlap, so none ends what another
began.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, get_args

from chaos.names import STORM

Kind = Literal[
    "kill",
    "term",
    "freeze",
    "cut",
    "cut-one",
    "refuse",
    "pause",
    "restart",
    "outage",
    "kill-client",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
REDIS = "redis"

WHAT: dict[Kind, str] = {
    "kill": "SIGKILL to a server, which is started again",
    "term": "SIGTERM to a server, which has to end, and is started again",
    "freeze": "SIGSTOP to a server, and SIGCONT",
    "cut": "CLIENT KILL of all connections of a server or client",
    "cut-one": "CLIENT KILL of one of them",
    "refuse": "connections cut, and new ones of a server or client refused",
    "pause": "CLIENT PAUSE for all clients",
    "restart": "SIGKILL to Redis, which is started again with its append-only file",
    "outage": "the same, started again when all leases have lapsed",
    "kill-client": "SIGKILL to a client, in whose place another one collects by its handles",
}
OFTEN: dict[Kind, int] = {
    "kill": 5,
    "term": 4,
    "freeze": 3,
    "cut": 4,
    "cut-one": 4,
    "refuse": 4,
    "pause": 2,
    "restart": 1,
    "outage": 1,
    "kill-client": 2,
}
LASTS_S: dict[Kind, tuple[float, float]] = {
    "kill": (0.05, 1.0),
    "term": (3.0, 3.0),
    "freeze": (0.2, 4.0),
    "cut": (0.0, 0.0),
    "cut-one": (0.0, 0.0),
    "refuse": (0.2, 4.0),
    "pause": (0.05, 2.0),
    "restart": (0.05, 2.0),
    "outage": (1.5 * STORM.lease_s, 2 * STORM.lease_s),
    "kill-client": (3.0, 3.0),  # the other one starts
}
BETWEEN_S = (0.1, 1.2)
LIVES_S = (10.0, 30.0)  # of a server in a fleet
RECOVERS_S = 0.3  # Redis reads its file
ASK_REDIS = frozenset({"cut", "cut-one", "pause"})

Chosen = TypeVar("Chosen")


class Chance(Protocol):
    """What is used of `random.Random`."""

    def uniform(self, a: float, b: float, /) -> float:
        """A number between these two."""
        ...

    def choice(self, seq: Sequence[Chosen], /) -> Chosen:
        """One of these."""
        ...


@dataclass(frozen=True)
class Fault:
    """One fault: of a server, of a client, or of Redis."""

    at_s: float
    kind: Kind
    target: str
    lasts_s: float = 0.0

    def __str__(self) -> str:
        """As a line of a log."""
        lasts = f" for {self.lasts_s:.2f} s" if self.lasts_s else ""
        return f"{self.at_s:7.2f} s  {self.kind} {self.target}{lasts}"


def draw(
    chance: Chance,
    seconds: float,
    servers: Sequence[str],
    clients: Sequence[str],
    kinds: Sequence[Kind] = KINDS,
) -> list[Fault]:
    """The faults of a storm, in the order in which they begin; each has ended when the storm does."""
    targets: dict[Kind, Sequence[str]] = {
        "kill": servers,
        "term": servers,
        "freeze": servers,
        "cut": [*servers, *clients],
        "cut-one": [*servers, *clients],
        "refuse": [*servers, *clients],
        "pause": [REDIS],
        "restart": [REDIS],
        "outage": [REDIS],
        "kill-client": clients,
    }
    lots = [kind for kind in kinds for _ in range(OFTEN[kind])]
    busy_until_s: dict[str, float] = {}
    faults = []
    at_s = chance.uniform(*BETWEEN_S)
    while at_s < seconds:
        kind = chance.choice(lots)
        fault = Fault(at_s, kind, chance.choice(targets[kind]), chance.uniform(*LASTS_S[kind]))
        asked = {fault.target, REDIS} if kind in ASK_REDIS else {fault.target}
        if (
            all(busy_until_s.get(each, 0.0) <= at_s for each in asked)
            and at_s + fault.lasts_s < seconds
        ):
            faults.append(fault)
            busy_until_s[fault.target] = at_s + fault.lasts_s + RECOVERS_S
        at_s += chance.uniform(*BETWEEN_S)
    return faults


def replacements(chance: Chance, seconds: float, servers: Sequence[str]) -> list[Fault]:
    """A fleet in which no server lives long: each is killed some time after each of its starts."""
    faults = []
    for server in servers:
        at_s = chance.uniform(*LIVES_S)
        while at_s < seconds:
            fault = Fault(at_s, "kill", server, chance.uniform(*LASTS_S["kill"]))
            faults.append(fault)
            at_s += fault.lasts_s + chance.uniform(*LIVES_S)
    return sorted(faults, key=lambda fault: fault.at_s)
