# ruff: noqa: SLF001 - what `concurrent.futures` takes for a lock and for a list are views of a job
"""Waiting for jobs without a lock that is shared: Control-C could leave it locked for ever.

That would stop the thread that settles all jobs. Here whoever wakes others never waits, and whoever
waits may be interrupted anywhere, in `concurrent.futures`, too, which does all that under locks.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from jobqueue.threads.job import Job

# What `concurrent.futures` calls them.
PENDING, CANCELLED, FINISHED = "PENDING", "CANCELLED_AND_NOTIFIED", "FINISHED"


class Gates(deque[threading.Lock]):
    """What threads wait at, each at a gate of its own."""

    def wait(self, is_over: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until that is so, after which the gates are opened; False at the timeout."""
        if not is_over():
            gate = threading.Lock()
            gate.acquire()
            self.append(gate)
            try:
                if not is_over():  # otherwise nobody may see the gate any more
                    gate.acquire(timeout=_waitable(timeout))
            finally:
                with contextlib.suppress(ValueError):
                    self.remove(gate)
        return is_over()

    def open(self) -> None:
        """Let everybody go who waits."""
        while self:
            with contextlib.suppress(IndexError):  # who waited has just given up
                self.popleft().release()


class Event:
    """An event in place of `threading.Event`, which waits in a condition, and so has a lock."""

    def __init__(self) -> None:
        self._set = False
        self._gates = Gates()

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it."""
        self._set = True
        self._gates.open()

    def clear(self) -> None:
        """Take that back."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; False at the timeout."""
        return self._gates.wait(self.is_set, timeout)


class Condition:
    """What `wait` and `as_completed` hold while they look at several futures; nothing is locked.

    Meanwhile their thread sees each job as it was when they began, for they look at it twice. A
    signal handler may do the same in between.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def acquire(self) -> None:
        """Begin to look."""
        self._job._own("_seen", dict).setdefault(get_ident(), []).append(self._job._now())

    def release(self) -> None:
        """End that."""
        self._job._own("_seen", dict)[get_ident()].pop()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


class Waiters:
    """The list on which they put what is to be told of the outcome, where they have seen none."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def append(self, waiter: Any) -> None:
        """Have it told, at once where the job was settled since it was looked at."""
        if not isinstance(waiter.event, Event):
            waiter.event = Event()  # nobody waits yet, and nobody has been told of the waiter
        if self._job._state != PENDING:
            return
        waiting = self._job._own("_waiting", deque)
        waiting.append(waiter)
        if self._job.done():
            try:
                waiting.remove(waiter)
            except ValueError:  # whoever has settled the job tells it
                return
            self._job._tell(waiter)

    def remove(self, waiter: Any) -> None:
        """Have it told no more."""
        with contextlib.suppress(ValueError):  # it was told of the outcome, or there was one before
            self._job._own("_waiting", deque).remove(waiter)


def _waitable(timeout: float | None) -> float:
    """Return what a lock takes as a timeout; one that is longer than it can take is none."""
    return -1 if timeout is None or timeout > threading.TIMEOUT_MAX else max(0.0, timeout)
