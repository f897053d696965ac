"""The session of a client in one process: a thread that owns the core, the sockets and the clock.

An application's thread only puts a request into the inbox, and never waits for Redis. Everything
else happens in the session's thread, except for connecting: redis-py can only do that by blocking,
so another thread does it.

A session ends once: when it is closed, or by an unexpected exception, which settles every job with a
message that says so. Then `ended` is true, and the client makes a new session for its next job.
"""

from __future__ import annotations

import logging
import random
import selectors
import threading
import time
import uuid
from typing import TYPE_CHECKING

from jobqueue.calls.calls import CLOSE_SECONDS, Calls, State
from jobqueue.core.log import Log
from jobqueue.errors import ConnectionLost, JobError, NotQueued
from jobqueue.host.forks import Process
from jobqueue.protocol import keys
from jobqueue.threads.callbacks import AGAIN_SECONDS, Callbacks
from jobqueue.threads.inbox import Cancel, Close, Connected, Inbox, Release, Submit
from jobqueue.threads.stream import Stream, open_streams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis import ConnectionPool

    from jobqueue.calls.unsettled import Submission
    from jobqueue.threads.inbox import Item
    from jobqueue.threads.job import Job

log = Log("jobqueue.client")

UNSENT_BYTES = 1_048_576  # the write buffer of a stream; the core keeps the rest
WAITING_BYTES = 16 * 1_048_576  # unpushed jobs beyond which `run` waits for room
WAITING_SUBMISSIONS = 1_000  # the same for submissions in the inbox
ROOM_SECONDS = 0.001  # between two checks whether there is room
LONGEST_SLEEP_SECONDS = 3_600.0


class Session:
    """Started by `start`; used from any thread.

    Args:
        pools: The pool to connect with, and the one to fall back to if RESP3 is refused.
        queue: The key of the queue.
        sessions: Where the client keeps its sessions by process; it loses this one when it has ended.
    """

    def __init__(
        self, pools: list[ConnectionPool], queue: str, sessions: dict[int, Session]
    ) -> None:
        self.pid = Process.id
        # client.channel.name
        self.channel = keys.results(queue, str(uuid.uuid4()))
        self.callbacks = Callbacks()
        self.ended = False
        self._pools = pools
        self._sessions = sessions
        self._calls: Calls[Job] = Calls(queue.encode(), self.channel.encode())
        self._inbox = Inbox()
        # One without a file descriptor: a child after a fork would share it.
        self._selector = getattr(selectors, "PollSelector", selectors.DefaultSelector)()
        self._streams: list[Stream] = []
        self._full: set[Stream] = set()  # those that take no more now
        self._attempt = 0
        self._end_reason = ""
        self._threads: list[threading.Thread] = []  # of which one runs
        self._ident: int | None = None

    def start(self) -> None:
        """Start the thread, unless it runs; if that isn't possible, the session has ended.

        Ctrl-C may have interrupted an earlier call; if two threads were started, only one continues.
        """
        if "_owner" in vars(self):
            return
        thread = threading.Thread(target=self._run, name="jobqueue client", daemon=True)
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError as error:
            if self._claim():
                self._end(f"can't start the client's thread: {error}")

    def submit(self, batch: list[Submission[Job]], deadline: float | None) -> None:
        """Request to push jobs in one command."""
        self._put(Submit(batch, deadline))

    def cancel(self, *jobs: Job) -> None:
        """Request to remove jobs that were cancelled or have no caller, and to wake those who wait."""
        if self.pid == Process.id:
            self._put(Cancel(list(jobs)))

    def close(self) -> None:
        """Request to push what was submitted and then to end. This doesn't wait."""
        self._put(Close())

    def release(self) -> None:
        """Have the session ended when its jobs are settled. This doesn't wait."""
        self._put(Release())

    def join(self, until: float) -> None:
        """Wait for the end, and for the callbacks of the last jobs; no longer than until then."""
        if not self.settles_here():
            for thread in self._threads:
                if thread.is_alive():
                    thread.join(max(0.0, until - time.monotonic()))
            self.callbacks.join(max(0.0, until - time.monotonic()))

    def wait_for_room(self, deadline: float | None) -> bool:
        """Wait while too much waits to be pushed; False where the deadline has passed before."""
        while self._congested() and not self.ended and not self.settles_here():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(ROOM_SECONDS)
        return True

    def settles_here(self) -> bool:
        """Tell whether the current thread is the session's own."""
        return self._ident == threading.get_ident()

    def _congested(self) -> bool:
        waiting = self._calls.waiting_bytes
        return waiting > WAITING_BYTES or len(self._inbox) > WAITING_SUBMISSIONS

    def _put(self, item: Item) -> None:
        self._inbox.put(item)
        if self.ended:
            self._refuse_inbox()

    def _claim(self) -> bool:
        # True for the first caller: the session's own thread, or the one that can't start it.
        me = object()
        return vars(self).setdefault("_owner", me) is me

    # Everything below runs in the session's thread, unless a comment names another one.

    def _run(self) -> None:
        if not self._claim():
            return
        self._ident = threading.get_ident()
        reason = "the client was closed"
        try:
            self._selector.register(self._inbox.open(), selectors.EVENT_READ)
            while self._calls.state is not State.CLOSED:
                self._turn()
        except BaseException as error:
            log.exception("channel=%s the client's thread failed", self.channel)
            reason = f"the client's thread failed: {error!r}"
        self._end(reason)

    def _turn(self) -> None:
        self._inbox.asleep = True
        ready = self._selector.select(0 if self._inbox else self._wait_seconds())
        self._inbox.asleep = False
        now = time.monotonic()
        try:
            for key, _ in ready:
                self._receive(key.data, now)
            self._take_inbox(now)
            self._write(now)
            self._calls.tick(now)
            self._write(now)
        except ConnectionLost as error:
            self._lose(error, now)
        self._connect(now)  # which may fail at once
        self._settle()
        self.callbacks.start()

    def _wait_seconds(self) -> float:
        times = [self._calls.next_tick(), self._calls.connect_at()]
        now = time.monotonic()
        if self.callbacks.unstarted:
            times.append(now + AGAIN_SECONDS)
        sleep = min((at - now for at in times if at is not None), default=LONGEST_SLEEP_SECONDS)
        return max(0.0, min(sleep, LONGEST_SLEEP_SECONDS))

    def _receive(self, stream: Stream | None, now: float) -> None:
        if stream is None:
            self._inbox.hear()
        elif stream in self._streams:
            link = self._streams.index(stream)
            self._calls.received(link, stream.read(), now)

    def _take_inbox(self, now: float) -> None:
        for item in self._inbox.take():
            match item:
                case Submit(batch, deadline):
                    self._calls.submit(batch, deadline)
                case Cancel(jobs):
                    for job in jobs:
                        self._calls.cancel(job.id)
                        job.settle(None, NotQueued("its caller was interrupted"))
                case Connected(attempt, outcome):
                    self._take_streams(attempt, outcome, now)
                case Close():
                    self._calls.close(now)
                case Release():
                    self._calls.release()

    def _take_streams(
        self, attempt: int, outcome: list[Stream] | ConnectionLost, now: float
    ) -> None:
        if attempt != self._attempt or self._calls.state is not State.CONNECTING:
            for stream in outcome if isinstance(outcome, list) else []:
                stream.close()  # the attempt was given up meanwhile
        elif isinstance(outcome, ConnectionLost):
            self._lose(outcome, now)
        else:
            self._streams = outcome
            for stream in outcome:
                self._selector.register(stream, selectors.EVENT_READ, stream)
            self._calls.connected(len(outcome), now)

    def _write(self, now: float) -> None:
        for link, command in self._calls.take_controls(now):
            self._streams[link].write(command)
        for number, stream in enumerate(self._streams):
            if number == 0:
                while stream.unsent < UNSENT_BYTES and (push := self._calls.take_push(now)):
                    stream.write(push)
            if stream.unsent:
                stream.flush()
            if (stream.unsent > 0) != (stream in self._full):
                self._full ^= {stream}
                writes = selectors.EVENT_WRITE if stream.unsent else 0
                self._selector.modify(stream, selectors.EVENT_READ | writes, stream)

    def _lose(self, error: ConnectionLost, now: float) -> None:
        level = logging.WARNING if self._calls.state is State.OPEN else logging.INFO
        log.log(level, "channel=%s %s", self.channel, error)
        self._close_streams()
        self._calls.lost(str(error), now, random.random())  # noqa: S311 - no secret

    def _close_streams(self) -> None:
        streams, self._streams, self._full = self._streams, [], set()
        for stream in streams:
            self._selector.unregister(stream)
            stream.close()

    def _connect(self, now: float) -> None:
        at = self._calls.connect_at()
        if at is None or at > now:
            return
        self._attempt += 1
        self._calls.attempt(now)
        thread = threading.Thread(
            target=self._open, args=(self._attempt,), name="jobqueue connecting", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the system has no more, or Python 3.12.1 has reached its last line
            self._open(self._attempt)

    def _open(self, attempt: int) -> None:
        # Runs in a thread of its own, which may wait while the session's can't.
        try:
            outcome: list[Stream] | ConnectionLost = open_streams(self._pools)
        except ConnectionLost as error:
            outcome = error
        except BaseException as error:
            log.exception("channel=%s connecting failed", self.channel)
            outcome = ConnectionLost(f"connecting failed: {error!r}")
        self._put(Connected(attempt, outcome))

    def _settle(self) -> None:
        for job, handle in self._calls.take_handles():
            job.accept(handle)
        for job, value, error in self._calls.take_settled():
            if error is not None and not isinstance(error, JobError):
                log.info(
                    "%s channel=%s id=%s: %s", type(error).__name__, job.channel, job.id, error
                )
            job.settle(value, error)

    def _end(self, reason: str) -> None:
        # Runs in the session's thread, or in the one that couldn't start it.
        self._end_reason = reason
        try:  # before another session has opened any: somebody may have closed all descriptors
            self._close_streams()
            self._inbox.close()
            self._selector.close()
        finally:
            self.ended = True
            if self._sessions.get(self.pid) is self:
                del self._sessions[self.pid]
            self._calls.end(f"{reason} before a result came", time.monotonic())
            self._settle()
            self._refuse_inbox()
            self.callbacks.end()

    def _refuse_inbox(self) -> None:
        # Runs in any thread, after the end: each item is taken by one of them.
        for item in self._inbox.take():
            if isinstance(item, Submit):
                for submission in item.batch:
                    error = NotQueued(self._end_reason)
                    submission.job.settle(None, error)
            elif isinstance(item, Cancel):
                for job in item.jobs:
                    job.settle(None, NotQueued(self._end_reason))
            elif isinstance(item, Connected) and isinstance(item.outcome, list):
                for stream in item.outcome:
                    stream.close()


def end_all(sessions: Iterable[Session]) -> None:
    """Close sessions, and wait until they have ended, for 3 seconds at most."""
    sessions = list(sessions)
    for session in sessions:
        session.close()
    until = time.monotonic() + CLOSE_SECONDS + 1
    for session in sessions:
        session.join(until)
