"""A request to stop, which may come from a signal handler or from any thread."""

from __future__ import annotations

import asyncio
import contextlib


class Stop:
    """Requested once, never withdrawn."""

    def __init__(self) -> None:
        self.requested = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakes = asyncio.Event()

    def serve_here(self) -> None:
        """Wake the sleepers of the running loop from now on."""
        self._loop = asyncio.get_running_loop()

    def request(self) -> None:
        """Ask for the stop; whoever sleeps here wakes."""
        self.requested = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody sleeps
                self._loop.call_soon_threadsafe(self._wakes.set)

    async def sleep(self, seconds: float) -> None:
        """Sleep, until the stop is requested; in full where it has been."""
        if self.requested:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wakes.wait(), seconds)
