"""When jobs come to their end by the time: their ids, by the time, until they are settled."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterator


class Deadlines:
    """A heap of deadlines, each of some jobs that were submitted together.

    Args:
        unsettled: The ids of the unsettled jobs, which change meanwhile. Others are forgotten.
    """

    def __init__(self, unsettled: Container[str]) -> None:
        self._unsettled = unsettled
        self._heap: list[tuple[float, int, list[str]]] = []
        self._number = 0

    def add(self, at: float, ids: list[str], limit: int) -> None:
        """Add one, and forget those of settled jobs if there are more of them than the limit."""
        if len(self._heap) > limit:
            self._heap = [entry for entry in self._heap if self._any_unsettled(entry[2])]
            heapq.heapify(self._heap)
        self._number += 1
        heapq.heappush(self._heap, (at, self._number, ids))

    def passed(self, now: float) -> Iterator[str]:
        """Remove those that have passed, and return the ids of their jobs."""
        while self._heap and self._heap[0][0] <= now:
            yield from heapq.heappop(self._heap)[2]

    def next(self) -> list[float]:
        """Return when the next one of an unsettled job passes, if there is any."""
        while self._heap and not self._any_unsettled(self._heap[0][2]):
            heapq.heappop(self._heap)
        return [self._heap[0][0]] if self._heap else []

    def clear(self) -> None:
        """Forget all of them."""
        self._heap.clear()

    def _any_unsettled(self, ids: list[str]) -> bool:
        return any(job_id in self._unsettled for job_id in ids)
