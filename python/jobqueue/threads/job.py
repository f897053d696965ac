"""A job as its caller sees it: a future, settled once."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from jobqueue.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.threads.session import Session


HELD_SECONDS = 0.05  # how long the thread that settles all jobs waits for another that holds one


class Job(Future[Any]):
    """The outcome to come of one call; everything in `concurrent.futures` works on it.

    `result()` gives the handler's value or raises: JobError, where the job was answered with an
    error; JobTimeout, where its own timeout passed; ConnectionLost or NotQueued, where a connection
    was lost. The timeout of `result(timeout=…)` only ends that wait and leaves the job as it is.

    In the child after a fork, a job that the parent has run is settled by ConnectionLost: its
    result arrives in the parent alone.
    """

    _held = False  # by a thread that doesn't let it go
    _made: threading.Condition
    _done_callbacks: list[Callable[[Future[Any]], object]]  # Future's, as `_invoke_callbacks` is

    def __init__(self, job_id: str, method: str, session: Session) -> None:
        super().__init__()
        self._session = session
        self.id = job_id
        self.method = method
        self.channel = session.channel

    # A condition is eight objects, and the garbage collector visits those of every job that is under
    # way: half the time of a large `run_many`. So a job makes it when somebody waits or settles it.
    # Whatever is done with a job begins here, so a job of the parent is settled here in the child.

    @property
    def _condition(self) -> threading.Condition:
        if self._session.pid != os.getpid():
            return self._disowned()
        if "_made" not in vars(self):  # two threads may find that, and have to get the same one
            vars(self).setdefault("_made", threading.Condition())
        return self._made

    @_condition.setter
    def _condition(self, condition: threading.Condition) -> None:
        """Do without the one that Future makes."""

    def __repr__(self) -> str:
        return f"<Job {self.method!r} channel={self.channel} id={self.id} {self._state.lower()}>"

    def result(self, timeout: float | None = None) -> Any:
        """Return the handler's value or raise, as soon as the job is settled."""
        try:
            self._wait(timeout)
            return super().result(0)
        finally:
            del self  # or the error, its traceback and the job would keep each other

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what `result` raises, or None, as soon as the job is settled."""
        self._wait(timeout)
        return super().exception(0)

    def cancel(self) -> bool:
        """Stop waiting. The job runs all the same if it was pushed, and its result is ignored."""
        with self._condition:  # which is re-entrant
            if self.done():
                return self.cancelled()
            callbacks, self._done_callbacks = self._done_callbacks, []
            try:
                super().cancel()
                self.set_running_or_notify_cancel()  # or `wait` and `as_completed` wait on
            finally:
                self._done_callbacks = callbacks
        self._session.cancel(self.id)
        self._invoke_callbacks()
        return True

    def settle(self, value: object, error: Exception | None) -> bool:
        """Give the job its outcome, unless it was cancelled; the callbacks are handed over.

        Returns:
            False where that isn't possible now. A thread that was interrupted at a bad moment
            holds the job for ever, and must not stop the thread that settles all jobs.
        """
        condition = self._condition
        if not condition.acquire(timeout=0 if self._held else HELD_SECONDS):
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

    def _wait(self, timeout: float | None) -> None:
        # Not on the condition: Control-C in the middle of its `wait` would come out as a
        # RuntimeError, or leave it held. A lock is waited for in one call in C.
        if self._state != "PENDING" or self._session.pid != os.getpid():
            return
        gate = threading.Lock()
        gate.acquire()
        self._gates[gate] = None
        try:
            if self._state == "PENDING":
                endless = timeout is None or timeout > threading.TIMEOUT_MAX
                gate.acquire(timeout=-1 if endless else max(0.0, timeout or 0.0))
        finally:
            self._gates.pop(gate, None)

    @property
    def _gates(self) -> dict[threading.Lock, None]:
        gates: dict[threading.Lock, None] = vars(self).setdefault("_all_gates", {})
        return gates

    def _invoke_callbacks(self) -> None:
        if "_all_gates" in vars(self):
            with contextlib.suppress(KeyError):  # there is none left
                while True:
                    self._gates.popitem()[0].release()
        # Future's own, which it calls when the state is final: nobody adds a callback any more.
        if self._done_callbacks:
            if self._session.settles_here():
                self._session.callbacks.hand_over(super()._invoke_callbacks)  # type: ignore[misc]
            else:
                super()._invoke_callbacks()  # type: ignore[misc]

    def _disowned(self) -> threading.Condition:
        # Other threads of the parent may have held its condition when the child was made.
        known = "_disowned_condition" in vars(self)
        condition: threading.Condition
        condition = vars(self).setdefault("_disowned_condition", threading.Condition())
        if not known and self._state == "PENDING":
            self._exception = ConnectionLost(
                f"process {self._session.pid} runs this job, and its result arrives there"
            )
            self._state = "FINISHED"
        return condition
