"""A job as its caller sees it: a future that is settled once (client.settle.once)."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NoReturn

from jobqueue.errors import ConnectionLost
from jobqueue.host.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.threads.session import Session


log = Log("jobqueue.client")

LOCK_WAIT_SECONDS = 0.05  # how long the thread that settles jobs waits for the lock of one


class _Condition(type(threading.RLock())):  # type: ignore[misc] # in C, whatever its name
    """What `Future` needs of a condition. Threads don't wait on it: `Job` waits without its lock.

    A `with` block acquires and releases a lock in C, so Ctrl-C can't interrupt in between.
    """

    __slots__ = ("gates",)

    def __init__(self) -> None:
        self.gates: deque[threading.Lock] = deque()

    def notify_all(self) -> None:
        """Wake all threads that wait."""
        while self.gates:
            with contextlib.suppress(IndexError):  # that thread has just stopped waiting
                self.gates.popleft().release()


class Job(Future[Any]):
    """The future of one call; everything in `concurrent.futures` works on it.

    `result()` returns the handler's value, or raises JobError, JobTimeout, ConnectionLost or
    NotQueued; the job is settled then, and every call gives the same outcome. The TimeoutError of
    `result(timeout=…)` and KeyboardInterrupt only end that wait: the job is still pending, and
    `result` may be called again. After `cancel` it raises CancelledError.

    In the child after a fork, a job of the parent is settled by ConnectionLost: its result arrives
    in the parent only.
    """

    _held = False  # by a thread that doesn't release it
    _made: _Condition
    _done_callbacks: list[Callable[[Future[Any]], object]]  # Future's, as `_invoke_callbacks` is

    def __init__(self, job_id: str, method: str, session: Session) -> None:  # no super: see below
        # As `Future.__init__`, which also makes a condition: see below.
        self._state = "PENDING"
        self._result = None
        self._exception = None
        self._waiters = []
        self._done_callbacks = []
        self._session = session
        self.id = job_id
        self.method = method
        self.channel = session.channel

    # A condition of the standard library is eight objects, and the garbage collector visits those of
    # every job that is under way: half the time of a large `run_many`. So a job makes its own, when
    # a thread waits for it or settles it. Every use of a job begins here, so a job of the parent is
    # settled here in the child.

    @property
    def _condition(self) -> Any:
        if self._session.pid != os.getpid():
            return self._inherited()
        if "_made" not in vars(self):  # two threads may find that, and have to get the same one
            vars(self).setdefault("_made", _Condition())
        return self._made

    @_condition.setter
    def _condition(self, _: object) -> None:
        raise AttributeError("a job makes its own condition")

    def __repr__(self) -> str:
        return f"<Job {self.method!r} channel={self.channel} id={self.id} {self._state.lower()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Job can't be pickled or copied: only this process gets its result")

    def result(self, timeout: float | None = None) -> Any:
        """Return the handler's value or raise, as soon as the job is settled."""
        try:
            if not self._waited(timeout):
                raise TimeoutError
            return super().result()
        finally:
            del self  # or the error, its traceback and the job would keep each other

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what `result` raises, or None, as soon as the job is settled."""
        if not self._waited(timeout):
            raise TimeoutError
        return super().exception()

    def cancel(self) -> bool:
        """Stop waiting, as `Future.cancel`. A job that was pushed still runs; its result is ignored."""
        # Ctrl-C may interrupt this anywhere; a second call completes it.
        with self._condition:
            if self._state == "FINISHED":
                return False
            if self._state == "PENDING":
                self._state = "CANCELLED"
                self._condition.notify_all()
            if self._state == "CANCELLED":
                self.set_running_or_notify_cancel()  # or `wait` and `as_completed` wait on
        self._session.cancel(self.id)
        self._invoke_callbacks()
        return True

    def settle(self, value: object, error: Exception | None) -> bool:
        """Set the outcome, unless the job was cancelled, and schedule its callbacks.

        Returns:
            False if another thread holds the job's lock. One that was interrupted at a bad moment
            holds it forever, and must not block the thread that settles all jobs.
        """
        condition = self._condition
        if self._state != "PENDING":
            return True
        if not condition.acquire(timeout=0 if self._held else LOCK_WAIT_SECONDS):
            self._held = True
            return False
        try:
            if not self.done():
                if error is None:
                    self.set_result(value)
                else:
                    self.set_exception(error)
        finally:
            condition.release()
        return True

    def _waited(self, timeout: float | None) -> bool:
        """Wait until the job is settled; return False if the timeout passes first."""
        # No lock is held while waiting, or wherever Ctrl-C may interrupt: the thread that settles
        # jobs never waits for a thread that waits for one.
        condition = self._condition
        if self._state == "PENDING":
            gate = threading.Lock()
            gate.acquire()  # released by the thread that settles the job
            condition.gates.append(gate)
            try:
                if self._state == "PENDING":  # otherwise the gate may have come too late
                    gate.acquire(timeout=_waitable(timeout))
            finally:
                with contextlib.suppress(ValueError):
                    condition.gates.remove(gate)
        return self._state != "PENDING"

    def _invoke_callbacks(self) -> None:
        # Future calls this when the state is final: no callback is added any more.
        if self._done_callbacks:
            if self._session.settles_here():
                self._session.callbacks.hand_over(self._call_back)
            else:
                self._call_back()

    def _call_back(self) -> None:
        while self._done_callbacks:  # each of them once, even if two threads cancel the job
            try:
                callback = self._done_callbacks.pop(0)
            except IndexError:
                return
            try:
                callback(self)
            except Exception:
                log.exception("a callback of %r failed", self)

    def _inherited(self) -> Any:
        # Other threads of the parent may have held its lock at the fork.
        known = "_inherited_condition" in vars(self)
        condition: _Condition
        condition = vars(self).setdefault("_inherited_condition", _Condition())
        if not known and self._state == "PENDING":
            self._exception = ConnectionLost(
                f"this job was run by process {self._session.pid}, and its result arrives there"
            )
            self._state = "FINISHED"
        return condition


def _waitable(timeout: float | None) -> float:
    """Return the timeout in the form that a lock takes; one above its limit means no timeout."""
    return -1 if timeout is None or timeout > threading.TIMEOUT_MAX else max(0.0, timeout)
