"""When jobs come to their end by the time: their ids, by the time, until they are settled."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Deadlines:
    """A heap of deadlines, each of some jobs that were submitted together.

    Args:
        unsettled: The unsettled jobs by id, which change meanwhile. Others are forgotten.
    """

    def __init__(self, unsettled: Mapping[str, object]) -> None:
        self._unsettled = unsettled
        self._heap: list[tuple[float, int, list[str]]] = []
        self._number = 0

    def __bool__(self) -> bool:
        """Tell whether there may be any."""
        return bool(self._heap)

    def add(self, at: float, ids: list[str]) -> None:
        """Add one, and forget those of settled jobs if they are many."""
        if len(self._heap) > 2 * len(self._unsettled) + 100:
            self._heap = [entry for entry in self._heap if self._any_unsettled(entry[2])]
            heapq.heapify(self._heap)
        self._number += 1
        heapq.heappush(self._heap, (at, self._number, ids))

    def passed(self, now: float) -> list[str]:
        """Remove those that have passed, and return the ids of their jobs."""
        ids = []
        while self._heap and self._heap[0][0] <= now:
            ids += heapq.heappop(self._heap)[2]
        return ids

    def next(self) -> float:
        """Return when the next one of an unsettled job passes; infinity if there is none."""
        heap = self._heap
        while heap and not self._any_unsettled(heap[0][2]):
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def clear(self) -> None:
        """Forget all of them."""
        self._heap.clear()

    def _any_unsettled(self, ids: list[str]) -> bool:
        return not self._unsettled.keys().isdisjoint(ids)
