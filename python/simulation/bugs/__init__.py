"""Bugs that this or another library once had, or that the checked model of takeover has.

Each is planted alone in the real core. There is a file for each feature; `bug` says what a bug is.
"""

from simulation.bugs import adoption, attempts, clients, expiry, kept, leases, serving, sharing
from simulation.bugs.bug import Bug

__all__ = ["BUGS", "Bug"]

BUGS: tuple[Bug, ...] = (
    *serving.BUGS,
    *sharing.BUGS,
    *clients.BUGS,
    *leases.BUGS,
    *adoption.BUGS,
    *attempts.BUGS,
    *kept.BUGS,
    *expiry.BUGS,
)
