"""Adaptive spinning, as in adaptive locks: for a short wait, polling is faster than sleeping.

If a reply comes at once, most of its latency is the time that a sleeping processor takes to wake up;
spinning saves that. A spin without success costs time: the handler is slow, the queue is empty, or
other threads need the processor. After each failure more of the next spins are skipped.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SPIN_SECONDS = 0.0005  # more than the round trip of a trivial job, if the processors slept
SKIP_LIMIT = 1024  # the largest number of waits in a row that don't spin

# Windows has no sched_yield.
_yield_processor: Callable[[], None] = getattr(os, "sched_yield", lambda: None)


class Spin:
    """Spins, and learns whether that saves time. Used by one thread at a time."""

    def __init__(self) -> None:
        self._skip = 0  # how many of the next waits don't spin
        self._penalty = 1

    def wait(self, ready: Callable[[], bool]) -> None:
        """Poll for half a millisecond at most, or not at all if that didn't help before.

        Args:
            ready: Polled until it returns true. Its exceptions are raised.
        """
        if self._skip:
            self._skip -= 1
            return
        until = time.monotonic() + SPIN_SECONDS
        while not ready() and time.monotonic() < until:
            _yield_processor()  # the process that we wait for may need this processor
        if time.monotonic() < until:
            self._penalty = max(1, self._penalty // 2)
        else:
            self._skip = self._penalty = min(2 * self._penalty, SKIP_LIMIT)
