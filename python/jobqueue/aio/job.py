"""A job as its caller sees it: a future of asyncio that is settled once (client.settle.once)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from jobqueue.aio.session import Session


class Job(asyncio.Future[Any]):
    """The future of one call; `await`, `gather`, `wait` and `wait_for` work on it.

    Awaiting it returns the handler's value, or raises JobError, JobTimeout, ConnectionLost or
    NotQueued; the job is settled then, and every `await` gives the same outcome. A task that is
    cancelled while it awaits a job cancels the job, and so does `wait_for` at its timeout;
    `asyncio.shield` prevents that. A cancelled job that was pushed still runs; its result is
    ignored.

    It belongs to its event loop; awaited in another one it raises RuntimeError.
    """

    handle: str | None = None  # of a detached job that Redis has

    def __init__(
        self, job_id: str, method: str, session: Session, channel: str | None = None
    ) -> None:
        super().__init__(loop=session.loop)
        self._session = session
        self.id = job_id
        self.method = method
        self.channel = channel or session.channel
        self._accepting: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "finished" if self.done() else "pending"
        return f"<Job {self.method!r} channel={self.channel} id={self.id} {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Job can't be pickled or copied: only this process gets its result")

    def cancel(self, msg: Any = None) -> bool:
        """Stop waiting, as `Future.cancel`. A job that was pushed still runs; its result is ignored."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._session.cancel(self)
        return cancelled

    def settle(self, value: object, error: Exception | None) -> None:
        """Set the outcome, unless the job was cancelled."""
        if self.done():
            return
        if error is None:
            self.set_result(value)
        else:
            self.set_exception(error)
            self.exception()  # marks it as retrieved: asyncio logs nothing for a job that isn't awaited

    def accept(self, handle: str) -> None:
        """Note that Redis has the job; who waits for the handle is woken."""
        self.handle = handle
        if self._accepting is not None and not self._accepting.done():
            self._accepting.set_result(None)

    async def wait_for_handle(self) -> None:
        """Wait for the handle, or raise what `await` raises, if the job is settled without it."""
        if self.handle is None and not self.done():
            self._accepting = self.get_loop().create_future()
            await asyncio.wait([self, self._accepting], return_when=asyncio.FIRST_COMPLETED)
        if self.handle is None:
            self.result()
