"""A job as its caller sees it: a future of asyncio, settled once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from jobqueue.aio.session import Session


class Job(asyncio.Future[Any]):
    """The outcome to come of one call; `await`, `gather`, `wait` and `wait_for` work on it.

    Awaiting it gives the handler's value or raises: JobError, where the job was answered with an
    error; JobTimeout, where its own timeout passed; ConnectionLost or NotQueued, where a connection
    was lost. Cancelling it, as `wait_for` does, only stops the waiting.

    It belongs to its event loop; awaited in another one it raises RuntimeError.
    """

    def __init__(self, job_id: str, method: str, session: Session) -> None:
        super().__init__(loop=session.loop)
        self._session = session
        self.id = job_id
        self.method = method
        self.channel = session.channel

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "finished" if self.done() else "pending"
        return f"<Job {self.method!r} channel={self.channel} id={self.id} {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a job can't be pickled or copied: only this process gets its result")

    def cancel(self, msg: Any = None) -> bool:
        """Stop waiting. The job runs all the same if it was pushed, and its result is ignored."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._session.cancel(self.id)
        return cancelled

    def settle(self, value: object, error: Exception | None) -> None:
        """Give the job its outcome, unless it was cancelled."""
        if self.done():
            return
        if error is None:
            self.set_result(value)
        else:
            self.set_exception(error)
            self.exception()  # a job that nobody awaits is no mistake that the loop has to tell
