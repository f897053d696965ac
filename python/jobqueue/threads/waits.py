# ruff: noqa: SLF001 - what `concurrent.futures` takes for a lock and for a list are views of a job
"""Waiting for jobs without a lock that is shared: Control-C could leave it locked for ever.

That would stop the thread that settles all jobs. Here a thread that wakes others never
waits, and one that waits may be interrupted anywhere, in `concurrent.futures`, too, which holds locks.
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
    """The list to which they add a waiter, which is notified of the outcome, if the job had none."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def append(self, waiter: Any) -> None:
        """Notify it of the outcome, at once if the job was settled since they looked at it."""
        if not isinstance(waiter.event, Event):
            waiter.event = Event()  # nobody waits for it yet, and no job knows the waiter
        if self._job._state != PENDING:
            return
        waiting = self._job._own("_waiting", deque)
        waiting.append(waiter)
        if self._job.done():
            try:
                waiting.remove(waiter)
            except ValueError:  # the thread that settled the job notifies it
                return
            self._job._tell(waiter)

    def remove(self, waiter: Any) -> None:
        """Notify it no more."""
        with contextlib.suppress(ValueError):  # it was notified, or the job had an outcome before
            self._job._own("_waiting", deque).remove(waiter)


def _waitable(timeout: float | None) -> float:
    """Return what a lock takes as a timeout; one that is longer than it can take is none."""
    return -1 if timeout is None or timeout > threading.TIMEOUT_MAX else max(0.0, timeout)
