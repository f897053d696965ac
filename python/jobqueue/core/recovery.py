"""What a server does with the entries of its in-process list, and when it reads the list.

The list can contain the same bytes more than once, so multisets are compared.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.protocol.messages import Answer, Dead

LOOK_SECONDS = 5.0  # the longest T that the protocol allows, and so of any earlier run


def strays(entries: Iterable[bytes], running: Iterable[bytes]) -> list[bytes]:
    """Return the entries that the server isn't running, in their order."""
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
    """Return what is left to do for each entry, in their order.

    A finished job whose removal wasn't confirmed is published again with the same bytes; any other
    entry is run. A finished job that isn't among the entries has been removed.
    """
    # server.publish.again, server.recovery.running
    outcomes: dict[bytes, deque[Answer | Dead]] = defaultdict(deque)
    for outcome in finished:
        outcomes[outcome.message].append(outcome)
    return [outcomes[entry].popleft() if outcomes[entry] else entry for entry in entries]


class Looks:
    """When the list is read ("looked at"), and how long a lost claim can still move a job.

    If a connection dies without a FIN, its claim stays blocked in Redis, for T at most; an earlier
    run of this server may have had a longer T; and the network may deliver a claim later still. So
    the list is read on each new connection, and every 5 seconds or L.
    """

    def __init__(self, block_seconds: float, look_seconds: float = LOOK_SECONDS) -> None:
        self._block_seconds = block_seconds
        self._look_seconds = look_seconds
        self.all_answered = True  # whether no claim of this life can be late
        self.first = True  # whether the next look is the first one on its connection
        self._next = 0.0
        self._outstanding = False
        self._adopting = False  # whether what is outstanding is an adoption
        self._adoption_lost = False
        self._lost_until: float | None = None

    def connected(self, now: float) -> None:
        """Note that there is a new connection; the list has to be read."""
        if self._outstanding:
            self._outstanding = self.all_answered = False
            self._adoption_lost |= self._adopting
            self._lost_until = now + self._block_seconds
        self.first = True
        self._next = now

    def due(self, now: float) -> bool:
        """Tell whether the list has to be read before the next claim."""
        return now >= self._next

    def looked(self, now: float) -> bool:
        """Note that the list is read by a command sent at that time, while no claim is outstanding.

        Returns:
            Whether it may find what was adopted by a command whose reply was lost.
        """
        # server.recovery.second-look, server.recovery.stray
        self.first = False
        self._next = now + self._look_seconds
        adopted = self._adoption_lost
        if self._lost_until is not None and now >= self._lost_until:
            self._lost_until, self._adoption_lost = None, False
        return adopted

    def claiming(self, now: float, limit: float = float("inf")) -> float:
        """Note that a claim is sent now, and return how many seconds it may block."""
        self._outstanding, self._adopting = True, False
        return min(self._block_seconds, self._next - now, limit)

    def adopting(self) -> None:
        """Note that an adoption, which is a claim that doesn't block, is sent now."""
        self._outstanding = self._adopting = True

    def claimed(self) -> None:
        """Note that the reply to the claim or the adoption was read."""
        self._outstanding = False

    def last_look(self, now: float) -> float | None:
        """Return in how many seconds a stop has to read the list once more.

        Returns:
            None if no lost claim of this run can have moved an unseen job.
        """
        # server.stop.drains
        return None if self._lost_until is None else max(0.0, self._lost_until - now)
