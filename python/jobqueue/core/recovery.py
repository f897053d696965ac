"""What a server does with the entries that it finds on its in-process list, and when it looks.

Identical bytes can lie on the list more than once, so what is compared are multisets.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.protocol.messages import Answer, Dead

LOOK_SECONDS = 5.0  # the longest T that the protocol allows, so the longest of any earlier life


def strays(entries: Iterable[bytes], running: Iterable[bytes]) -> list[bytes]:
    """Return the entries that the server isn't running, in the order in which they stand."""
    # server.recovery.running
    left = Counter(running)
    found = []
    for entry in entries:
        if left[entry]:
            left[entry] -= 1
        else:
            found.append(entry)
    return found


def unfinished(
    entries: Iterable[bytes], finished: Iterable[Answer | Dead]
) -> list[bytes | Answer | Dead]:
    """Return what is left to do for each entry, in the order in which they stand.

    That is to publish the same bytes again where the job is finished and its removal wasn't
    confirmed, and to run the entry where it isn't. What was finished and isn't among the entries
    has been removed.
    """
    # server.publish.again, server.recovery.running
    outcomes: dict[bytes, deque[Answer | Dead]] = defaultdict(deque)
    for outcome in finished:
        outcomes[outcome.message].append(outcome)
    return [outcomes[entry].popleft() if outcomes[entry] else entry for entry in entries]


class Looks:
    """When the list is looked at, and how long a claim that was lost can move one more job.

    A claim goes on waiting in Redis, for T at most, where its connection died without a FIN; an
    earlier life of this server may have had a longer T; and the network may deliver a claim later
    than any of them. So the list is looked at on each new connection, and every 5 seconds.
    """

    def __init__(self, block_seconds: float) -> None:
        self._block_seconds = block_seconds
        self._next = 0.0
        self._outstanding = False
        self._lost_until: float | None = None

    def connected(self, now: float) -> None:
        """Note that a new connection was made; the list is to be looked at."""
        if self._outstanding:
            self._outstanding = False
            self._lost_until = now + self._block_seconds
        self._next = now

    def due(self, now: float) -> bool:
        """Tell whether no claim may be sent before the next look."""
        return now >= self._next

    def looked(self, now: float) -> None:
        """Note that the list is looked at by a command sent now, while no claim is outstanding."""
        # server.recovery.second-look, server.recovery.stray
        self._next = now + LOOK_SECONDS
        if self._lost_until is not None and now >= self._lost_until:
            self._lost_until = None

    def claiming(self, now: float) -> float:
        """Note that a claim is sent now, and return how many seconds it may block."""
        self._outstanding = True
        return min(self._block_seconds, self._next - now)

    def claimed(self) -> None:
        """Note that the reply to the claim was read."""
        self._outstanding = False

    def last_look(self, now: float) -> float | None:
        """Return in how many seconds a stop looks for what a lost claim may have moved.

        Returns:
            None where no claim of this life can have moved anything that wasn't seen.
        """
        # server.stop.drains
        return None if self._lost_until is None else max(0.0, self._lost_until - now)
