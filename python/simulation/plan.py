"""A plan: who takes part in a world, what is pushed, and which faults strike whom and when.

A plan holds everything that is decided beforehand, so that a fault can be left out and the
rest stays as it is: that is how a failure is shrunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from simulation.names import QUEUE

if TYPE_CHECKING:
    from jobqueue.core.sharing import Order

STORM_SECONDS = 30.0
LONGEST_FAULT = 4.0  # L: of those by which leases lapse
GRACE_SECONDS = 60.0  # G: longer than any command is late here
# Which steps of an actor a fault counts: all, those with a job on its list, those that send something, and
# those that send a claim, an adoption, a renewal, the count of a job, or what a server sends last.
COUNTED = ("steps", "busy steps", "writes", "claims", "adoptions", "renewals", "counts", "ends")


class Server(NamedTuple):
    """The settings of a server."""

    name: str
    concurrency: int
    prefetch: int
    block_seconds: float
    takeover: bool = False
    fresh: bool = False  # whether each life has a new name
    twin: str = ""  # the server on another host whose name it has by mistake
    shares: Order | None = None  # whose turn it is, where it serves both queues


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
    queue: bytes = QUEUE


class Fault(NamedTuple):
    """One fault.

    It strikes an actor at the step with this number, or something else at this time. Which steps are
    counted is one of `COUNTED`: most faults have no effect on an idle server.
    """

    kind: str
    target: str
    step: int  # 0: at the time
    counts: str
    at: float  # steps are counted from then on
    values: tuple[float, ...]

    def __str__(self) -> str:
        when = f"at {self.at:.3f} s"
        if self.step:
            when = f"at number {self.step} of its {self.counts} from {self.at:.3f} s on"
        values = " ".join(f"{each:.3g}" for each in self.values)
        return f"{self.kind} {self.target} {when} ({values})"


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
