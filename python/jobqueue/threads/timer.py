"""A thread that acts when a deadline passes, whatever the other threads are doing."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """Calls `expire`, which returns the next deadline, again when that has passed."""

    def __init__(self, expire: Callable[[], float | None]) -> None:
        self._expire = expire
        self._earliest: float | None = None
        self._started = False
        self._closed = False
        self._changed = threading.Condition()

    def watch(self, deadline: float) -> None:
        """Take a deadline of `time.monotonic` into account."""
        with self._changed:
            if self._earliest is None or deadline < self._earliest:
                self._earliest = deadline
                self._changed.notify()
            if not self._started:
                self._started = True
                threading.Thread(target=self._run, name="jobqueue timer", daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (seconds := self._seconds()) != 0:
                    self._changed.wait(seconds)
                if self._closed:
                    return
                self._earliest = None
            deadline = self._expire()
            if deadline is not None:
                self.watch(deadline)

    def _seconds(self) -> float | None:
        return None if self._earliest is None else max(0.0, self._earliest - time.monotonic())
