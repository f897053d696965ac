"""A request to stop, which may come from a signal handler or from any thread."""

from __future__ import annotations

import queue
import time


class Stop:
    """Requested once, never withdrawn."""

    def __init__(self) -> None:
        self.requested = False
        # An Event's lock could be held by the very code that the signal interrupts; this can't.
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def request(self) -> None:
        """Ask for the stop; whoever sleeps here wakes."""
        self.requested = True
        self._wakes.put(None)

    def sleep(self, seconds: float) -> None:
        """Sleep, until the stop is requested; in full where it has been."""
        if self.requested:
            time.sleep(seconds)
            return
        try:
            self._wakes.get(timeout=seconds)
        except queue.Empty:
            return
