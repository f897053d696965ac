"""Performs the steps of a server's sessions in threads: one driver and one thread per session.

The core decides what is done; this file does the waiting and calling. `jobqueue.aio.driver` has the
same names in the same order.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from jobqueue.core import steps
from jobqueue.core.handlers import failed, succeeded
from jobqueue.errors import ConnectionLost
from jobqueue.host.clock import now
from jobqueue.host.forks import ParentOnly
from jobqueue.host.signals import interrupts
from jobqueue.protocol.messages import Answer, Dead, Run, Timed, message_of
from jobqueue.threads.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from redis import ConnectionPool

    from jobqueue.core.handlers import Handlers
    from jobqueue.core.lease import Lease
    from jobqueue.core.steps import Step, Steps
    from jobqueue.protocol.messages import Work
    from jobqueue.threads.spin import Spin


class Driver:
    """Performs the steps of one session.

    Args:
        pool: Provides the connections.
        stop: The request to stop.
        handlers: For `Handle`, which runs a handler in this thread.
        workers: For `Start` and its companions, which run handlers in other threads.
        spin: Busy-waits for replies, if that saves time.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        stop: Stop,
        *,
        handlers: Handlers | None = None,
        workers: Workers | None = None,
        spin: Spin | None = None,
    ) -> None:
        self._pool = pool
        self._stop = stop
        self._handlers: Any = handlers
        self._runner: Any = None if handlers is None else Runner(handlers)
        self._workers: Any = workers
        self._spin = spin
        self._link: Any = None

    def run(self, session: Steps[None]) -> None:
        """Perform steps until the session ends or raises; its connection is closed then."""
        resume: Any = session.send
        value: Any = None
        try:
            while True:
                step = resume(value)
                try:
                    value, resume = self._take(step), session.send
                except ConnectionLost as error:
                    if isinstance(step, steps.Room):
                        raise  # the error that has ended another session
                    self._abort()
                    value, resume = error, session.throw
        except StopIteration:
            return
        finally:
            session.close()
            if self._link is not None:
                self._link.close()

    def _take(self, step: Step) -> Any:  # noqa: C901, PLR0911, PLR0912 - one case for each step
        match step:
            case steps.Exchange():
                self._link.send(step.commands)
                if self._spin is not None:
                    self._spin.wait(self._link.readable)
                return self._link.receive(step.replies)
            case steps.Handle():
                return self._runner.run(step.work)
            case steps.Decide():
                return self._handlers.decide(step.work)
            case steps.Begin():
                return self._runner.run(step.job)
            case steps.Now():
                return steps.Moment(now(), self._stop.requested)
            case steps.Send():
                return self._link.send(step.commands)
            case steps.Start():
                return self._workers.start(step.work)
            case steps.Withdraw():
                return self._workers.withdraw()
            case steps.Outcomes():
                return self._workers.outcomes(step.limit, step.seconds)
            case steps.Admit():
                return self._workers.admit(step.jobs)
            case steps.Room():
                return self._workers.room(step.limit)
            case steps.Confirmed():
                return self._workers.confirmed(step.messages)
            case steps.Running():
                return self._workers.running()
            case steps.Sleep():
                return time.sleep(step.seconds)
            case steps.Pause():
                return self._stop.pause(step.seconds)
            case steps.Jitter():
                return random.random()  # noqa: S311 - no secret
            case steps.Connect():
                self._abort()
                self._link = Link(self._pool)
                return None

    def _abort(self) -> None:
        if self._link is not None:
            self._link.abort()
            self._link = None


class Renewing:
    """Renews a lease in a thread of its own, from entry to exit of a `with` block."""

    def __init__(self, pool: ConnectionPool, lease: Lease) -> None:
        self._ended = Stop()
        self._driver = Driver(pool, self._ended)
        self._lease = lease
        self._thread = threading.Thread(target=self._run, name="jobqueue lease", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.request()
        if exc is None:
            self._thread.join()

    def _run(self) -> None:
        self._driver.run(self._lease.renewing())


class Workers:
    """The threads that run handlers, and the messages that were started and aren't confirmed.

    One thread may call `start` while another one calls `outcomes`. Leaving the `with` block ends the
    threads; after an exception it doesn't wait for handlers that still run.
    """

    def __init__(self, handlers: Handlers, concurrency: int, lease: Lease | None = None) -> None:
        self._handlers = handlers
        self._concurrency = concurrency
        self._lease = lease
        self._waiting: SimpleQueue[tuple[Work, int] | None] = SimpleQueue()
        self._finished: SimpleQueue[Answer | Dead | Run | None] = SimpleQueue()
        self._timed: SimpleQueue[Timed | None] = SimpleQueue()
        self._running: Counter[bytes] = Counter()
        self._total = 0
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        # server.concurrency.limit, server.concurrency.parallel
        for _ in range(self._concurrency):
            self.drive(self._work)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for _ in range(self._concurrency):
            self._waiting.put(None)
            self._timed.put(None)
        self._finished.put(None)
        if exc is None:
            for thread in self._threads:
                thread.join()

    def drive(self, work: Callable[[], None]) -> None:
        """Do this in a thread of its own; `room` raises what it raises."""
        thread = threading.Thread(target=self._guard, args=(work,), name="jobqueue server")
        thread.daemon = True
        thread.start()
        self._threads.append(thread)

    def start(self, work: Sequence[Work]) -> None:
        """Start the handlers of the messages, in this order."""
        with self._changed:
            self._running.update(map(message_of, work))
            self._total += len(work)
        generation = 0 if self._lease is None else self._lease.generation
        for each in work:
            self._waiting.put((each, generation))

    def withdraw(self) -> None:
        """Take back what waits for a handler."""
        with suppress(Empty):
            while (started := self._waiting.get_nowait()) is not None:
                self.confirmed([message_of(started[0])])

    def outcomes(self, limit: int, seconds: float | None) -> list[Answer | Dead | Run] | None:
        """Wait for an outcome, and return all that are ready, up to a limit; nothing at the end.

        Returns:
            None if there is none within the seconds.
        """
        outcomes: list[Answer | Dead | Run] = []
        try:
            while (outcome := self._finished.get(timeout=seconds)) is not None:
                outcomes.append(outcome)
                if len(outcomes) == limit or self._finished.empty():
                    return outcomes
        except Empty:
            return None
        self._finished.put(None)  # for the next call
        return outcomes

    def admit(self, jobs: list[Timed]) -> None:
        """Let workers go on that wait for the time."""
        for job in jobs:
            self._timed.put(job)

    def running(self) -> list[bytes]:
        """Return the messages that were started and aren't confirmed."""
        with self._changed:
            return list(self._running.elements())

    def room(self, limit: int) -> int:
        """Wait until fewer messages than the limit are running, and return the difference."""
        with self._changed:
            self._changed.wait_for(lambda: self._total < limit or self._failure)
            if self._failure is not None:
                raise self._failure
            return limit - self._total

    def confirmed(self, messages: list[bytes]) -> None:
        """Remove messages whose removal Redis has confirmed."""
        with self._changed:
            for message in messages:
                self._running[message] -= 1
                if not self._running[message]:
                    del self._running[message]
            self._total -= len(messages)
            self._changed.notify_all()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # otherwise the thread that serves would wait forever
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _work(self) -> None:
        runner = Runner(self._handlers)
        while (started := self._waiting.get()) is not None:
            work, generation = started
            if self._lease is not None and not self._lease.holds(generation, now()):
                # It may have been taken over; if it is on the list still, the next look finds it.
                self.confirmed([message_of(work)])
                continue
            outcome = runner.run(work)
            if isinstance(outcome, Run):
                # server.expiry.refuses: while it waits for the time, it takes no other job.
                self._finished.put(outcome)
                if (timed := self._timed.get()) is None:
                    return
                outcome = runner.run(timed)
            self._finished.put(outcome)


class Runner:
    """Runs handlers in the thread in which it was created."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._interrupts = interrupts()
        self._parent_only = ParentOnly()

    def run(self, work: Work | Timed) -> Answer | Dead | Run:
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
        except self._interrupts:
            raise
        except BaseException as error:
            return failed(job, error, self._interrupts)
        return succeeded(job, value, self._interrupts)


class Stop:
    """A request to stop, made by a signal handler or by any thread. It can't be withdrawn."""

    def __init__(self) -> None:
        self.requested = False
        # A signal handler can deadlock on an Event's lock, which the interrupted code may hold.
        self._wakes: SimpleQueue[None] = SimpleQueue()

    def request(self) -> None:
        """Request the stop; threads in `pause` wake up."""
        self.requested = True
        self._wakes.put(None)

    def pause(self, seconds: float) -> None:
        """Sleep, at most until the request."""
        try:
            self._wakes.get(timeout=seconds)
        except Empty:
            return
        self._wakes.put(None)  # for other threads in `pause`
