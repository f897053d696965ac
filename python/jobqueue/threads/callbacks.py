"""The thread that calls what an application has added to its jobs as callbacks.

The thread that reads what Redis sends never runs code of the application: Redis cuts off a
subscriber that doesn't read for a moment.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from jobqueue.host.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

log = Log("jobqueue.client")

LIMIT = 100_000  # settled jobs whose callbacks may wait while one blocks


class Callbacks:
    """Calls what it is handed, in order, in a thread that the first one starts."""

    def __init__(self) -> None:
        self._handed: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def hand_over(self, call: Callable[[], None]) -> None:
        """Have it called. Only one thread may hand over."""
        if self._handed.qsize() >= LIMIT:
            log.error("a callback blocks, and %d jobs wait behind it: %r isn't called", LIMIT, call)
            return
        self._handed.put(call)
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="jobqueue callbacks", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                log.error("callbacks wait for the next settled job: %s", error)  # noqa: TRY400 - no more to say
            else:
                self._thread = thread

    def end(self) -> None:
        """End the thread as soon as it has called everything."""
        self._handed.put(None)

    def join(self, seconds: float) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def _run(self) -> None:
        while (call := self._handed.get()) is not None:
            try:
                call()
            except BaseException:  # whatever a callback raises, those of the other jobs are called
                log.exception("a callback failed")
            del call  # and with it the job, until the next one
