"""An action when a deadline passes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """Calls `expire`, which returns the next deadline, again when that has passed."""

    def __init__(self, expire: Callable[[], float | None]) -> None:
        self._expire = expire
        self._earliest: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def watch(self, deadline: float) -> None:
        """Take a deadline of `time.monotonic` into account."""
        if self._earliest is None or deadline < self._earliest:
            self.close()
            self._earliest = deadline
            loop = asyncio.get_running_loop()
            self._handle = loop.call_later(max(0.0, deadline - time.monotonic()), self._run)

    def close(self) -> None:
        """End it."""
        if self._handle is not None:
            self._handle.cancel()

    def _run(self) -> None:
        self._earliest = None
        deadline = self._expire()
        if deadline is not None:
            self.watch(deadline)
