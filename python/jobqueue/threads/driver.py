"""Performs the steps of a server's sessions in threads: one driver and one thread per session.

The core decides what is done; this file does the waiting and calling. `jobqueue.aio.driver` has the
same names in the same order.
"""

from __future__ import annotations

import random
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from jobqueue.core import steps
from jobqueue.core.steps import Moment
from jobqueue.errors import ConnectionLost
from jobqueue.host.clock import now
from jobqueue.threads.link import Link
from jobqueue.threads.workers import Runner, Workers

if TYPE_CHECKING:
    from types import TracebackType

    from redis import ConnectionPool

    from jobqueue.core.handlers import Handlers
    from jobqueue.core.lease import Lease
    from jobqueue.core.steps import Step, Steps
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
                    if isinstance(step, steps.Room | steps.Turn):
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
        match step:  # what each job needs comes first, and calls the least
            case steps.Handle():
                return self._runner.run(step.work), Moment(now(), self._stop.requested)
            case steps.TimedExchange():
                return self._exchange(step), Moment(now(), self._stop.requested)
            case steps.Send():
                self._link.send(step.commands)
                return Moment(now(), self._stop.requested)
            case steps.Exchange():
                return self._exchange(step)
            case steps.Now():
                return self._moment()
            case steps.Decide():
                return [self._handlers.decide(each) for each in step.work], self._moment()
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
            case steps.Turn():
                return self._workers.turn(step)
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
                return time.sleep(step.seconds)
            case steps.Pause():
                return self._stop.pause(step.seconds)
            case steps.Jitter():
                return random.random()  # noqa: S311 - no secret
            case steps.Connect():
                self._abort()
                self._link = Link(self._pool)
                return None

    def _exchange(self, step: steps.Exchange | steps.TimedExchange) -> Any:
        self._link.send(step.commands)
        if self._spin is not None:
            self._spin.wait(self._link.readable)
        return self._link.receive(step.replies)

    def _moment(self) -> Moment:
        return Moment(now(), self._stop.requested)

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
