"""What a server does with the entries that it finds on its in-process list.

Identical bytes can lie on the list more than once, so what is compared are multisets.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.protocol.messages import Answer, Dead


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


class SecondLook:
    """When the list is looked at for the second time: once, T after the connection was made.

    A claim that blocked on a connection which died without a FIN goes on waiting in Redis, and can
    move one more job to the list until then.
    """

    def __init__(self, now: float, block_seconds: float) -> None:
        # server.recovery.second-look
        self._block_seconds = block_seconds
        self._at = now + block_seconds
        self.done = False

    def due(self, now: float) -> bool:
        """Tell whether no claim may be sent before the look."""
        return not self.done and now >= self._at

    def remaining(self, now: float) -> float:
        """Return how long it is until then, in seconds."""
        return max(0.0, self._at - now)

    def block_seconds(self, now: float) -> float:
        """Return how long a claim may block so that the look isn't late."""
        return self._block_seconds if self.done else self.remaining(now)
