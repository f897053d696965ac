"""A job as its caller sees it: a future, settled once.

There is no lock in it. Its state changes by one call in C, after which those who wait are woken. So
Control-C leaves nothing locked wherever it comes, and settling a job never waits.
"""

from __future__ import annotations

import contextlib
from collections import deque
from concurrent.futures import CancelledError, Future
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn

from jobqueue.core.log import Log
from jobqueue.errors import ConnectionLost
from jobqueue.host.forks import Process
from jobqueue.threads.waits import CANCELLED, FINISHED, PENDING, Condition, Gates, Waiters

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.threads.session import Session

    Callback = Callable[[Future[Any]], object]

log = Log("jobqueue.client")


class Job(Future[Any]):
    """The future of one call; everything in `concurrent.futures` works on it.

    `result()` returns the handler's value, or raises JobError, JobTimeout, ConnectionLost or
    NotQueued; the job is settled then, and every call gives the same outcome. The TimeoutError of
    `result(timeout=…)` and KeyboardInterrupt only end that wait: the job is still pending, and
    `result` may be called again. After `cancel` it raises CancelledError.

    In the child after a fork, a job of the parent is settled by ConnectionLost: its result arrives
    in the parent only.
    """

    _fate = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _gates: Gates
    _done_callbacks: list[Callback]

    handle: str | None = None  # of a detached job that Redis has

    def __init__(
        self, job_id: str, method: str, session: Session, channel: str | None = None
    ) -> None:
        # Not Future's: it makes eight objects of a condition and two lists, which the garbage
        # collector visits while the job is under way: half the time of a large `run_many`. What is
        # needed of them is made when it is.
        self._session = session
        self.id = job_id
        self.method = method
        self.channel = channel or session.channel

    def __repr__(self) -> str:
        return f"<Job {self.method!r} channel={self.channel} id={self.id} {self._now().lower()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Job can't be pickled or copied: only this process gets its result")

    def result(self, timeout: float | None = None) -> Any:
        """Return the handler's value or raise, as soon as the job is settled."""
        try:
            self.exception(timeout)
            if self._exception is not None:
                raise self._exception
            return self._result
        finally:
            del self  # or the error, its traceback and the job would keep each other

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what `result` raises, or None, as soon as the job is settled."""
        if not self.done() and not self._own("_gates", Gates).wait(self.done, timeout):
            raise TimeoutError
        if self.cancelled():
            raise CancelledError
        return self._exception

    def done(self) -> bool:
        """Tell whether the job is settled or cancelled."""
        return self._now() != PENDING

    def cancelled(self) -> bool:
        """Tell whether the job was cancelled before it was settled."""
        return self._now() == CANCELLED

    def cancel(self) -> bool:
        """Stop waiting. The job runs all the same if it was pushed, and its result is ignored."""
        # Control-C may end this anywhere; done again, it goes on from there.
        if self.done() and not self.cancelled():
            return False
        if vars(self).setdefault("_fate", CANCELLED) != CANCELLED:
            return False
        self._session.cancel(self)
        self._invoke_callbacks()
        return True

    def add_done_callback(self, fn: Callback) -> None:
        """Have it called with the job when that is done; at once where it is."""
        if not self.done():
            callbacks = self._own("_done_callbacks", list)
            callbacks.append(fn)
            if not self.done():
                return
            try:
                callbacks.remove(fn)
            except ValueError:  # the thread that settled the job calls it
                return
        self._call(fn)

    def settle(self, value: object, error: Exception | None) -> None:
        """Give the job its outcome, unless it was cancelled; those who wait are woken."""
        if not self.done():
            self._result, self._exception = value, error
            if vars(self).setdefault("_fate", FINISHED) == FINISHED:
                self._wake()
                self._invoke_callbacks()
                return
            self._result = self._exception = None
        self._wake()

    def accept(self, handle: str) -> None:
        """Note that Redis has the job; who waits for the handle is woken."""
        self.handle = handle
        if "_gates" in vars(self):
            self._gates.open()

    def wait_for_handle(self) -> None:
        """Wait for the handle, or raise what `result` raises, if the job is settled without it."""
        # Nobody else has the job yet, so nobody else waits at its gates.
        self._own("_gates", Gates).wait(self._is_accepted, None)
        if self.handle is None:
            self.result()

    def _is_accepted(self) -> bool:
        return self.handle is not None or self.done()

    def _wake(self) -> None:
        own = vars(self)
        if "_gates" in own:
            self._gates.open()
        waiting: deque[Any] = own.get("_waiting", deque())
        while waiting:
            with contextlib.suppress(IndexError):  # who waited has just given up
                self._tell(waiting.popleft())

    def _now(self) -> str:
        if self._fate == PENDING and self._session.pid != Process.id:
            # Inherited by a fork, whatever the parent's threads were doing with it.
            self._exception = ConnectionLost(
                f"process {self._session.pid} runs this job, and its result arrives there"
            )
            self._fate = FINISHED
        return self._fate

    def _own(self, name: str, make: Callable[[], Any]) -> Any:
        # Two threads may find that there is none, and have to get the same one.
        own = vars(self)
        return own[name] if name in own else own.setdefault(name, make())

    def _invoke_callbacks(self) -> None:
        if vars(self).get("_done_callbacks"):
            if self._session.settles_here():
                self._session.callbacks.hand_over(self._call_back)
            else:
                self._call_back()

    def _call_back(self) -> None:
        callbacks = self._done_callbacks
        while callbacks:  # each of them once, also where two threads cancel the job
            try:
                callback = callbacks.pop(0)
            except IndexError:
                return
            self._call(callback)

    def _call(self, callback: Callback) -> None:
        try:
            callback(self)
        except Exception:
            log.exception("a callback of %r failed", self)

    # What follows is for `wait` and `as_completed`.

    def _tell(self, waiter: Any) -> None:
        if self.cancelled():
            waiter.add_cancelled(self)
        elif self._exception is None:
            waiter.add_result(self)
        else:
            waiter.add_exception(self)

    def _seen_state(self) -> str:
        seen = vars(self).get("_seen", {}).get(get_ident())
        return seen[-1] if seen else self._now()

    _state: Any = property(_seen_state)
    _condition: Any = property(Condition)
    _waiters: Any = property(Waiters)
