"""A client's jobs, from the call to the outcome: what section 6 of the protocol decides.

One `Calls` is the session of one client on one channel. Its driver tells it what happens: a job is
submitted or cancelled, a connection is made or lost, a frame arrives, time passes. After each of
these the driver asks what to do: `take_settled` (whose outcome is known), `take_controls` and
`take_push` (what to write), `connect_at` and `next_tick` (when to act again).

    AWAY ──attempt──▶ CONNECTING ──connected──▶ SUBSCRIBING ──subscribed──▶ OPEN
      ▲                    │                         │                       │
      └────────────────────┴─────────── lost ────────┴───────────────────────┘
    any ──end──▶ CLOSED

A connection has one link or two. On the first link jobs are pushed, on the last one messages
arrive; where Redis speaks RESP3, these are the same. The loss of a link is the loss of the
connection.

`received` and `tick` raise ConnectionLost where the connection is of no use any more. The core is
whole then; the driver closes the links and calls `lost`. No other exception leaves this file, but
for events that the table doesn't have, which are the driver's mistake and change nothing.

Time is in seconds on one clock, an argument as everything else: nothing here waits, draws or reads.
"""

from __future__ import annotations

import heapq
from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from jobqueue.core.backoff import delay_seconds
from jobqueue.errors import ConnectionLost, InvalidMessage, JobTimeout, NotQueued
from jobqueue.protocol import messages
from jobqueue.protocol.commands import ErrorReply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.protocol.commands import Command, Reply

REPLY_TIMEOUT_SECONDS = 5.0  # how long a Redis may be silent that owes a reply, and before a PING
ATTEMPT_SECONDS = 10.0  # how long an attempt to connect may take
CLOSE_SECONDS = 2.0  # how long a closing client goes on pushing what was submitted
EAGER_SECONDS = 0.05  # the longest back-off while a job waits to be pushed
ENDLESS_SECONDS = 1e9  # a longer timeout is none: nobody sees its end, and no wait can take it

# Errors that say that this Redis doesn't serve now: another address may have to be looked up.
_UNAVAILABLE = {"READONLY", "LOADING", "MASTERDOWN"}

JobT = TypeVar("JobT")


def deadline_of(timeout: float | None, now: float) -> float | None:
    """Return the time at which a timeout that begins now has passed; None where it never does.

    Raises:
        ValueError: The timeout is negative or not a number.
    """
    # client.timeout.local
    if timeout is None:
        return None
    if not timeout >= 0:  # NaN, too
        raise ValueError(f"a timeout must be a number of seconds from 0 on, not {timeout}")
    return None if timeout > ENDLESS_SECONDS else now + timeout


class State(Enum):
    """Where a session stands."""

    AWAY = auto()  # no connection, and none is being made
    CONNECTING = auto()
    SUBSCRIBING = auto()  # connected; Redis hasn't confirmed the subscription
    OPEN = auto()  # the only state in which jobs are pushed
    CLOSED = auto()  # everything is settled, and nothing will be registered again


# An event that is missing here is a mistake of the driver.
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
    """A job to register: what it is called, what the driver calls it, and its bytes."""

    id: str
    job: JobT
    message: bytes


class Settled(NamedTuple, Generic[JobT]):
    """A job's outcome: an error, or a value in place of one."""

    job: JobT
    value: object
    error: Exception | None


class _Call(Generic[JobT]):
    """An unsettled job; it has its message until it is pushed."""

    __slots__ = ("deadline", "job", "message")

    def __init__(self, job: JobT, deadline: float | None, message: bytes) -> None:
        self.job = job
        self.deadline = deadline
        self.message: bytes | None = message


class _Asked(NamedTuple):
    """A command whose reply is outstanding: the ids of the jobs that it pushed, if it is a push."""

    at: float
    pushed: list[str] | None


class Calls(Generic[JobT]):
    """The unsettled jobs of one session, and where its connection stands.

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
        self._asked: list[deque[_Asked]] = []  # for each link, oldest first
        self._heard: list[float] = []  # for each link, when anything last came
        self._since = float("-inf")  # when the state last changed
        self._failures = 0
        self._retry_at = float("-inf")
        self._closing_until: float | None = None
        self._released = False
        self.waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._state

    def submit(self, batch: Iterable[Submission[JobT]], deadline: float | None) -> None:
        """Register jobs that are to be pushed in one command, in their order.

        Args:
            batch: The jobs. Their ids are new (client.job.id).
            deadline: When their timeout has passed; None where they have none.
        """
        # client.register.before-push
        ids = []
        for job_id, job, message in batch:
            if self._closing_until is not None or self._state is State.CLOSED:
                self._settled.append(Settled(job, None, NotQueued("the client is closed")))
                continue
            self._calls[job_id] = _Call(job, deadline, message)
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
        """Forget a job: it isn't pushed any more, and nothing settles it."""
        self._take(job_id)

    def attempt(self, now: float) -> None:
        """The driver has begun to connect."""
        self._enter("attempt", now)

    def connected(self, links: int, now: float) -> None:
        """The driver has a connection of one or two links."""
        self._enter("connected", now)
        self._asked = [deque() for _ in range(links)]
        self._heard = [now] * links
        # client.lost.waits: on the same channel as before.
        self._ask(links - 1, (b"SUBSCRIBE", self._channel), now)

    def lost(self, reason: str, now: float, jitter: float) -> None:
        """The attempt has failed, or the connection is lost.

        Args:
            reason: The words for whoever loses a job by it.
            now: The time.
            jitter: From 0 to 1, drawn anew each time.
        """
        was_open = self._state is State.OPEN
        self._enter("lost", now)
        self._asked, self._heard, self._controls = [], [], []
        if was_open:
            # client.lost.settles, client.lost.waits: what was pushed and has a timeout goes on
            # waiting, and what wasn't pushed is pushed later.
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
        """Return when to begin the next attempt; None where there is nothing to connect for."""
        # client.lost.resubscribes
        if self._state is not State.AWAY or not self._calls:
            return None
        if self._waiting:
            return min(self._retry_at, self._since + EAGER_SECONDS)
        return self._retry_at

    def take_controls(self) -> list[tuple[int, Command]]:
        """Return the commands to write at once, each with the number of its link."""
        controls, self._controls = self._controls, []
        return controls

    def take_push(self, now: float) -> Command | None:
        """Return the next push for the first link, or None. The driver writes it before it asks on."""
        # client.subscribe.before-push
        while self._state is State.OPEN and self._waiting:
            pushed, command = [], [b"LPUSH", self._queue]
            for job_id in self._waiting.popleft():
                call = self._calls.get(job_id)
                # client.push.settled
                if call is not None and call.message is not None:
                    pushed.append(job_id)
                    command.append(call.message)
                    self.waiting_bytes -= len(call.message)
                    call.message = None
            if pushed:
                # client.push.left, client.push.once
                self._asked[0].append(_Asked(now, pushed))
                return tuple(command)
        return None

    def received(self, link: int, frames: list[Reply], now: float) -> None:
        """Take what Redis has sent on a link: replies, and messages of the subscription.

        Raises:
            ConnectionLost: Redis can't serve now, or has said what makes no sense here. Everything
                that has come is taken all the same.
        """
        self._heard[link] = now
        failure: ConnectionLost | None = None
        for frame in frames:
            try:
                self._frame(link, frame, now)
            except ConnectionLost as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def tick(self, now: float) -> None:
        """Let time pass: timeouts, a closing that has taken its time, a Redis that is silent.

        Raises:
            ConnectionLost: Redis doesn't answer.
        """
        # client.timeout.settles, client.timeout.local
        while self._deadlines and self._deadlines[0][0] <= now:
            for job_id in heapq.heappop(self._deadlines)[2]:
                error = JobTimeout("no result came within the job's timeout")
                self._settle(job_id, None, error)
        if self._released and not self._calls:
            self.close(now)
        if self._closing_until is not None and (now >= self._closing_until or self._flushed()):
            self.end("the client was closed before a result came", now)
        # client.connection.silent
        if self._state is State.CONNECTING and now >= self._since + ATTEMPT_SECONDS:
            raise ConnectionLost(f"no connection to Redis within {ATTEMPT_SECONDS:g} s")
        for link, asked in enumerate(self._asked):
            silent = now >= self._quiet_since(link) + REPLY_TIMEOUT_SECONDS
            if silent and asked:
                raise ConnectionLost("Redis doesn't answer")
            if silent and self._calls:
                self._ask(link, (b"PING",), now)

    def next_tick(self) -> float | None:
        """Return when `tick` has something to do, if nothing else happens before."""
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
            for link, asked in enumerate(self._asked)
            if asked or self._calls
        ]
        return min(times, default=None)

    def take_settled(self) -> list[Settled[JobT]]:
        """Return the jobs that have an outcome now, each of them once."""
        settled, self._settled = self._settled, []
        return settled

    def close(self, now: float) -> None:
        """Register nothing any more; push what waits, for a short time at most, and then end."""
        if self._closing_until is None:
            self._closing_until = now + CLOSE_SECONDS

    def release(self) -> None:
        """Nobody can submit any more: close as soon as every job is settled."""
        self._released = True

    def end(self, reason: str, now: float) -> None:
        """End at once, in whatever state: every job is settled, and nothing is pushed any more."""
        self._enter("end", now)
        for job_id in list(self._calls):
            self._settle(job_id, None, ConnectionLost(reason))
        self._waiting.clear()
        self._deadlines.clear()
        self._asked, self._heard, self._controls = [], [], []

    def _enter(self, event: str, now: float) -> None:
        if (self._state, event) not in _NEXT:
            raise ValueError(f"{event} can't happen in the state {self._state.name}")
        self._state = _NEXT[self._state, event]
        self._since = now

    def _ask(self, link: int, command: Command, now: float) -> None:
        self._controls.append((link, command))
        self._asked[link].append(_Asked(now, None))

    def _quiet_since(self, link: int) -> float:
        # A stream of messages proves that Redis is there, however long the reply behind it takes.
        asked = self._asked[link]
        return max(asked[0].at, self._heard[link]) if asked else self._heard[link]

    def _frame(self, link: int, frame: Reply, now: float) -> None:
        if isinstance(frame, list) and frame:
            if frame[0] == b"message":
                self._failures = 0
                self._message(frame[-1])
                return
            if frame[0] == b"subscribe" and self._state is State.SUBSCRIBING:
                self._enter("subscribed", now)
            elif frame[0] != b"pong":
                return  # something that later versions of Redis may tell, unasked
        if not self._asked[link]:
            raise ConnectionLost(f"Redis has sent what nobody asked for: {frame!r:.100}")
        asked = self._asked[link].popleft()
        if isinstance(frame, ErrorReply):
            self._refused(asked, frame)
        elif asked.pushed is not None:
            self._failures = 0

    def _message(self, message: bytes) -> None:
        try:
            result = messages.decode_result(message)
        except InvalidMessage:
            return  # client.ignore.malformed
        # client.settle.result, client.settle.value, client.settle.error, client.settle.data
        self._settle(result.id, result.value, result.error)

    def _refused(self, asked: _Asked, error: ErrorReply) -> None:
        if asked.pushed is None and self._state is State.SUBSCRIBING:
            raise ConnectionLost(f"Redis refused to subscribe: {error.text}")
        for job_id in asked.pushed or []:
            # client.settle.not-queued
            self._settle(job_id, None, NotQueued(f"Redis refused the job: {error.text}"))
        if error.code in _UNAVAILABLE:
            raise ConnectionLost(f"Redis can't serve now: {error.text}")

    def _settle(self, job_id: str, value: object, error: Exception | None) -> None:
        # client.settle.once, client.ignore.unknown
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
        pushes = self._asked[0] if self._asked else ()
        return not waits and not any(asked.pushed for asked in pushes)

    def _any_unsettled(self, ids: list[str]) -> bool:
        return any(job_id in self._calls for job_id in ids)

    def _forget_settled_deadlines(self) -> None:
        self._deadlines = [entry for entry in self._deadlines if self._any_unsettled(entry[2])]
        heapq.heapify(self._deadlines)
