"""Virtual time: what happens next, and when. Nothing waits, so a quiet hour passes at once."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

BEGINS_MS = 1_700_000_000_000  # by Redis, which is never set to a time before 1970


class Clock:
    """The seconds since the beginning of a world, and what is going to happen in it.

    What happens at the same moment happens in the order in which it was planned.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0

    def at(self, when: float, do: Callable[..., None], *arguments: Any) -> None:
        """Plan something; what is late happens now."""
        self._planned += 1
        heapq.heappush(self._events, (max(when, self.now), self._planned, do, arguments))

    def after(self, seconds: float, do: Callable[..., None], *arguments: Any) -> None:
        """Plan something in some seconds."""
        self.at(self.now + seconds, do, *arguments)

    def run(self, until: float) -> None:
        """Let everything happen that is planned until then."""
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, do, arguments = heapq.heappop(events)
            do(*arguments)
        self.now = until
