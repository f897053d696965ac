"""Performs the steps of a server's sessions in an event loop: one driver and one task per session.

Like `jobqueue.threads.driver`, with the same names in the same order.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

from jobqueue.aio.link import Link
from jobqueue.aio.workers import Runner, Workers
from jobqueue.core import steps
from jobqueue.core.steps import Moment
from jobqueue.errors import ConnectionLost
from jobqueue.host.clock import now
from jobqueue.wire.pools import REPLY_SECONDS

if TYPE_CHECKING:
    from types import TracebackType

    from redis.asyncio import ConnectionPool

    from jobqueue.core.handlers import Handlers
    from jobqueue.core.lease import Lease
    from jobqueue.core.steps import Step, Steps


class Driver:
    """Performs the steps of one session.

    Args:
        pool: Provides the connections.
        stop: The request to stop.
        reply_seconds: How long Redis may take to reply.
        handlers: For `Handle`, which runs a handler in this task.
        workers: For `Start` and its companions, which run handlers in other tasks.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        stop: Stop,
        reply_seconds: float,
        *,
        handlers: Handlers | None = None,
        workers: Workers | None = None,
    ) -> None:
        self._pool = pool
        self._stop = stop
        self._reply_seconds = reply_seconds
        self._handlers: Any = handlers
        self._runner: Any = None if handlers is None else Runner(handlers)
        self._workers: Any = workers
        self._link: Any = None

    async def run(self, session: Steps[None]) -> None:
        """Perform steps until the session ends or raises; its connection is closed then."""
        resume: Any = session.send
        value: Any = None
        try:
            while True:
                step = resume(value)
                try:
                    value, resume = await self._take(step), session.send
                except ConnectionLost as error:
                    if isinstance(step, steps.Room | steps.Turn):
                        raise  # the error that has ended another session
                    await self._abort()
                    value, resume = error, session.throw
        except StopIteration:
            return
        except GeneratorExit:
            self._link = None  # discarded with its loop, which is closed: nothing can be awaited
            raise
        finally:
            session.close()
            if self._link is not None:
                await self._link.close()

    async def _take(self, step: Step) -> Any:  # noqa: C901, PLR0911, PLR0912 - one case for each step
        match step:  # what each job needs comes first, and calls the least
            case steps.Handle():
                return await self._runner.run(step.work), Moment(now(), self._stop.requested)
            case steps.TimedExchange():
                return await self._exchange(step), Moment(now(), self._stop.requested)
            case steps.Send():
                await self._link.send(step.commands)
                return Moment(now(), self._stop.requested)
            case steps.Exchange():
                return await self._exchange(step)
            case steps.Now():
                return self._moment()
            case steps.Decide():
                return [self._handlers.decide(each) for each in step.work], self._moment()
            case steps.Start():
                return self._workers.start(step.work)
            case steps.Withdraw():
                return self._workers.withdraw()
            case steps.Outcomes():
                return await self._workers.outcomes(step.limit, step.seconds)
            case steps.Admit():
                return self._workers.admit(step.jobs)
            case steps.Room():
                return await self._workers.room(step.limit)
            case steps.Turn():
                return await self._workers.turn(step)
            case steps.Take():
                return self._workers.take()
            case steps.Rest():
                return self._workers.rest()
            case steps.Release():
                return self._workers.release()
            case steps.Confirmed():
                return self._workers.confirmed(step.messages)
            case steps.Running():
                return self._workers.running()
            case steps.Sleep():
                return await asyncio.sleep(step.seconds)
            case steps.Pause():
                return await self._stop.pause(step.seconds)
            case steps.Jitter():
                return random.random()  # noqa: S311 - no secret
            case steps.Connect():
                await self._abort()
                self._link = await Link.open(self._pool, self._reply_seconds)
                return None

    async def _exchange(self, step: steps.Exchange | steps.TimedExchange) -> Any:
        await self._link.send(step.commands)
        return await self._link.receive(step.replies)

    def _moment(self) -> Moment:
        return Moment(now(), self._stop.requested)

    async def _abort(self) -> None:
        if self._link is not None:
            await self._link.abort()
            self._link = None


class Renewing:
    """Renews a lease in a task of its own, from entry to exit of an `async with` block."""

    def __init__(self, pool: ConnectionPool, lease: Lease) -> None:
        self._ended = Stop()
        self._driver = Driver(pool, self._ended, REPLY_SECONDS)
        self._lease = lease
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._ended.bind_to_loop()
        self._task = asyncio.create_task(self._run(), name="jobqueue lease")

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is GeneratorExit or self._task is None:
            return  # discarded with the loop, which is closed, as is the task
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        await self._driver.run(self._lease.renewing())


class Stop:
    """A request to stop, made by a signal handler or by any thread. It can't be withdrawn."""

    def __init__(self) -> None:
        self.requested = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakes = asyncio.Event()

    def bind_to_loop(self) -> None:
        """Wake tasks in `pause` by this event loop from now on."""
        self._loop = asyncio.get_running_loop()

    def request(self) -> None:
        """Request the stop; tasks in `pause` wake up."""
        self.requested = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and no task is in `pause`
                self._loop.call_soon_threadsafe(self._wakes.set)

    async def pause(self, seconds: float) -> None:
        """Sleep, at most until the request."""
        if not self.requested:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wakes.wait(), seconds)
