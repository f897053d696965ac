"""A job as its caller sees it: a future, settled once."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any

from jobqueue.host.signals import interrupts

if TYPE_CHECKING:
    from collections.abc import Callable


log = logging.getLogger("jobqueue.client")

_cancelling = threading.RLock()  # a callback of one job may cancel another


class Job(Future[Any]):
    """The outcome to come of one call; everything in `concurrent.futures` works on it.

    `result()` gives the handler's value or raises: JobError, where the job was answered with an
    error; JobTimeout, where its own timeout passed; ConnectionLost or NotQueued, where a connection
    was lost. The timeout of `result(timeout=…)` only ends that wait and leaves the job as it is.
    """

    _made: threading.Condition

    def __init__(
        self,
        job_id: str,
        method: str,
        channel: str,
        forget: Callable[[str], None],
        attend: Callable[[Callable[[], bool], float | None], None],
    ) -> None:
        super().__init__()
        self._forget = forget
        self._attend = attend
        self.id = job_id
        self.method = method
        self.channel = channel

    # A condition is eight objects, and the garbage collector visits those of every job that is under
    # way: half the time of a large `run_many`. So a job makes it when somebody waits or settles it.

    @property
    def _condition(self) -> threading.Condition:
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
        return super().result(self._attended(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what `result` raises, or None, as soon as the job is settled."""
        return super().exception(self._attended(timeout))

    def cancel(self) -> bool:
        """Stop waiting. The job runs all the same, and its result is ignored."""
        with _cancelling:
            if self.done():
                return self.cancelled()
            cancelled = super().cancel()
            if cancelled:
                self._forget(self.id)
                self.set_running_or_notify_cancel()  # or `wait` and `as_completed` wait on
            return cancelled

    def _attended(self, timeout: float | None) -> float | None:
        """Receive the result where possible, and return how much of the timeout is left."""
        if self._settled():
            return timeout
        began = time.monotonic()
        self._attend(self._settled, timeout)
        return None if timeout is None else timeout - (time.monotonic() - began)

    def _settled(self) -> bool:
        return self._state != "PENDING"

    def settle(self, value: object, error: Exception | None) -> None:
        """Give the job its outcome; ignored where it was cancelled."""
        try:
            if error is None:
                self.set_result(value)
            else:
                self.set_exception(error)
        except InvalidStateError:
            return
        except BaseException as failure:  # a callback's; this thread serves the other jobs, too
            if interrupts(failure):
                raise
            log.exception("a callback of %r failed", self)
