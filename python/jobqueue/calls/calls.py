"""A client's jobs, from the call to the outcome: the decisions of the protocol's section 6.

One `Calls` is the session of one client on one channel. Its driver reports events: a job is
submitted or cancelled, a connection is made or lost, a frame arrives, time passes. After each of
these the driver asks what to do: `take_settled` (jobs with an outcome), `take_handles` (jobs whose
push is answered), `take_controls` and `take_push` (what to write), `connect_at` and `next_tick` (when
to act again).

    AWAY ──attempt──▶ CONNECTING ──connected──▶ SUBSCRIBING ──subscribed──▶ OPEN
      ▲                    │                         │                       │
      └────────────────────┴─────────── lost ────────┴───────────────────────┘
    any ──end──▶ CLOSED

If one of its links is lost, the connection is lost.

`received` and `tick` raise ConnectionLost if the connection can't be used any more. The state is
consistent then; the driver closes the links and calls `lost`. An event that the table doesn't have
raises ValueError and changes nothing: it is a bug of the driver. No other exception is raised.

Times are seconds on one monotonic clock, passed as arguments. Nothing here waits, draws random
numbers or reads.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import TYPE_CHECKING, Generic, TypeVar

from jobqueue.calls.clock import Clock
from jobqueue.calls.links import Links, Request
from jobqueue.calls.unsettled import Unsettled
from jobqueue.core.backoff import delay_seconds
from jobqueue.errors import ConnectionLost, NotQueued
from jobqueue.protocol import keys, messages
from jobqueue.protocol.commands import ErrorReply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.calls.unsettled import Settled, Submission
    from jobqueue.protocol.commands import Command, Reply

ATTEMPT_SECONDS = 10.0  # how long an attempt to connect may take
RETRY_SECONDS = 1.0  # the longest wait for the next attempt
CLOSE_SECONDS = 2.0  # how long a closing client continues to push what was submitted
URGENT_SECONDS = 0.05  # the longest wait for the next attempt while a job waits to be pushed
AGAIN_SECONDS = 1.0  # until a busy Redis is asked again for what is kept

# Errors of a Redis that doesn't serve now; to reconnect may find another one.
_UNAVAILABLE = {"READONLY", "LOADING", "MASTERDOWN", "MOVED", "CLUSTERDOWN"}
# Errors of one that may answer later: a script runs for long, or a part of a cluster moves.
_BUSY = {"BUSY", "ASK"}

JobT = TypeVar("JobT")


class State(Enum):
    """The states of a session."""

    AWAY = auto()  # no connection, and none is being made
    CONNECTING = auto()
    SUBSCRIBING = auto()  # connected; Redis hasn't confirmed the subscription
    OPEN = auto()  # the only state in which jobs are pushed
    CLOSED = auto()  # everything is settled, and nothing will be registered again


# An event that is missing here is a bug of the driver.
_NEXT = {
    (State.AWAY, "attempt"): State.CONNECTING,
    (State.CONNECTING, "connected"): State.SUBSCRIBING,
    (State.CONNECTING, "lost"): State.AWAY,
    (State.SUBSCRIBING, "subscribed"): State.OPEN,
    (State.SUBSCRIBING, "lost"): State.AWAY,
    (State.OPEN, "lost"): State.AWAY,
    **{(state, "end"): State.CLOSED for state in State},
}


class Calls(Generic[JobT]):
    """The unsettled jobs of one session, and the state of its connection.

    Args:
        queue: The key of the queue.
        channel: The channel on which results arrive.
    """

    def __init__(self, queue: bytes, channel: bytes) -> None:
        self._queue = queue
        self._channel = channel
        self._state = State.AWAY
        self._jobs: Unsettled[JobT] = Unsettled(channel)
        self._links = Links()
        self._clock = Clock()
        self._asks_time = False
        self._since = float("-inf")  # when the state last changed
        self._failures = 0
        self._retry_at = float("-inf")
        self._closing_until: float | None = None
        self._closing_reason = ""
        self._released = False

    def __len__(self) -> int:
        return len(self._jobs.calls)

    @property
    def state(self) -> State:
        """The state of the session."""
        return self._state

    @property
    def waiting_bytes(self) -> int:
        """The size of the jobs that wait to be pushed."""
        return self._jobs.waiting_bytes

    def submit(self, batch: Iterable[Submission[JobT]], deadline: float | None) -> None:
        """Register jobs, to be pushed in one command in this order.

        Args:
            batch: The jobs, with new ids (client.job.id).
            deadline: When their timeout passes; None if they have none.
        """
        # client.register.before-push
        if self._closing_until is not None or self._state is State.CLOSED:
            self._jobs.refuse(batch)
        else:
            self._jobs.submit(batch, deadline)

    def cancel(self, job_id: str) -> None:
        """Remove a job: it isn't pushed any more, and nothing settles it."""
        self._jobs.remove(job_id)

    def attempt(self, now: float) -> None:
        """Note that the driver starts to connect."""
        self._enter("attempt", now)

    def connected(self, links: int, now: float) -> None:
        """Note that the driver has a connection of one or two links."""
        self._enter("connected", now)
        self._links.open(links, now)
        # client.lost.waits: on the same channel as before.
        self._links.ask(self._links.last, (b"SUBSCRIBE", self._channel), Request(now))

    def lost(self, reason: str, now: float, jitter: float) -> None:
        """Note that the attempt has failed, or that the connection is lost.

        Args:
            reason: The message of the errors that settle jobs.
            now: The time.
            jitter: A new random number from 0 to 1.
        """
        was_open = self._state is State.OPEN
        self._enter("lost", now)
        self._clock.forget()
        self._asks_time = False
        self._links.close()
        if was_open:
            self._jobs.lost(reason, now)
        else:
            self._jobs.unconnected(reason)
        self._jobs.own.lost()
        self._failures += 1
        self._retry_at = now + delay_seconds(self._failures, jitter, RETRY_SECONDS)

    def connect_at(self) -> float | None:
        """Return when to start the next attempt; None if no job needs a connection."""
        # client.lost.resubscribes
        if self._state is not State.AWAY or not self._jobs.calls:
            return None
        if self._jobs.waiting or any(self._jobs.unpushed()):
            return min(self._retry_at, self._since + URGENT_SECONDS)
        return self._retry_at

    def take_controls(self, now: float) -> list[tuple[int, Command]]:
        """Return the commands to write now, each with the number of its link."""
        own = self._jobs.own
        own.wake(now)
        if own.busy and self._state is State.OPEN:
            self._ask_for_kept(now)
        return self._links.take_controls()

    @property
    def has_controls(self) -> bool:
        """Whether `take_controls` may have something that no other event leads to."""
        return self._jobs.own.busy

    def take_push(self, now: float) -> Command | None:
        """Return the next push for the first link, or None. The driver writes it before the next call.

        What is pushed next may need the time first: then the command that asks for it is returned.
        """
        # client.subscribe.before-push
        jobs = self._jobs
        while jobs.waiting and self._state is State.OPEN and not self._asks_time:
            if jobs.next_expires() and not self._clock.good(now):
                self._asks_time = True
                self._links.written(Request(now, asks_time=True))
                return (b"TIME",)
            pushed, kept, command = [], [], [b"LPUSH", self._queue]
            for job_id in jobs.waiting.popleft():
                call = jobs.calls.get(job_id)
                # client.push.settled
                if call is None or call.message is None:
                    continue
                message = call.message
                jobs.waiting_bytes -= len(message)
                if call.expires_at is not None:
                    at_ms = self._clock.redis_ms(call.expires_at)
                    message = messages.with_expiry(message, at_ms)
                if call.keep is not None:
                    call.keep.name(message, self._channel)
                    kept.append((call.keep, call.job))
                pushed.append(job_id)
                command.append(message)
                call.message = None
            if pushed:
                # client.push.left, client.push.once
                self._links.written(Request(now, pushed, kept=kept))
                return tuple(command)
        return None

    def received(self, link: int, frames: list[Reply], now: float) -> None:
        """Process what Redis has sent on a link: replies, and messages of the subscription.

        Raises:
            ConnectionLost: Redis can't serve now, or sent an unexpected reply. All frames were
                processed nevertheless.
        """
        self._links.heard(link, now)
        failure: ConnectionLost | None = None
        for frame in frames:
            if isinstance(frame, list) and frame and frame[0] == b"message":
                self._failures = 0
                self._jobs.arrived(frame[1], frame[-1])
                continue
            try:
                self._frame(link, frame, now)
            except ConnectionLost as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def tick(self, now: float) -> None:
        """Apply what the time decides: timeouts, the end of closing, a silent Redis.

        Raises:
            ConnectionLost: Redis doesn't reply, or the attempt to connect takes too long.
        """
        self._jobs.passed(now)
        if self._released and not self._jobs.calls:
            self.close(now)
        if self._closing_until is not None and (now >= self._closing_until or self._flushed()):
            self.end(f"{self._closing_reason} before a result came", now)
        # client.connection.silent
        if self._state is State.CONNECTING and now >= self._since + ATTEMPT_SECONDS:
            raise ConnectionLost(f"no connection to Redis within {ATTEMPT_SECONDS:g} s")
        self._links.tick(now, wanted=bool(self._jobs.calls))

    def next_tick(self) -> float | None:
        """Return when to call `tick` next, unless another event comes first; None for never."""
        times = [self._jobs.next_time(), self._jobs.own.next_time()]
        if self._released and not self._jobs.calls and self._state is not State.CLOSED:
            times.append(self._since)
        elif self._closing_until is not None and self._state is not State.CLOSED:
            times.append(self._since if self._flushed() else self._closing_until)
        if self._state is State.CONNECTING:
            times.append(self._since + ATTEMPT_SECONDS)
        times += self._links.next_tick(wanted=bool(self._jobs.calls))
        at = min(times)
        return None if at == math.inf else at

    def take_settled(self) -> list[Settled[JobT]]:
        """Return the jobs that have been settled since the last call."""
        return self._jobs.take_settled()

    def take_handles(self) -> list[tuple[JobT, str]]:
        """Return the jobs that have got their handles since the last call, each with its handle."""
        return self._jobs.take_handles()

    def close(self, now: float, reason: str = "the client was closed") -> None:
        """Accept no more jobs; push those that wait, for 2 seconds at most, and then end."""
        if self._closing_until is None:
            self._closing_until = now + CLOSE_SECONDS
            self._closing_reason = reason

    def release(self) -> None:
        """Close as soon as every job is settled, since no more are going to be submitted."""
        self._released = True

    def end(self, reason: str, now: float) -> None:
        """End at once, in any state: every job is settled, and nothing is pushed any more."""
        self._enter("end", now)
        self._jobs.end(ConnectionLost(reason))
        self._links.close()

    def _enter(self, event: str, now: float) -> None:
        if (self._state, event) not in _NEXT:
            raise ValueError(f"the event {event!r} is not possible in state {self._state.name}")
        self._state = _NEXT[self._state, event]
        self._since = now

    def _ask_for_kept(self, now: float) -> None:
        own, links = self._jobs.own, self._links
        for command in own.subscriptions():
            channel = command[1] if command[0] == b"SUBSCRIBE" else None
            links.ask(links.last, command, Request(now, channel=channel))
        for digest in own.take_deletes():
            links.ask(0, (b"DEL", keys.result(self._queue, digest)), Request(now))
        while (job_id := own.next_look()) is not None:
            call = self._jobs.calls.get(job_id)
            if call is None or call.keep is None or call.keep.handle is None:
                own.looked()  # it was settled meanwhile
                continue
            key = keys.result(self._queue, call.keep.handle.digest)
            links.ask(0, (b"GET", key), Request(now, looks_up=job_id))

    def _frame(self, link: int, frame: Reply, now: float) -> None:
        if isinstance(frame, list) and frame and not self._answers(link, frame, now):
            return
        request = self._links.answered(link, frame)
        if request.looks_up is not None:
            self._jobs.own.looked()
        if isinstance(frame, ErrorReply):
            self._refused(request, frame, now)
        elif request.pushed is not None:
            self._failures = 0
            for keep, job in request.kept:
                self._jobs.accepted(keep, job)
        elif request.channel is not None:
            self._jobs.subscribed(self._jobs.own.subscribed(request.channel))
        elif request.looks_up is not None and isinstance(frame, bytes):
            self._jobs.found(request.looks_up, frame)

    def _answers(self, link: int, frame: list[Reply], now: float) -> bool:
        """Process an array, and tell whether it answers a request."""
        if frame[0] == b"subscribe" and self._state is State.SUBSCRIBING:
            self._enter("subscribed", now)
            self._jobs.resubscribed()
            return True
        if self._asks_time and link == 0 and frame[0].isdigit():
            self._clock.tell(self._links.first().at, frame)
            self._asks_time = False
            return True
        # What is missing here is a kind of push message that a later version of Redis may add.
        return frame[0] in {b"pong", b"subscribe", b"unsubscribe"}

    def _refused(self, request: Request, error: ErrorReply, now: float) -> None:
        if request.pushed is None and self._state is State.SUBSCRIBING:
            raise ConnectionLost(f"Redis refused to subscribe: {error.text}")
        if request.asks_time and error.code not in _UNAVAILABLE:
            self._asks_time = False
            self._jobs.expire_unknown(f"Redis refused the job: {error.text}")
        for job_id in request.pushed or ():
            # client.settle.not-queued
            self._jobs.settle(job_id, None, NotQueued(f"Redis refused the job: {error.text}"))
        if error.code in _UNAVAILABLE:
            raise ConnectionLost(f"Redis can't serve now: {error.text}")
        again_at = now + AGAIN_SECONDS if error.code in _BUSY else None
        if request.channel is not None:
            for job_id in self._jobs.own.refused(request.channel):
                reason = f"Redis refused to subscribe: {error.text}"
                self._jobs.unsubscribed(job_id, reason, again_at)
        if request.looks_up is not None:
            self._jobs.unfound(request.looks_up, f"Redis refused to look: {error.text}", again_at)

    def _flushed(self) -> bool:
        return not any(self._jobs.unpushed()) and not self._links.pushes()
