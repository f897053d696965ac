"""A client's jobs, from the call to the outcome: the decisions of the protocol's section 6.

One `Calls` is the session of one client on one channel. Its driver reports events: a job is
submitted or cancelled, a connection is made or lost, a frame arrives, time passes. After each of
these the driver asks what to do: `take_settled` (jobs with an outcome), `take_controls` and
`take_push` (what to write), `connect_at` and `next_tick` (when to act again).

    AWAY ──attempt──▶ CONNECTING ──connected──▶ SUBSCRIBING ──subscribed──▶ OPEN
      ▲                    │                         │                       │
      └────────────────────┴─────────── lost ────────┴───────────────────────┘
    any ──end──▶ CLOSED

A connection has one or two links. Jobs are pushed on the first link; messages arrive on the last
one. With RESP3 these are the same. If a link is lost, the connection is lost.

`received` and `tick` raise ConnectionLost if the connection can't be used any more. The state is
consistent then; the driver closes the links and calls `lost`. An event that the table doesn't have
raises ValueError and changes nothing: it is a bug of the driver. No other exception is raised.

Times are seconds on one monotonic clock, passed as arguments. Nothing here waits, draws random
numbers or reads.
"""

from __future__ import annotations

import heapq
from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from jobqueue.core.backoff import delay_seconds
from jobqueue.core.clock import Clock
from jobqueue.errors import ConnectionLost, InvalidMessage, JobTimeout, NotQueued
from jobqueue.protocol import messages
from jobqueue.protocol.commands import ErrorReply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.protocol.commands import Command, Reply

REPLY_TIMEOUT_SECONDS = 5.0  # without a reply that is due; and without anything, before a PING
ATTEMPT_SECONDS = 10.0  # how long an attempt to connect may take
CLOSE_SECONDS = 2.0  # how long a closing client continues to push what was submitted
URGENT_SECONDS = 0.05  # the longest wait for the next attempt while a job waits to be pushed
TIMEOUT_LIMIT_SECONDS = 1e9  # a longer timeout is the same as none: no wait of Python takes it

# Errors of a Redis that doesn't serve now; to reconnect may find another one.
_UNAVAILABLE = {"READONLY", "LOADING", "MASTERDOWN", "MOVED", "CLUSTERDOWN"}

JobT = TypeVar("JobT")
Expires: TypeAlias = float | Literal["timeout"] | None


def deadline_of(timeout: float | None, now: float, name: str = "timeout") -> float | None:
    """Return the time at which a timeout that starts now ends; None if it never does.

    Raises:
        ValueError: The timeout is negative or not a number.
    """
    # client.timeout.local
    if timeout is None:
        return None
    if not timeout >= 0:  # NaN, too
        raise ValueError(f"{name} must be a number of seconds, 0 or more, not {timeout}")
    return None if timeout > TIMEOUT_LIMIT_SECONDS else now + timeout


def expiry_of(
    expires: Expires, by_default: Expires, timeout: float | None, now: float
) -> float | None:
    """Return the time at which a job that is run now expires; None if it never does.

    Args:
        expires: Seconds, or "timeout" for those of the timeout; None is the default.
        by_default: The same, for jobs that don't say it.
        timeout: The job's timeout, in seconds.
        now: The time.

    Raises:
        ValueError: It is negative, not a number, or another word.
    """
    seconds = by_default if expires is None else expires
    if isinstance(seconds, str):
        if seconds != "timeout":
            raise ValueError(f"expires must be a number of seconds or 'timeout', not {seconds!r}")
        seconds = timeout
    return deadline_of(seconds, now, "expires")


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


class Submission(NamedTuple, Generic[JobT]):
    """A job to register: its id, the driver's object for it, its bytes, and when it expires."""

    id: str
    job: JobT
    message: bytes
    expires_at: float | None = None


class Settled(NamedTuple, Generic[JobT]):
    """A job's outcome: an error, or else a value."""

    job: JobT
    value: object
    error: Exception | None


class _Call(Generic[JobT]):
    """An unsettled job. It holds its message until it is pushed."""

    __slots__ = ("deadline", "expires_at", "job", "message")

    def __init__(
        self, job: JobT, deadline: float | None, message: bytes, expires_at: float | None
    ) -> None:
        self.job = job
        self.deadline = deadline
        self.message: bytes | None = message
        self.expires_at = expires_at


class _Request(NamedTuple):
    """A command whose reply is outstanding, and the ids of the jobs that it pushed, if any."""

    at: float
    pushed: list[str] | None
    asks_time: bool = False


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
        self._calls: dict[str, _Call[JobT]] = {}
        self._waiting: deque[list[str]] = deque()  # the ids of each submission that isn't pushed
        self._deadlines: list[tuple[float, int, list[str]]] = []  # a heap
        self._submissions = 0
        self._settled: list[Settled[JobT]] = []
        self._controls: list[tuple[int, Command]] = []
        self._outstanding: list[deque[_Request]] = []  # for each link, oldest first
        self._clock = Clock()
        self._asks_time = False
        self._received_at: list[float] = []  # for each link, when anything last came
        self._since = float("-inf")  # when the state last changed
        self._failures = 0
        self._retry_at = float("-inf")
        self._closing_until: float | None = None
        self._closing_reason = ""
        self._released = False
        self.waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def state(self) -> State:
        """The state of the session."""
        return self._state

    def submit(self, batch: Iterable[Submission[JobT]], deadline: float | None) -> None:
        """Register jobs, to be pushed in one command in this order.

        Args:
            batch: The jobs, with new ids (client.job.id).
            deadline: When their timeout passes; None if they have none.
        """
        # client.register.before-push
        ids = []
        for job_id, job, message, expires_at in batch:
            if self._closing_until is not None or self._state is State.CLOSED:
                self._settled.append(Settled(job, None, NotQueued("the client is closed")))
                continue
            self._calls[job_id] = _Call(job, deadline, message, expires_at)
            self.waiting_bytes += len(message)
            ids.append(job_id)
        if not ids:
            return
        self._waiting.append(ids)
        if deadline is not None:
            if len(self._deadlines) > 2 * len(self._calls) + 100:
                self._forget_settled_deadlines()
            self._submissions += 1
            heapq.heappush(self._deadlines, (deadline, self._submissions, ids))

    def cancel(self, job_id: str) -> None:
        """Remove a job: it isn't pushed any more, and nothing settles it."""
        self._take(job_id)

    def attempt(self, now: float) -> None:
        """Note that the driver starts to connect."""
        self._enter("attempt", now)

    def connected(self, links: int, now: float) -> None:
        """Note that the driver has a connection of one or two links."""
        self._enter("connected", now)
        self._outstanding = [deque() for _ in range(links)]
        self._received_at = [now] * links
        # client.lost.waits: on the same channel as before.
        self._ask(links - 1, (b"SUBSCRIBE", self._channel), now)

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
        self._outstanding, self._received_at, self._controls = [], [], []
        if was_open:
            # client.lost.settles, client.lost.waits: a pushed job with a timeout continues to wait,
            # and a job that wasn't pushed is pushed later.
            for job_id, call in list(self._calls.items()):
                if call.message is None and call.deadline is None:
                    error = ConnectionLost(f"{reason}; the job may have run")
                    self._settle(job_id, None, error)
        else:
            # client.settle.unconnected
            for job_id in [job_id for ids in self._waiting for job_id in ids]:
                self._settle(job_id, None, NotQueued(f"no connection to push on: {reason}"))
            self._waiting.clear()
        self._failures += 1
        self._retry_at = now + delay_seconds(self._failures, jitter)

    def connect_at(self) -> float | None:
        """Return when to start the next attempt; None if no job needs a connection."""
        # client.lost.resubscribes
        if self._state is not State.AWAY or not self._calls:
            return None
        if self._waiting:
            return min(self._retry_at, self._since + URGENT_SECONDS)
        return self._retry_at

    def take_controls(self) -> list[tuple[int, Command]]:
        """Return the commands to write now, each with the number of its link."""
        controls, self._controls = self._controls, []
        return controls

    def take_push(self, now: float) -> Command | None:
        """Return the next push for the first link, or None. The driver writes it before the next call.

        What is pushed next may need the time first: then the command that asks for it is returned.
        """
        # client.subscribe.before-push
        while self._state is State.OPEN and self._waiting and not self._asks_time:
            if not self._clock.good(now) and self._any_expires(self._waiting[0]):
                self._asks_time = True
                self._outstanding[0].append(_Request(now, None, asks_time=True))
                return (b"TIME",)
            pushed, command = [], [b"LPUSH", self._queue]
            for job_id in self._waiting.popleft():
                call = self._calls.get(job_id)
                # client.push.settled
                if call is not None and call.message is not None:
                    pushed.append(job_id)
                    self.waiting_bytes -= len(call.message)
                    if call.expires_at is not None:
                        at_ms = self._clock.redis_ms(call.expires_at)
                        call.message = messages.with_expiry(call.message, at_ms)
                    command.append(call.message)
                    call.message = None
            if pushed:
                # client.push.left, client.push.once
                self._outstanding[0].append(_Request(now, pushed))
                return tuple(command)
        return None

    def received(self, link: int, frames: list[Reply], now: float) -> None:
        """Process what Redis has sent on a link: replies, and messages of the subscription.

        Raises:
            ConnectionLost: Redis can't serve now, or sent an unexpected reply. All frames were
                processed nevertheless.
        """
        self._received_at[link] = now
        failure: ConnectionLost | None = None
        for frame in frames:
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
        # client.timeout.settles, client.timeout.local
        while self._deadlines and self._deadlines[0][0] <= now:
            for job_id in heapq.heappop(self._deadlines)[2]:
                error = JobTimeout("no result came within the job's timeout")
                self._settle(job_id, None, error)
        if self._released and not self._calls:
            self.close(now)
        if self._closing_until is not None and (now >= self._closing_until or self._flushed()):
            self.end(f"{self._closing_reason} before a result came", now)
        # client.connection.silent
        if self._state is State.CONNECTING and now >= self._since + ATTEMPT_SECONDS:
            raise ConnectionLost(f"no connection to Redis within {ATTEMPT_SECONDS:g} s")
        for link, outstanding in enumerate(self._outstanding):
            silent = now >= self._quiet_since(link) + REPLY_TIMEOUT_SECONDS
            if silent and outstanding:
                raise ConnectionLost(f"no reply from Redis within {REPLY_TIMEOUT_SECONDS:g} s")
            if silent and self._calls:
                self._ask(link, (b"PING",), now)

    def next_tick(self) -> float | None:
        """Return when to call `tick` next, unless another event comes first; None for never."""
        while self._deadlines and not self._any_unsettled(self._deadlines[0][2]):
            heapq.heappop(self._deadlines)
        times = [self._deadlines[0][0]] if self._deadlines else []
        if self._released and not self._calls and self._state is not State.CLOSED:
            times.append(self._since)
        elif self._closing_until is not None and self._state is not State.CLOSED:
            times.append(self._since if self._flushed() else self._closing_until)
        if self._state is State.CONNECTING:
            times.append(self._since + ATTEMPT_SECONDS)
        times += [
            self._quiet_since(link) + REPLY_TIMEOUT_SECONDS
            for link, outstanding in enumerate(self._outstanding)
            if outstanding or self._calls
        ]
        return min(times, default=None)

    def take_settled(self) -> list[Settled[JobT]]:
        """Return the jobs that have been settled since the last call."""
        settled, self._settled = self._settled, []
        return settled

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
        for job_id in list(self._calls):
            self._settle(job_id, None, ConnectionLost(reason))
        self._waiting.clear()
        self._deadlines.clear()
        self._outstanding, self._received_at, self._controls = [], [], []

    def _enter(self, event: str, now: float) -> None:
        if (self._state, event) not in _NEXT:
            raise ValueError(f"the event {event!r} is not possible in state {self._state.name}")
        self._state = _NEXT[self._state, event]
        self._since = now

    def _ask(self, link: int, command: Command, now: float) -> None:
        self._controls.append((link, command))
        self._outstanding[link].append(_Request(now, None))

    def _quiet_since(self, link: int) -> float:
        # A stream of messages proves that Redis is alive, however late the reply behind it is.
        received_at, outstanding = self._received_at[link], self._outstanding[link]
        return max(outstanding[0].at, received_at) if outstanding else received_at

    def _frame(self, link: int, frame: Reply, now: float) -> None:
        if isinstance(frame, list) and frame:
            if frame[0] == b"message":
                self._failures = 0
                self._message(frame[-1])
                return
            if frame[0] == b"subscribe" and self._state is State.SUBSCRIBING:
                self._enter("subscribed", now)
            elif self._asks_time and link == 0 and frame[0].isdigit():
                self._clock.tell(self._outstanding[0][0].at, frame)
                self._asks_time = False
            elif frame[0] != b"pong":
                return  # a kind of push message that a later version of Redis may add
        if not self._outstanding[link]:
            raise ConnectionLost(f"Redis sent an unexpected reply: {frame!r:.100}")
        request = self._outstanding[link].popleft()
        if isinstance(frame, ErrorReply):
            self._refused(request, frame)
        elif request.pushed is not None:
            self._failures = 0

    def _message(self, message: bytes) -> None:
        try:
            result = messages.decode_result(message)
        except InvalidMessage:
            return  # client.ignore.malformed
        # client.settle.result, client.settle.value, client.settle.error, client.settle.data
        self._settle(result.id, result.value, result.error)

    def _refused(self, request: _Request, error: ErrorReply) -> None:
        if request.pushed is None and self._state is State.SUBSCRIBING:
            raise ConnectionLost(f"Redis refused to subscribe: {error.text}")
        if request.asks_time and error.code not in _UNAVAILABLE:
            self._asks_time = False
            expiring = [job_id for ids in self._waiting for job_id in ids if self._expires(job_id)]
            request = request._replace(pushed=expiring)
        for job_id in request.pushed or []:
            # client.settle.not-queued
            self._settle(job_id, None, NotQueued(f"Redis refused the job: {error.text}"))
        if error.code in _UNAVAILABLE:
            raise ConnectionLost(f"Redis can't serve now: {error.text}")

    def _settle(self, job_id: str, value: object, error: Exception | None) -> None:
        # client.settle.once, client.ignore.unknown, client.concurrent.in-flight: the id alone decides.
        call = self._take(job_id)
        if call is not None:
            self._settled.append(Settled(call.job, value, error))

    def _take(self, job_id: str) -> _Call[JobT] | None:
        call = self._calls.pop(job_id, None)
        if call is not None and call.message is not None:
            self.waiting_bytes -= len(call.message)
        return call

    def _flushed(self) -> bool:
        waits = any(self._any_unsettled(ids) for ids in self._waiting)
        pushes = self._outstanding[0] if self._outstanding else ()
        return not waits and not any(request.pushed for request in pushes)

    def _any_unsettled(self, ids: list[str]) -> bool:
        return any(job_id in self._calls for job_id in ids)

    def _any_expires(self, ids: list[str]) -> bool:
        return any(self._expires(job_id) for job_id in ids)

    def _expires(self, job_id: str) -> bool:
        call = self._calls.get(job_id)
        return call is not None and call.expires_at is not None

    def _forget_settled_deadlines(self) -> None:
        self._deadlines = [entry for entry in self._deadlines if self._any_unsettled(entry[2])]
        heapq.heapify(self._deadlines)
