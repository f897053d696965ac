"""The thread that calls the callbacks that an application has added to its jobs.

The thread that reads from Redis runs no code of the application: Redis disconnects a subscriber that
reads too slowly.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from jobqueue.core.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

log = Log("jobqueue.client")

LIMIT = 100_000  # settled jobs whose callbacks may wait while one blocks
AGAIN_SECONDS = 0.5  # between two attempts to start the thread


class Callbacks:
    """Calls functions in order, in a thread that the first one starts."""

    def __init__(self) -> None:
        self._handed: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def hand_over(self, call: Callable[[], None]) -> None:
        """Schedule a call. Only one thread may do this."""
        if self._handed.qsize() >= LIMIT:
            log.error("a callback blocks and %d jobs wait for theirs; dropped: %r", LIMIT, call)
            return
        self._handed.put(call)
        self.start()

    @property
    def unstarted(self) -> bool:
        """Whether calls wait for a thread that couldn't be started."""
        return self._thread is None and not self._handed.empty()

    def start(self) -> None:
        """Start the thread if calls wait for it. Only the thread that hands them over may do this."""
        if not self.unstarted:
            return
        thread = threading.Thread(target=self._run, name="jobqueue callbacks", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            log.error("can't start the thread of callbacks, trying again later: %s", error)  # noqa: TRY400 - the traceback adds nothing
        else:
            self._thread = thread

    def end(self) -> None:
        """End the thread after all scheduled calls."""
        self._handed.put(None)

    def join(self, seconds: float) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def _run(self) -> None:
        while (call := self._handed.get()) is not None:
            try:
                call()
            except BaseException:  # the callbacks of the other jobs are called nevertheless
                log.exception("a callback failed")
            del call  # don't keep the job alive while waiting for the next one
