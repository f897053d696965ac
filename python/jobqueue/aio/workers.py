"""The hands of a server in an event loop, and what each of its queues has started and not yet confirmed.

Like `jobqueue.threads.workers`, with the same names in the same order.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import Counter
from collections.abc import Awaitable
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Self

from jobqueue.core.handlers import failed, succeeded
from jobqueue.host.clock import now
from jobqueue.host.forks import ParentOnly
from jobqueue.host.signals import interrupts
from jobqueue.protocol.messages import Answer, Dead, Run, Timed, message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from jobqueue.core.handlers import Handlers
    from jobqueue.core.lease import Lease
    from jobqueue.core.sharing import Seat
    from jobqueue.core.steps import Turn
    from jobqueue.protocol.messages import Work


class Hands:
    """The tasks that run handlers, for one queue or for several.

    Leaving the `async with` block ends the tasks.
    """

    def __init__(self, handlers: Handlers, concurrency: int) -> None:
        self.changed = Changed()
        self.failure: BaseException | None = None  # why all queues have to end
        self._handlers = handlers
        self._concurrency = concurrency
        self._waiting: asyncio.Queue[tuple[Workers, Work, int]] = asyncio.Queue()
        self._timed: asyncio.Queue[tuple[Workers, Timed]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        # server.concurrency.limit, server.concurrency.parallel
        for _ in range(self._concurrency):
            self.drive(self._work, self._end)
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

    def drive(
        self, work: Callable[[], Awaitable[None]], end: Callable[[BaseException | None], None]
    ) -> None:
        """Do this in a task of its own, and report its end: what it raises, or None."""

        async def guard() -> None:
            try:
                await work()
            except Exception as error:  # otherwise the task that serves would wait forever
                end(error)
            else:
                end(None)

        self._tasks.append(asyncio.create_task(guard(), name="jobqueue server"))

    def start(self, workers: Workers, work: Sequence[Work], generation: int) -> None:
        """Run the handlers of messages of one queue, in this order."""
        for each in work:
            self._waiting.put_nowait((workers, each, generation))

    def withdraw(self) -> list[tuple[Workers, bytes]]:
        """Take back what waits for a hand."""
        withdrawn = []
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                workers, work, _ = self._waiting.get_nowait()
                withdrawn.append((workers, message_of(work)))
        return withdrawn

    def admit(self, workers: Workers, jobs: list[Timed]) -> None:
        """Let hands go on that wait for the time."""
        for job in jobs:
            self._timed.put_nowait((workers, job))

    def _end(self, error: BaseException | None) -> None:
        self.failure = self.failure or error
        self.changed.set()

    async def _work(self) -> None:
        runner = Runner(self._handlers)
        while True:
            workers, work, generation = await self._waiting.get()
            if not workers.may_run(generation):
                # It may have been taken over; if it is on the list still, the next look finds it.
                workers.confirmed([message_of(work)])
                continue
            outcome = await runner.run(work)
            if isinstance(outcome, Run):
                # server.expiry.refuses: while it waits for the time, it takes no other job.
                workers.finished(outcome)
                workers, job = await self._timed.get()
                outcome = await runner.run(job)
            workers.finished(outcome)


class Workers:
    """The messages of one queue that were started and aren't confirmed.

    Args:
        hands: They run the handlers.
        lease: The queue's lease.
        seat: Its place among the queues that share the hands, if there are several.
    """

    def __init__(self, hands: Hands, lease: Lease | None = None, seat: Seat | None = None) -> None:
        self._hands = hands
        self._lease = lease
        self._seat: Any = seat
        self._outcomes: asyncio.Queue[Answer | Dead | Run] = asyncio.Queue()
        self._running: Counter[bytes] = Counter()
        self._total = 0
        self._failure: BaseException | None = None
        self._changed = hands.changed

    def drive(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do this in a task of its own; `room` and `turn` raise what it raises."""
        self._hands.drive(work, self._end)

    def start(self, work: Sequence[Work]) -> None:
        """Start the handlers of the messages, in this order."""
        messages = [*map(message_of, work)]
        self._running.update(messages)
        self._total += len(messages)
        if self._seat is not None:
            self._seat.start(messages)
        self._hands.start(self, work, 0 if self._lease is None else self._lease.generation)

    def withdraw(self) -> None:
        """Take back what waits for a handler; only for a server of one queue."""
        for workers, message in self._hands.withdraw():
            workers.confirmed([message])

    async def outcomes(self, limit: int, seconds: float | None) -> list[Answer | Dead | Run] | None:
        """Wait for an outcome, and return all that are ready, up to a limit.

        Returns:
            None if there is none within the seconds.
        """
        try:
            outcomes = [await asyncio.wait_for(self._outcomes.get(), seconds)]
        except TimeoutError:
            return None
        while len(outcomes) < limit and not self._outcomes.empty():
            outcomes.append(self._outcomes.get_nowait())
        return outcomes

    def admit(self, jobs: list[Timed]) -> None:
        """Let handlers go on that wait for the time."""
        self._hands.admit(self, jobs)

    def running(self) -> list[bytes]:
        """Return the messages that were started and aren't confirmed."""
        return list(self._running.elements())

    async def room(self, limit: int) -> int:
        """Wait until fewer messages than the limit are running, and return the difference."""
        self.rest()
        return await self._wait_for(lambda: limit - self._total if self._total < limit else 0)

    async def turn(self, turn: Turn) -> int:
        """Wait until this queue has its turn, and return how many hands are kept for it."""
        self._seat.ask(turn.wants, suspect=turn.suspect, alone=turn.alone)
        self._changed.set()  # what it has given back is another's
        return await self._wait_for(self._seat.granted)

    def take(self) -> bool:
        """Keep a hand, if one is free."""
        return bool(self._seat.take())

    def rest(self) -> None:
        """Give back the hands that are kept."""
        if self._seat is not None:
            self._seat.rest()
            self._changed.set()

    def release(self) -> None:
        """Give back the hands of jobs whose handlers have ended."""
        self._seat.release()
        self._changed.set()

    def confirmed(self, messages: list[bytes]) -> None:
        """Remove messages whose removal Redis has confirmed."""
        for message in messages:
            self._running[message] -= 1
            if not self._running[message]:
                del self._running[message]
        self._total -= len(messages)
        if self._seat is not None:
            self._seat.done(messages)
        self._changed.set()

    def may_run(self, generation: int) -> bool:
        """Tell whether a message that was started in this generation may run."""
        return self._lease is None or self._lease.holds(generation, now())

    def finished(self, outcome: Answer | Dead | Run) -> None:
        """Have the outcome confirmed."""
        if self._seat is not None and not isinstance(outcome, Run):
            self._seat.ended(outcome.message)
        self._outcomes.put_nowait(outcome)

    async def _wait_for(self, ready: Callable[[], int]) -> int:
        while (failure := self._failure or self._hands.failure) is None:
            if value := ready():
                return value
            await self._changed.wait()
        raise failure

    def _end(self, error: BaseException | None) -> None:
        self._failure = error
        self._changed.set()


class Changed:
    """Wakes all tasks that wait for a change, each time that there is one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake them."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self) -> None:
        """Wait for the next change."""
        await self._event.wait()


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
