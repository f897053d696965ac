"""The session of a client in one event loop: it owns the core, the connection and the clock.

Like `jobqueue.threads.session`, with the same names in the same order. Everything happens in the
loop. Callers don't depend on each other: a cancelled call leaves the others unchanged. One task
reads each stream, and one connects.

A session ends once: when it is closed; when the loop cancels its tasks, as `asyncio.run` does at its
end and then waits for them; or by an unexpected exception. Except for the last, it pushes what was
submitted first. Every job is settled with a message that says so. Then `ended` is true, and the
client makes a new session for its next job.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

from jobqueue.aio.stream import Stream, open_streams
from jobqueue.calls.calls import CLOSE_SECONDS, Calls, State
from jobqueue.core.log import Log
from jobqueue.errors import ConnectionLost, JobError
from jobqueue.host.forks import Process
from jobqueue.protocol import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from redis.asyncio import ConnectionPool

    from jobqueue.aio.job import Job
    from jobqueue.calls.unsettled import Submission

    Sessions = dict[tuple[int, asyncio.AbstractEventLoop], "Session"]
    Work = Callable[[], Coroutine[Any, Any, None]]

log = Log("jobqueue.client")

UNSENT_BYTES = 1_048_576  # the write buffer of a stream; the core keeps the rest
WAITING_BYTES = 16 * 1_048_576  # unpushed jobs beyond which `run` waits for room
ROOM_SECONDS = 0.005  # between two checks whether there is room
YIELD_CALLS = 64  # submissions in a row after which the loop may read
LATE_SECONDS = 0.05  # a loop this late was blocked, and first reads what has arrived
LONGEST_SLEEP_SECONDS = 3_600.0


class Session:
    """Used in its event loop only, except for `close_threadsafe` and `release`.

    Args:
        pools: The pool to connect with, and the one to fall back to if RESP3 is refused.
        owned: Whether only this session uses these pools.
        queue: The key of the queue.
        sessions: Where the client keeps its sessions by process and loop; it loses this one when it has
            ended.
    """

    def __init__(
        self, pools: list[ConnectionPool], queue: str, sessions: Sessions, *, owned: bool
    ) -> None:
        self.loop = asyncio.get_running_loop()
        # client.channel.name
        self.channel = keys.results(queue, str(uuid.uuid4()))
        self.ended = False
        self._pools = pools
        self._owned = owned
        self._sessions = sessions
        self._place = (Process.id, self.loop)
        self._calls: Calls[Job] = Calls(queue.encode(), self.channel.encode())
        self._streams: list[Stream] = []
        self._attempt = 0
        self._tasks: dict[asyncio.Task[None], Work | None] = {}  # with its work until it begins
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it acts
        self._turn_scheduled = False
        self._connecting: asyncio.Task[None] | None = None
        self._submissions = 0
        self._has_ended = asyncio.Event()
        self._start(self._keep)

    def submit(self, batch: list[Submission[Job]], deadline: float | None) -> None:
        """Push jobs in one command, in one write with other submissions of this loop iteration."""
        self._calls.submit(batch, deadline)
        self._schedule_turn()

    def cancel(self, *jobs: Job) -> None:
        """Remove jobs, and with them the subscriptions to channels of their own."""
        for job in jobs:
            self._calls.cancel(job.id)
        if self._calls.has_controls:
            self._schedule_turn()

    def close(self) -> None:
        """Push what was submitted and then end. This doesn't wait."""
        if not self.ended:
            self._calls.close(time.monotonic())
            self._turn()

    def close_threadsafe(self) -> None:
        """Do the same from any thread."""
        try:
            self.loop.call_soon_threadsafe(self.close)
        except RuntimeError:  # the loop is closed, and has ended the session's tasks
            self.ended = True

    def release(self) -> None:
        """End when all jobs are settled. Any thread may call this."""
        try:
            self.loop.call_soon_threadsafe(self._release)
        except RuntimeError:  # the loop is closed, and has ended the session's tasks
            self.ended = True

    async def join(self, seconds: float) -> None:
        """Wait until all tasks have ended, at most so many seconds."""
        until = time.monotonic() + seconds
        if not self.ended:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._has_ended.wait(), seconds)
        if others := self._others():
            await asyncio.wait(others, timeout=max(0.0, until - time.monotonic()))
        await asyncio.sleep(0)  # the loop closes the sockets in its next iteration

    async def wait_for_room(self, deadline: float | None) -> bool:
        """Wait while too much waits to be pushed; return False if the deadline passes first."""
        if self._submissions % YIELD_CALLS == 0:  # the first time, too: `_keep` has begun then
            await asyncio.sleep(0)
        self._submissions += 1
        while self._calls.waiting_bytes > WAITING_BYTES and not self.ended:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            await asyncio.sleep(ROOM_SECONDS)
        return True

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self.loop.call_soon(self._turn)

    def _turn(self, event: Callable[[float], Any] | None = None) -> None:
        """Report an event to the core, and do what it asks for."""
        self._turn_scheduled = False
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
            log.exception("channel=%s the client failed", self.channel)
            self._end(f"the client failed: {error!r}")

    def _release(self) -> None:
        self._calls.release()
        self._turn(self._calls.tick)

    def _set_timer(self) -> None:
        times = [self._calls.next_tick(), self._calls.connect_at()]
        now = time.monotonic()
        if self._calls.state is State.OPEN and self._calls.waiting_bytes:
            times.append(now + ROOM_SECONDS)  # to check whether the stream has room again
        due = min((at for at in times if at is not None), default=math.inf)
        due = max(now, min(due, now + LONGEST_SLEEP_SECONDS))
        if self._timer is not None:
            if self._due <= due:
                return  # it fires early and is set again, which is cheaper than to replace it
            self._timer.cancel()
        self._due = due
        self._timer = self.loop.call_later(due - now, self._on_timer)

    def _on_timer(self) -> None:
        late = time.monotonic() > self._due + LATE_SECONDS
        if late and self._due > -math.inf:
            self._due = -math.inf
            self._timer = self.loop.call_later(LATE_SECONDS, self._on_timer)
        else:
            self._timer = None
            self._turn(self._calls.tick)

    async def _keep(self) -> None:
        # `asyncio.run` cancels all tasks and waits for them, and so for the end of the session.
        while not self.ended:
            try:
                await self._has_ended.wait()
            except asyncio.CancelledError:
                self._close_cancelled()
        if others := self._others():
            await asyncio.wait(others, timeout=CLOSE_SECONDS)

    def _others(self) -> set[asyncio.Task[None]]:
        return self._tasks.keys() - {asyncio.current_task()}

    def _close_cancelled(self) -> None:
        if not self.ended:
            self._leave_client()
            self._calls.close(time.monotonic(), "the event loop cancelled the client's tasks")
            self._turn()

    async def _receive(self, link: int, stream: Stream) -> None:
        discarded = False
        try:
            while stream in self._streams:
                try:
                    frames = await stream.read()
                except asyncio.CancelledError:
                    self._close_cancelled()
                    continue
                if stream in self._streams:
                    self._turn(partial(self._calls.received, link, frames))
                del frames
        except ConnectionLost as error:
            if stream in self._streams:
                self._turn(partial(self._lose, error))
        except GeneratorExit:
            discarded = True  # with its loop, which is closed: nothing can be awaited
            raise
        finally:
            if not discarded:
                await stream.close()

    def _take_streams(
        self, attempt: int, outcome: list[Stream] | ConnectionLost, now: float
    ) -> None:
        if attempt != self._attempt or self._calls.state is not State.CONNECTING:
            for stream in outcome if isinstance(outcome, list) else []:
                self._start(partial(self._receive, 0, stream))  # which closes it at once
        elif isinstance(outcome, ConnectionLost):
            self._lose(outcome, now)
        else:
            self._streams = outcome
            for link, stream in enumerate(outcome):
                self._start(partial(self._receive, link, stream))
            self._calls.connected(len(outcome), now)

    def _write(self, now: float) -> None:
        for link, command in self._calls.take_controls(now):
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
            stream.abort()  # this ends the tasks that read them

    def _connect(self, now: float) -> None:
        at = self._calls.connect_at()
        if at is None or at > now:
            return
        self._attempt += 1
        self._calls.attempt(now)
        if self._connecting is not None:
            self._connecting.cancel()
        self._connecting = self._start(partial(self._open, self._attempt))

    async def _open(self, attempt: int) -> None:
        outcome: list[Stream] | ConnectionLost | None = None
        while outcome is None:
            if attempt != self._attempt or self.ended:
                return
            try:
                outcome = await open_streams(self._pools)
            except ConnectionLost as error:
                outcome = error
            except asyncio.CancelledError:
                # redis-py returns a half-open connection to its pool.
                for pool in self._pools if self._owned else []:
                    await pool.disconnect()
                await asyncio.sleep(0)  # the loop closes the socket in its next iteration
                if attempt == self._attempt:
                    self._close_cancelled()
            except Exception as error:
                log.exception("channel=%s connecting failed", self.channel)
                outcome = ConnectionLost(f"connecting failed: {error!r}")
        if self.ended:  # while it connected
            for stream in outcome if isinstance(outcome, list) else []:
                await stream.close()
            return
        self._turn(partial(self._take_streams, attempt, outcome))

    def _start(self, work: Work) -> asyncio.Task[None]:
        async def begin() -> None:
            if (task := asyncio.current_task()) is not None:
                self._tasks[task] = None
            await work()

        task = self.loop.create_task(begin())  # which may begin at once, as the loop's factory says
        self._tasks.setdefault(task, work)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        work = self._tasks.pop(task)
        if task.cancelled():
            if work is not None:  # it was cancelled before it began
                self._close_cancelled()
                again = self._start(work)
                if task is self._connecting:
                    self._connecting = again
        elif (error := task.exception()) is not None:
            log.error("channel=%s a task of the client failed", self.channel, exc_info=error)
            self._end(f"a task of the client failed: {error!r}")

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
        if self.ended:
            return
        self.ended = True
        self._has_ended.set()
        self._leave_client()
        self._calls.end(f"{reason} before a result came", time.monotonic())
        self._settle()
        if self._timer is not None:
            self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        self._close_streams()

    def _leave_client(self) -> None:
        if self._sessions.get(self._place) is self:
            del self._sessions[self._place]
