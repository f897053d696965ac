"""Performs the steps of a server's sessions in an event loop: one driver and one task per session.

Like `jobqueue.threads.driver`, with the same names in the same order.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
from collections import Counter
from collections.abc import Awaitable
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Self

from jobqueue.aio.link import Link
from jobqueue.core import steps
from jobqueue.core.handlers import failed, succeeded
from jobqueue.errors import ConnectionLost
from jobqueue.host.clock import now
from jobqueue.host.forks import ParentOnly
from jobqueue.host.signals import interrupts
from jobqueue.protocol.messages import Answer, Dead, Run, Timed, message_of
from jobqueue.wire.pools import REPLY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from redis.asyncio import ConnectionPool

    from jobqueue.core.handlers import Handlers
    from jobqueue.core.lease import Lease
    from jobqueue.core.steps import Step, Steps
    from jobqueue.protocol.messages import Work


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
                    if isinstance(step, steps.Room):
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
        match step:
            case steps.Exchange():
                await self._link.send(step.commands)
                return await self._link.receive(step.replies)
            case steps.Handle():
                return await self._runner.run(step.work)
            case steps.Decide():
                return self._handlers.decide(step.work)
            case steps.Begin():
                return await self._runner.run(step.job)
            case steps.Now():
                return steps.Moment(now(), self._stop.requested)
            case steps.Send():
                return await self._link.send(step.commands)
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


class Workers:
    """The tasks that run handlers, and the messages that were started and aren't confirmed.

    Leaving the `async with` block ends the tasks.
    """

    def __init__(self, handlers: Handlers, concurrency: int, lease: Lease | None = None) -> None:
        self._handlers = handlers
        self._concurrency = concurrency
        self._lease = lease
        self._waiting: asyncio.Queue[tuple[Work, int]] = asyncio.Queue()
        self._finished: asyncio.Queue[Answer | Dead | Run] = asyncio.Queue()
        self._timed: asyncio.Queue[Timed] = asyncio.Queue()
        self._running: Counter[bytes] = Counter()
        self._total = 0
        self._failure: BaseException | None = None
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        # server.concurrency.limit, server.concurrency.parallel
        for _ in range(self._concurrency):
            self.drive(self._work)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is GeneratorExit:
            return  # discarded with the loop, which is closed, as are the tasks
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drive(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do this in a task of its own; `room` raises what it raises."""
        task = asyncio.create_task(self._guard(work), name="jobqueue server")
        self._tasks.append(task)

    def start(self, work: Sequence[Work]) -> None:
        """Start the handlers of the messages, in this order."""
        self._running.update(map(message_of, work))
        self._total += len(work)
        generation = 0 if self._lease is None else self._lease.generation
        for each in work:
            self._waiting.put_nowait((each, generation))

    def withdraw(self) -> None:
        """Take back what waits for a handler."""
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                self.confirmed([message_of(self._waiting.get_nowait()[0])])

    async def outcomes(self, limit: int, seconds: float | None) -> list[Answer | Dead | Run] | None:
        """Wait for an outcome, and return all that are ready, up to a limit.

        Returns:
            None if there is none within the seconds.
        """
        try:
            outcomes = [await asyncio.wait_for(self._finished.get(), seconds)]
        except TimeoutError:
            return None
        while len(outcomes) < limit and not self._finished.empty():
            outcomes.append(self._finished.get_nowait())
        return outcomes

    def admit(self, jobs: list[Timed]) -> None:
        """Let workers go on that wait for the time."""
        for job in jobs:
            self._timed.put_nowait(job)

    def running(self) -> list[bytes]:
        """Return the messages that were started and aren't confirmed."""
        return list(self._running.elements())

    async def room(self, limit: int) -> int:
        """Wait until fewer messages than the limit are running, and return the difference."""
        while self._total >= limit and self._failure is None:
            self._changed.clear()
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure
        return limit - self._total

    def confirmed(self, messages: list[bytes]) -> None:
        """Remove messages whose removal Redis has confirmed."""
        for message in messages:
            self._running[message] -= 1
            if not self._running[message]:
                del self._running[message]
        self._total -= len(messages)
        self._changed.set()

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # otherwise the task that serves would wait forever
            self._failure = error
            self._changed.set()

    async def _work(self) -> None:
        runner = Runner(self._handlers)
        while True:
            work, generation = await self._waiting.get()
            if self._lease is not None and not self._lease.holds(generation, now()):
                # It may have been taken over; if it is on the list still, the next look finds it.
                self.confirmed([message_of(work)])
                continue
            outcome = await runner.run(work)
            if isinstance(outcome, Run):
                # server.expiry.refuses: while it waits for the time, it takes no other job.
                self._finished.put_nowait(outcome)
                outcome = await runner.run(await self._timed.get())
            self._finished.put_nowait(outcome)


class Runner:
    """Runs handlers in the event loop in which it was created.

    A coroutine function is awaited. A plain function is called, and blocks the event loop.
    """

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._interrupts = interrupts()
        self._parent_only = ParentOnly()

    async def run(self, work: Work | Timed) -> Answer | Dead | Run:
        """Run the handler of a message, if it has one, and return the outcome.

        The job itself is returned if it can expire and the time isn't known.
        """
        job = self._handlers.decide(work)
        if not isinstance(job, Run):
            return job
        if job.expires_at_ms is not None and not isinstance(work, Timed):
            return job
        try:
            with self._parent_only:
                # server.run.handler
                value = self._handlers[job.method](job.parameters)
                if _awaitable(value):
                    steps: Any = _steps_of(value)
                    try:
                        step = next(steps)
                    except StopIteration as end:  # it never waits, and costs no more than a call
                        value = end.value
                    else:
                        value = await self._parent_only.awaiting(steps, step)
        except self._interrupts:
            raise
        except BaseException as error:
            if self._parent_only.discarded or _cancelled(error):
                raise
            return failed(job, error, self._interrupts)
        return succeeded(job, value, self._interrupts)


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


def _awaitable(value: object) -> bool:
    """Decide by the type alone: the attributes of a value are the application's, and may raise."""
    old_style = type(value) is GeneratorType and inspect.isawaitable(value)
    return issubclass(type(value), Awaitable) or old_style


def _steps_of(value: Any) -> Any:
    return value if type(value) is GeneratorType else type(value).__await__(value)


def _cancelled(error: BaseException) -> bool:
    """Tell whether the server is being cancelled, rather than something that the handler awaits."""
    task = asyncio.current_task()
    cancelled = issubclass(type(error), asyncio.CancelledError)
    return cancelled and task is not None and task.cancelling() > 0
