"""What a server sends: claims, adoptions, looks, renewals, and its last words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from jobqueue.core import steps
from jobqueue.protocol import leases

from simulation.names import LEASES, QUEUES
from simulation.store import OK

if TYPE_CHECKING:
    from jobqueue.core.steps import Step
    from jobqueue.protocol.commands import Command

Exchanges: TypeAlias = steps.Exchange | steps.TimedExchange


def kinds_of(step: Step | None) -> set[str]:
    """Return which of `plan.COUNTED` a step is, by what it sends."""
    kinds: set[str] = set()
    for command in written(step):
        kinds.add("writes")
        if adopts(command):
            kinds.add("adoptions")
        elif claims(command):
            kinds.add("claims")
        elif leases.RELEASE in command[:2]:
            kinds.add("ends")
        elif leases.RENEW in command[:2]:
            kinds.add("renewals")
        elif command[0] == b"INCR":
            kinds.add("counts")
    return kinds


def written(step: Step | None) -> list[Command]:
    """Return what a step sends."""
    return step.commands if isinstance(step, steps.Send | Exchanges) else []


def claims(command: Command) -> bool:
    """Tell whether it takes a job, from the queue or from a lapsed list; what is given back goes the other way."""
    moves = command[0] in {b"BLMOVE", b"LMOVE"} and command[1] in QUEUES
    return moves or adopts(command)


def adopts(command: Command) -> bool:
    """Tell whether it takes a job from a lapsed list, if one is due."""
    return leases.ADOPT in command[:2]


def looks(command: Command) -> bool:
    """Tell whether it reads the own list."""
    return command[0] == b"LRANGE"


def renews(commands: list[Command], replies: list[Any]) -> bool:
    """Tell whether the lease was taken or renewed."""
    if not commands:
        return False
    first, reply = commands[0], replies[0]
    takes = first[0] == b"SET" and first[1].startswith(LEASES) and reply == OK
    return bool(takes or (leases.RENEW in first and reply == 1))
