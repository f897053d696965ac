"""Waiting awake, as adaptive locks do: a short wait costs less so than by falling asleep.

Where an answer comes at once, most of its way is the time that sleeping processors need to wake up,
which this one's is spared. A wait that took too long was in vain: a handler is slow, the queue is
empty, or others need this processor. Then the next waits begin asleep, more of them each time.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SPIN_SECONDS = 0.0005  # more than the round trip of a trivial job, if the processors slept
MOST_ASLEEP = 1024  # waits after one in vain, before the next is tried

_give_way: Callable[[], None] = getattr(os, "sched_yield", lambda: None)  # not every platform can


class Spin:
    """Waits awake, and learns whether that pays. One thread at a time uses it."""

    def __init__(self) -> None:
        self._asleep = 0  # so many of the waits that come next
        self._doubt = 1

    def wait(self, ready: Callable[[], bool]) -> None:
        """Ask again and again, for a short time at most; or not even once, where that didn't pay.

        Args:
            ready: Tells whether what is waited for is there; what it raises comes through.
        """
        if self._asleep:
            self._asleep -= 1
            return
        until = time.monotonic() + SPIN_SECONDS
        while not ready() and time.monotonic() < until:
            _give_way()  # whoever else is to run on this processor may be whom we wait for
        if time.monotonic() < until:
            self._doubt = max(1, self._doubt // 2)
        else:
            self._asleep = self._doubt = min(2 * self._doubt, MOST_ASLEEP)
