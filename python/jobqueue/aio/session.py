"""The session of a client in one event loop: it owns the core, the connection and the clock.

As `jobqueue.threads.session`, with the same names in the same order. Everything happens in the
loop, and nothing that a caller awaits is needed by another: a call that is cancelled leaves the
others as they are. A task reads each stream, and one connects.

A session ends once: when it is closed, when the loop cancels its tasks, or by an exception that
nobody expected, which settles every job with words that say so. Then `ended` is true, and a client
makes a new one for its next job.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import random
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

from jobqueue.aio.stream import Stream, open_streams
from jobqueue.core.calls import Calls, State, Submission
from jobqueue.errors import ConnectionLost, JobError
from jobqueue.host.log import Log
from jobqueue.protocol import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from redis.asyncio import ConnectionPool

    from jobqueue.aio.job import Job

    Home = dict[tuple[int, asyncio.AbstractEventLoop], "Session"]

log = Log("jobqueue.client")

UNSENT_BYTES = 1_048_576  # what one stream holds back; the core keeps the rest
WAITING_BYTES = 16 * 1_048_576  # unpushed jobs beyond which `run` waits for room
ROOM_SECONDS = 0.005  # between two looks whether there is room
YIELD_CALLS = 64  # after so many submissions in a row, the loop gets its turn to read
LATE_SECONDS = 0.05  # a loop this late was held up, and first looks at what has come meanwhile
LONGEST_SLEEP_SECONDS = 3_600.0


class Session:
    """Used in its loop alone, but for `close_from_elsewhere`.

    Args:
        pools: What to connect by, and what to fall back to where RESP3 is refused.
        owned: Whether nobody else uses these pools.
        queue: The key of the queue.
        home: Where the client keeps its sessions by process and loop; it loses this one when it has
            ended.
    """

    def __init__(self, pools: list[ConnectionPool], queue: str, home: Home, *, owned: bool) -> None:
        self.loop = asyncio.get_running_loop()
        # client.channel.name
        self.channel = keys.results(queue, str(uuid.uuid4()))
        self.ended = False
        self._pools = pools
        self._owned = owned
        self._home = home
        self._place = (os.getpid(), self.loop)
        self._calls: Calls[Job] = Calls(queue.encode(), self.channel.encode())
        self._streams: list[Stream] = []
        self._attempt = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it acts
        self._turns_soon = False
        self._connecting: asyncio.Task[None] | None = None
        self._submissions = 0
        self._has_ended = asyncio.Event()

    def submit(self, batch: list[Submission[Job]], deadline: float | None) -> None:
        """Have jobs pushed in one command, in one write with what else the loop submits now."""
        self._calls.submit(batch, deadline)
        if not self._turns_soon:
            self._turns_soon = True
            self.loop.call_soon(self._turn)

    def cancel(self, *ids: str) -> None:
        """Have jobs forgotten."""
        for job_id in ids:
            self._calls.cancel(job_id)

    def close(self) -> None:
        """Have what was submitted pushed, and the session ended. This doesn't wait."""
        if not self.ended:
            self._calls.close(time.monotonic())
            self._turn()

    def close_from_elsewhere(self) -> None:
        """Do the same in the session's loop, from any thread."""
        try:
            self.loop.call_soon_threadsafe(self.close)
        except RuntimeError:  # the loop is closed, and has ended the session's tasks
            self.ended = True

    def release(self) -> None:
        """Have the session ended when its jobs are settled. Callable from any thread."""
        try:
            self.loop.call_soon_threadsafe(self._release)
        except RuntimeError:  # the loop is closed, and has ended the session's tasks
            self.ended = True

    async def join(self, seconds: float) -> None:
        """Wait until no task is left, no longer than that; who is cancelled here disturbs none."""
        until = time.monotonic() + seconds
        if not self.ended:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._has_ended.wait(), seconds)
        others = self._tasks - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=max(0.0, until - time.monotonic()))
        await asyncio.sleep(0)  # in which the loop closes what redis-py has just let go

    async def wait_for_room(self, deadline: float | None) -> bool:
        """Wait while too much waits to be pushed; False where the deadline has passed before."""
        self._submissions += 1
        if self._submissions % YIELD_CALLS == 0:
            await asyncio.sleep(0)
        while self._calls.waiting_bytes > WAITING_BYTES and not self.ended:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            await asyncio.sleep(ROOM_SECONDS)
        return True

    def _turn(self, event: Callable[[float], Any] | None = None) -> None:
        """Tell the core of an event, and do what it asks for then."""
        self._turns_soon = False
        if self.ended:
            self._settle()
            return
        now = time.monotonic()
        try:
            try:
                if event is not None:
                    event(now)
                self._write(now)
            except ConnectionLost as error:
                self._lose(error, now)
            self._settle()
            if self._calls.state is State.CLOSED:
                self._end("the client was closed")
                return
            self._connect(now)
            self._set_timer()
        except Exception as error:
            log.exception("channel=%s the client has failed", self.channel)
            self._end(f"the client has failed: {error!r}")

    def _release(self) -> None:
        self._calls.release()
        self._turn(self._calls.tick)

    def _set_timer(self) -> None:
        times = [self._calls.next_tick(), self._calls.connect_at()]
        now = time.monotonic()
        if self._calls.state is State.OPEN and self._calls.waiting_bytes:
            times.append(now + ROOM_SECONDS)  # and then see whether the stream takes more
        due = min((at for at in times if at is not None), default=math.inf)
        due = max(now, min(due, now + LONGEST_SLEEP_SECONDS))
        if self._timer is not None:
            if self._due <= due:
                return  # it acts too early, and then is set again: that costs less than each time
            self._timer.cancel()
        self._due = due
        self._timer = self.loop.call_later(due - now, self._time_has_passed)

    def _time_has_passed(self) -> None:
        late = time.monotonic() > self._due + LATE_SECONDS
        if late and self._due > -math.inf:
            self._due = -math.inf
            self._timer = self.loop.call_later(LATE_SECONDS, self._time_has_passed)
        else:
            self._timer = None
            self._turn(self._calls.tick)

    async def _receive(self, link: int, stream: Stream) -> None:
        try:
            while stream in self._streams:
                frames = await stream.read()
                if stream in self._streams:
                    self._turn(partial(self._calls.received, link, frames))
                del frames
        except ConnectionLost as error:
            if stream in self._streams:
                self._turn(partial(self._lose, error))
        finally:
            await stream.close()

    def _take_streams(
        self, attempt: int, outcome: list[Stream] | ConnectionLost, now: float
    ) -> None:
        if attempt != self._attempt or self._calls.state is not State.CONNECTING:
            for stream in outcome if isinstance(outcome, list) else []:
                self._start(self._receive(0, stream))  # which closes what comes too late
        elif isinstance(outcome, ConnectionLost):
            self._lose(outcome, now)
        else:
            self._streams = outcome
            for link, stream in enumerate(outcome):
                self._start(self._receive(link, stream))
            self._calls.connected(len(outcome), now)

    def _write(self, now: float) -> None:
        for link, command in self._calls.take_controls():
            self._streams[link].write(command)
        for number, stream in enumerate(self._streams):
            if number == 0:
                while stream.unsent < UNSENT_BYTES and (push := self._calls.take_push(now)):
                    stream.write(push)
            stream.flush()

    def _lose(self, error: ConnectionLost, now: float) -> None:
        level = logging.WARNING if self._calls.state is State.OPEN else logging.INFO
        log.log(level, "channel=%s %s", self.channel, error)
        self._close_streams()
        self._calls.lost(str(error), now, random.random())  # noqa: S311 - no secret

    def _close_streams(self) -> None:
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.abort()  # the tasks that read them end by it

    def _connect(self, now: float) -> None:
        at = self._calls.connect_at()
        if at is None or at > now:
            return
        self._attempt += 1
        self._calls.attempt(now)
        if self._connecting is not None:
            self._connecting.cancel()
        self._connecting = self._start(self._open(self._attempt))

    async def _open(self, attempt: int) -> None:
        try:
            outcome: list[Stream] | ConnectionLost = await open_streams(self._pools)
        except ConnectionLost as error:
            outcome = error
        except asyncio.CancelledError:
            # redis-py gives a connection that is half made back to its pool.
            for pool in self._pools if self._owned else []:
                await pool.disconnect()
            await asyncio.sleep(0)  # in which the loop closes the socket
            raise
        except Exception as error:
            log.exception("channel=%s connecting has failed", self.channel)
            outcome = ConnectionLost(f"connecting has failed: {error!r}")
        if self.ended:  # meanwhile, and nobody takes what has been made
            for stream in outcome if isinstance(outcome, list) else []:
                await stream.close()
            return
        self._turn(partial(self._take_streams, attempt, outcome))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            if not self.ended and task is not self._connecting:
                self._end("the event loop has cancelled the client's tasks")
        elif (error := task.exception()) is not None:
            log.error("channel=%s a task of the client has failed", self.channel, exc_info=error)
            self._end(f"a task of the client has failed: {error!r}")

    def _settle(self) -> None:
        for job, value, error in self._calls.take_settled():
            if error is not None and not isinstance(error, JobError):
                log.info(
                    "%s channel=%s id=%s: %s", type(error).__name__, job.channel, job.id, error
                )
            job.settle(value, error)

    def _end(self, reason: str) -> None:
        if self.ended:
            return
        self.ended = True
        self._has_ended.set()
        if self._home.get(self._place) is self:
            del self._home[self._place]
        self._calls.end(f"{reason} before a result came", time.monotonic())
        self._settle()
        if self._timer is not None:
            self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        self._close_streams()
