"""The names under which servers take part, and the times of takeover that they share.

Pure. A server has one name for all its lives, or a new one in each; then what a killed one leaves is never looked at by
itself, and others have to adopt it.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """T, L and G of a queue, in seconds; C is L."""

    block_s: float
    lease_s: float
    grace_s: float

    @property
    def environment(self) -> dict[str, str]:
        """As the kit tells a server."""
        return {
            "JOBQUEUE_BLOCK_MS": str(round(self.block_s * 1000)),
            "JOBQUEUE_LEASE_MS": str(round(self.lease_s * 1000)),
            "JOBQUEUE_GRACE_MS": str(round(self.grace_s * 1000)),
        }

    @property
    def rerun_s(self) -> float:
        """By when a dead server's job runs again, where a hand is free."""
        return 2 * self.lease_s + 1

    @property
    def forgotten_s(self) -> float:
        """By when no name is left of a server that is over."""
        return self.grace_s + 4 * self.lease_s


STORM = Times(block_s=1.0, lease_s=3.0, grace_s=10.0)
FLEET = Times(block_s=2.0, lease_s=8.0, grace_s=60.0)  # what the reference has, but for G


def left(registered: Iterable[str], living: Iterable[str]) -> list[str]:
    """The lists that are registered, and of no server that runs."""
    return sorted(set(registered) - set(living))
