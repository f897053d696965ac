"""The unsettled jobs of one session: those that wait to be pushed, their times, and their outcomes.

Nothing here knows the connection. `jobqueue.calls.calls` tells what became of it.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from jobqueue.calls.deadlines import Deadlines
from jobqueue.calls.kept import Keep, Own
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

    def __init__(
        self,
        job: JobT,
        deadline: float | None,
        message: bytes | None,
        expires_at: float | None,
        keep: Keep | None,
    ) -> None:
        self.job = job
        self.deadline = deadline
        self.message = message
        self.expires_at = expires_at
        self.keep = keep


class Unsettled(Generic[JobT]):
    """Those of the session that receives results on this channel."""

    def __init__(self, channel: bytes) -> None:
        self._channel = channel
        self.calls: dict[str, Call[JobT]] = {}  # by id
        self.waiting: deque[list[str]] = deque()  # the ids of each submission that isn't pushed
        self._deadlines = Deadlines(self.calls)
        self._losses = Deadlines(self.calls)  # until when the results of kept jobs may be found
        self._settled: list[Settled[JobT]] = []
        self._handles: list[tuple[JobT, str]] = []
        self.own = Own(channel)
        self.waiting_bytes = 0
        self._any_expires = False  # most clients have no job that does

    def submit(self, batch: Iterable[Submission[JobT]], deadline: float | None) -> None:
        """Register jobs, to be pushed in one command in this order."""
        ids = []
        for job_id, job, message, expires_at, keep in batch:
            self.calls[job_id] = Call(job, deadline, message, expires_at, keep)
            if expires_at is not None:
                self._any_expires = True
            if message is not None:
                self.waiting_bytes += len(message)
            if keep is None or keep.channel is None:
                ids.append(job_id)
                continue
            # client.subscribe.before-push: it is pushed when this channel is subscribed to.
            self.own.add(keep.channel, job_id, keep)
            if deadline is not None:
                self._deadlines.add(deadline, [job_id])
        if ids:
            self.waiting.append(ids)
            if deadline is not None:
                self._deadlines.add(deadline, ids)

    def refuse(self, batch: Iterable[Submission[JobT]]) -> None:
        """Settle jobs that come too late."""
        for submission in batch:
            error = NotQueued("the client is closed")
            self._settled.append(Settled(submission.job, None, error))

    def unpushed(self) -> Iterator[str]:
        """Return the jobs that aren't pushed; none may be added or removed meanwhile."""
        for job_id in chain(chain.from_iterable(self.waiting), self.own.unconfirmed()):
            call = self.calls.get(job_id)
            if call is not None and call.message is not None:
                yield job_id

    def next_expires(self) -> bool:
        """Tell whether a job of the submission that is pushed next expires."""
        return self._any_expires and any(map(self._expires, self.waiting[0]))

    def subscribed(self, ids: Iterable[str]) -> None:
        """Push the jobs whose own channel is subscribed to now, or look their results up."""
        for job_id in ids:
            call = self.calls[job_id]
            if call.message is not None:
                self.waiting.append([job_id])
            else:
                self.own.look(job_id)

    def resubscribed(self) -> None:
        """Look up the results of kept jobs, since the client is subscribed again."""
        for job_id, call in self.calls.items():
            if call.message is None and call.keep is not None and call.keep.channel is None:
                self.own.look(job_id)

    def lost(self, reason: str, now: float) -> None:
        """Note that a connection on which jobs were pushed is lost."""
        # client.subscribe.before-push: jobs with channels of their own wait for these again.
        self.waiting = deque(ids for ids in self.waiting if not self._has_own_channel(ids[0]))
        # client.lost.settles, client.lost.waits: a pushed job with a timeout continues to wait,
        # and a job that wasn't pushed is pushed later.
        for job_id, call in list(self.calls.items()):
            if call.message is None and call.deadline is None:
                keep = call.keep
                if keep is None or not keep.pushed:
                    self.settle(job_id, None, ConnectionLost(f"{reason}; the job may have run"))
                elif not keep.lost and not keep.collects:
                    # client.kept.waits, client.kept.lost
                    keep.lost = True
                    self._losses.add(now + keep.seconds, [job_id])

    def unconnected(self, reason: str) -> None:
        """Note that there is no connection to push on."""
        # client.settle.unconnected
        for job_id in list(self.unpushed()):
            self.give_up(job_id, f"no connection to push on: {reason}")
        self.waiting.clear()
        for job_id, call in list(self.calls.items()):
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
        if self._losses:
            for job_id in self._losses.passed(now):
                sentence = "a connection was lost, and no result was found; the job may have run"
                self.settle(job_id, None, ConnectionLost(sentence))

    def next_time(self) -> float:
        """Return when the time decides something, or infinity."""
        at = self._deadlines.next()
        return min(at, self._losses.next()) if self._losses else at

    def arrived(self, channel: bytes, message: bytes) -> None:
        """Settle what a message of a subscription settles."""
        try:
            result = messages.decode_result(message)
        except InvalidMessage:
            return  # client.ignore.malformed
        # client.settle.result, client.settle.value, client.settle.error, client.settle.data
        for job_id in self.own.waiting(channel, result.id):
            self._settle_kept(job_id, result)
        call = self.calls.get(result.id) if channel == self._channel else None
        if call is not None and (call.keep is None or call.keep.channel is None):
            self.settle(result.id, result.value, result.error)

    def found(self, job_id: str, stored: bytes) -> None:
        """Settle a job by its stored result."""
        call = self.calls.get(job_id)
        try:
            result = messages.decode_result(stored)
        except InvalidMessage:
            return  # client.ignore.malformed
        # client.kept.looks, client.kept.collects
        if call is not None and call.keep is not None and result.id == call.keep.id:
            self._settle_kept(job_id, result)

    def unsubscribed(self, job_id: str, reason: str, again_at: float | None) -> None:
        """Give up a job whose own channel is refused, unless it waits for its result and may be asked for again."""
        call = self.calls[job_id]
        if again_at is not None and call.message is None and call.keep is not None:
            self.own.again(job_id, call.keep, again_at)
        else:
            self.give_up(job_id, reason)

    def unfound(self, job_id: str, reason: str, again_at: float | None) -> None:
        """Look for a result again if that may help; else give up a job that is only collected."""
        call = self.calls.get(job_id)
        if call is None or call.keep is None:
            return
        # client.kept.looks, client.kept.collects
        if again_at is not None:
            self.own.again(job_id, call.keep, again_at)
        elif call.keep.collects:
            self.give_up(job_id, reason)

    def accepted(self, keep: Keep, job: JobT) -> None:
        """Note that Redis has a job, by the answer to its push or by its result."""
        # client.kept.handle
        if not keep.pushed and keep.channel is not None:
            self._handles.append((job, str(keep.handle)))
        keep.pushed = True

    def give_up(self, job_id: str, reason: str) -> None:
        """Settle a job that can't be pushed, or whose result can't be received."""
        call = self.calls.get(job_id)
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
        call = self.calls.pop(job_id, None)
        if call is not None:
            if call.message is not None:
                self.waiting_bytes -= len(call.message)
            if call.keep is not None and call.keep.channel is not None:
                self.own.remove(call.keep.channel, job_id)
        return call

    def end(self, error: Exception) -> None:
        """Settle all of them."""
        for job_id in list(self.calls):
            self.settle(job_id, None, error)
        self.waiting.clear()
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

    def _settle_kept(self, job_id: str, result: messages.Result) -> None:
        call = self.calls[job_id]
        if call.keep is not None and call.keep.handle is not None:
            self.accepted(call.keep, call.job)
            if call.keep.delete:
                self.own.delete(call.keep.handle.digest)
        self.settle(job_id, result.value, result.error)

    def _has_own_channel(self, job_id: str) -> bool:
        call = self.calls.get(job_id)
        return call is not None and call.keep is not None and call.keep.channel is not None

    def _expires(self, job_id: str) -> bool:
        call = self.calls.get(job_id)
        return call is not None and call.expires_at is not None
