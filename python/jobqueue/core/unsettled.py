"""The unsettled jobs of one session: those that wait to be pushed, their times, and their outcomes.

Nothing here knows the connection. `jobqueue.core.calls` tells what became of it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from jobqueue.core.deadlines import Deadlines
from jobqueue.core.kept import Keep, Own
from jobqueue.errors import ConnectionLost, InvalidMessage, JobTimeout, NotQueued
from jobqueue.protocol import messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

JobT = TypeVar("JobT")


class Submission(NamedTuple, Generic[JobT]):
    """A job to register: its id, the driver's object for it, its bytes, and when it expires.

    A job whose result is kept has a `Keep`; one that is only collected has no bytes.
    """

    id: str
    job: JobT
    message: bytes | None
    expires_at: float | None = None
    keep: Keep | None = None


class Settled(NamedTuple, Generic[JobT]):
    """A job's outcome: an error, or else a value."""

    job: JobT
    value: object
    error: Exception | None


class Call(Generic[JobT]):
    """An unsettled job. It holds its message until it is pushed."""

    __slots__ = ("deadline", "expires_at", "job", "keep", "message")

    def __init__(self, submission: Submission[JobT], deadline: float | None) -> None:
        _, self.job, self.message, self.expires_at, self.keep = submission
        self.deadline = deadline


class Unsettled(Generic[JobT]):
    """Those of the session that receives results on this channel."""

    def __init__(self, channel: bytes) -> None:
        self._channel = channel
        self._calls: dict[str, Call[JobT]] = {}
        self._waiting: deque[list[str]] = deque()  # the ids of each submission that isn't pushed
        self._deadlines = Deadlines(self._calls)
        self._losses = Deadlines(self._calls)  # until when the results of kept jobs may be found
        self._settled: list[Settled[JobT]] = []
        self._handles: list[tuple[JobT, str]] = []
        self.own = Own()
        self.waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._calls)

    def get(self, job_id: str) -> Call[JobT] | None:
        """Return an unsettled job."""
        return self._calls.get(job_id)

    def submit(self, batch: Iterable[Submission[JobT]], deadline: float | None) -> None:
        """Register jobs, to be pushed in one command in this order."""
        ids, shared = [], []
        for submission in batch:
            call = Call(submission, deadline)
            self._calls[submission.id] = call
            self.waiting_bytes += len(call.message or b"")
            ids.append(submission.id)
            if call.keep is not None and call.keep.channel is not None:
                # client.subscribe.before-push: it is pushed when this channel is subscribed to.
                self.own.add(call.keep.channel, submission.id, call.keep)
            else:
                shared.append(submission.id)
        if shared:
            self._waiting.append(shared)
        if ids and deadline is not None:
            self._deadlines.add(deadline, ids, self._limit)

    def refuse(self, batch: Iterable[Submission[JobT]]) -> None:
        """Settle jobs that come too late."""
        for submission in batch:
            error = NotQueued("the client is closed")
            self._settled.append(Settled(submission.job, None, error))

    @property
    def waits(self) -> bool:
        """Whether submissions wait to be pushed, even if their jobs are settled."""
        return bool(self._waiting)

    def unpushed(self) -> Iterator[str]:
        """Return the jobs that aren't pushed."""
        for job_id in [*(each for ids in self._waiting for each in ids), *self.own.unconfirmed()]:
            call = self._calls.get(job_id)
            if call is not None and call.message is not None:
                yield job_id

    def next_expires(self) -> bool:
        """Tell whether a job of the submission that is pushed next expires."""
        return any(self._expires(job_id) for job_id in self._waiting[0])

    def take_next(self) -> list[tuple[str, Call[JobT]]]:
        """Remove the submission that is pushed next, and return those of its jobs that are unsettled."""
        found = ((job_id, self._calls.get(job_id)) for job_id in self._waiting.popleft())
        return [
            (job_id, call)
            for job_id, call in found
            if call is not None and call.message is not None
        ]

    def subscribed(self, ids: Iterable[str]) -> None:
        """Push the jobs whose own channel is subscribed to now, or look their results up."""
        for job_id in ids:
            call = self._calls[job_id]
            if call.message is not None:
                self._waiting.append([job_id])
            else:
                self.own.look(job_id)

    def resubscribed(self) -> None:
        """Look up the results of kept jobs, since the client is subscribed again."""
        for job_id, call in self._calls.items():
            if call.message is None and call.keep is not None and call.keep.channel is None:
                self.own.look(job_id)

    def lost(self, reason: str, now: float) -> None:
        """Note that a connection on which jobs were pushed is lost."""
        # client.subscribe.before-push: jobs with channels of their own wait for these again.
        self._waiting = deque(ids for ids in self._waiting if not self._has_own_channel(ids[0]))
        # client.lost.settles, client.lost.waits: a pushed job with a timeout continues to wait,
        # and a job that wasn't pushed is pushed later.
        for job_id, call in list(self._calls.items()):
            if call.message is None and call.deadline is None:
                keep = call.keep
                if keep is None or not keep.pushed:
                    self.settle(job_id, None, ConnectionLost(f"{reason}; the job may have run"))
                elif not keep.lost and not keep.collects:
                    # client.kept.waits, client.kept.lost
                    keep.lost = True
                    self._losses.add(now + keep.seconds, [job_id], self._limit)

    def unconnected(self, reason: str) -> None:
        """Note that there is no connection to push on."""
        # client.settle.unconnected
        for job_id in list(self.unpushed()):
            self.give_up(job_id, f"no connection to push on: {reason}")
        self._waiting.clear()
        for job_id, call in list(self._calls.items()):
            never = call.keep is not None and call.keep.collects and not call.keep.ready
            if never and call.deadline is None:
                self.give_up(job_id, f"no connection: {reason}")

    def expire_unknown(self, reason: str) -> None:
        """Settle the jobs that can't be told when they expire."""
        for job_id in [job_id for job_id in self.unpushed() if self._expires(job_id)]:
            self.give_up(job_id, reason)

    def passed(self, now: float) -> None:
        """Apply what the time decides."""
        # client.timeout.settles, client.timeout.local
        for job_id in self._deadlines.passed(now):
            self.settle(job_id, None, JobTimeout("no result came within the job's timeout"))
        # client.kept.lost
        for job_id in self._losses.passed(now):
            sentence = "a connection was lost, and no result was found; the job may have run"
            self.settle(job_id, None, ConnectionLost(sentence))

    def next_times(self) -> list[float]:
        """Return when the time decides something."""
        return self._deadlines.next() + self._losses.next()

    def arrived(self, channel: bytes, message: bytes) -> None:
        """Settle what a message of a subscription settles."""
        try:
            result = messages.decode_result(message)
        except InvalidMessage:
            return  # client.ignore.malformed
        # client.settle.result, client.settle.value, client.settle.error, client.settle.data
        if channel != self._channel:
            for job_id in self.own.waiting(channel, result.id):
                self._settle_kept(job_id, result)
            return
        if not self._has_own_channel(result.id):
            self.settle(result.id, result.value, result.error)

    def found(self, job_id: str, stored: bytes) -> None:
        """Settle a job by its stored result."""
        call = self._calls.get(job_id)
        try:
            result = messages.decode_result(stored)
        except InvalidMessage:
            return  # client.ignore.malformed
        # client.kept.looks, client.kept.collects
        if call is not None and call.keep is not None and result.id == call.keep.id:
            self._settle_kept(job_id, result)

    def unfound(self, job_id: str, reason: str) -> None:
        """Give up a job that is only collected, since its result can't be looked up."""
        call = self._calls.get(job_id)
        if call is not None and call.keep is not None and call.keep.collects:
            self.give_up(job_id, reason)

    def accepted(self, keep: Keep, job: JobT) -> None:
        """Note that Redis has a job, by the answer to its push or by its result."""
        # client.kept.handle
        if not keep.pushed and keep.channel is not None:
            self._handles.append((job, str(keep.handle)))
        keep.pushed = True

    def give_up(self, job_id: str, reason: str) -> None:
        """Settle a job that can't be pushed, or whose result can't be received."""
        call = self._calls.get(job_id)
        if call is not None and call.message is None:
            self.settle(job_id, None, ConnectionLost(f"{reason}; the job may have run"))
        else:
            self.settle(job_id, None, NotQueued(reason))

    def settle(self, job_id: str, value: object, error: Exception | None) -> None:
        """Settle a job, if it is unsettled."""
        # client.settle.once, client.ignore.unknown, client.concurrent.in-flight: the id alone decides.
        call = self.remove(job_id)
        if call is not None:
            self._settled.append(Settled(call.job, value, error))

    def remove(self, job_id: str) -> Call[JobT] | None:
        """Remove a job: it isn't pushed any more, and nothing settles it."""
        call = self._calls.pop(job_id, None)
        if call is not None:
            if call.message is not None:
                self.waiting_bytes -= len(call.message)
            if call.keep is not None and call.keep.channel is not None:
                self.own.remove(call.keep.channel, job_id)
        return call

    def end(self, error: Exception) -> None:
        """Settle all of them."""
        for job_id in list(self._calls):
            self.settle(job_id, None, error)
        self._waiting.clear()
        self._deadlines.clear()
        self._losses.clear()

    def take_settled(self) -> list[Settled[JobT]]:
        """Return the jobs that have been settled since the last call."""
        settled, self._settled = self._settled, []
        return settled

    def take_handles(self) -> list[tuple[JobT, str]]:
        """Return the jobs that have got their handles since the last call, each with its handle."""
        handles, self._handles = self._handles, []
        return handles

    @property
    def _limit(self) -> int:
        return 2 * len(self._calls) + 100

    def _settle_kept(self, job_id: str, result: messages.Result) -> None:
        call = self._calls[job_id]
        if call.keep is not None and call.keep.handle is not None:
            self.accepted(call.keep, call.job)
            if call.keep.delete:
                self.own.delete(call.keep.handle.digest)
        self.settle(job_id, result.value, result.error)

    def _has_own_channel(self, job_id: str) -> bool:
        call = self._calls.get(job_id)
        return call is not None and call.keep is not None and call.keep.channel is not None

    def _expires(self, job_id: str) -> bool:
        call = self._calls.get(job_id)
        return call is not None and call.expires_at is not None
