"""The hands of a server in threads, and what each of its queues has started and not yet confirmed.

`jobqueue.aio.workers` has the same names in the same order.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from queue import Empty, SimpleQueue
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
    """The threads that run handlers, for one queue or for several.

    Leaving the `with` block ends the threads; after an exception it doesn't wait for handlers that
    still run.
    """

    def __init__(self, handlers: Handlers, concurrency: int) -> None:
        self.changed = threading.Condition()  # guards what the queues have started
        self.failure: BaseException | None = None  # why all queues have to end
        self._handlers = handlers
        self._concurrency = concurrency
        self._waiting: SimpleQueue[tuple[Workers, Work, int] | None] = SimpleQueue()
        self._timed: SimpleQueue[tuple[Workers, Timed] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        # server.concurrency.limit, server.concurrency.parallel
        for _ in range(self._concurrency):
            self.drive(self._work, self._end)
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
        if exc is None:
            for thread in self._threads:
                thread.join()
        else:
            self._end(exc)

    def drive(self, work: Callable[[], None], end: Callable[[BaseException | None], None]) -> None:
        """Do this in a thread of its own, and report its end: what it raises, or None."""

        def guard() -> None:
            try:
                work()
            except BaseException as error:  # otherwise the thread that serves would wait forever
                end(error)
            else:
                end(None)

        thread = threading.Thread(target=guard, name="jobqueue server", daemon=True)
        thread.start()
        self._threads.append(thread)

    def start(self, workers: Workers, work: Sequence[Work], generation: int) -> None:
        """Run the handlers of messages of one queue, in this order."""
        for each in work:
            self._waiting.put((workers, each, generation))

    def withdraw(self) -> list[tuple[Workers, bytes]]:
        """Take back what waits for a hand."""
        withdrawn = []
        with suppress(Empty):
            while (started := self._waiting.get_nowait()) is not None:
                withdrawn.append((started[0], message_of(started[1])))
        return withdrawn

    def admit(self, workers: Workers, jobs: list[Timed]) -> None:
        """Let hands go on that wait for the time."""
        for job in jobs:
            self._timed.put((workers, job))

    def _end(self, error: BaseException | None) -> None:
        with self.changed:
            self.failure = self.failure or error
            self.changed.notify_all()

    def _work(self) -> None:
        runner = Runner(self._handlers)
        while (started := self._waiting.get()) is not None:
            workers, work, generation = started
            if not workers.may_run(generation):
                # It may have been taken over; if it is on the list still, the next look finds it.
                workers.confirmed([message_of(work)])
                continue
            outcome = runner.run(work)
            if isinstance(outcome, Run):
                # server.expiry.refuses: while it waits for the time, it takes no other job.
                workers.finished(outcome)
                if (timed := self._timed.get()) is None:
                    return
                workers, job = timed
                outcome = runner.run(job)
            workers.finished(outcome)


class Workers:
    """The messages of one queue that were started and aren't confirmed.

    One thread may call `start` while another one calls `outcomes`. Leaving the `with` block ends the
    outcomes.

    Args:
        hands: They run the handlers.
        lease: The queue's lease.
        seat: Its place among the queues that share the hands, if there are several.
    """

    def __init__(self, hands: Hands, lease: Lease | None = None, seat: Seat | None = None) -> None:
        self._hands = hands
        self._lease = lease
        self._seat: Any = seat
        self._outcomes: SimpleQueue[Answer | Dead | Run | None] = SimpleQueue()
        self._running: Counter[bytes] = Counter()
        self._total = 0
        self._failure: BaseException | None = None
        self._changed = hands.changed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._outcomes.put(None)

    def drive(self, work: Callable[[], None]) -> None:
        """Do this in a thread of its own; `room` and `turn` raise what it raises."""
        self._hands.drive(work, self._end)

    def start(self, work: Sequence[Work]) -> None:
        """Start the handlers of the messages, in this order."""
        messages = [*map(message_of, work)]
        with self._changed:
            self._running.update(messages)
            self._total += len(messages)
            if self._seat is not None:
                self._seat.start(messages)
        self._hands.start(self, work, 0 if self._lease is None else self._lease.generation)

    def withdraw(self) -> None:
        """Take back what waits for a handler; only for a server of one queue."""
        for workers, message in self._hands.withdraw():
            workers.confirmed([message])

    def outcomes(self, limit: int, seconds: float | None) -> list[Answer | Dead | Run] | None:
        """Wait for an outcome, and return all that are ready, up to a limit; nothing at the end.

        Returns:
            None if there is none within the seconds.
        """
        outcomes: list[Answer | Dead | Run] = []
        try:
            while (outcome := self._outcomes.get(timeout=seconds)) is not None:
                outcomes.append(outcome)
                if len(outcomes) == limit or self._outcomes.empty():
                    return outcomes
        except Empty:
            return None
        self._outcomes.put(None)  # for the next call
        return outcomes

    def admit(self, jobs: list[Timed]) -> None:
        """Let handlers go on that wait for the time."""
        self._hands.admit(self, jobs)

    def running(self) -> list[bytes]:
        """Return the messages that were started and aren't confirmed."""
        with self._changed:
            return list(self._running.elements())

    def room(self, limit: int) -> int:
        """Wait until fewer messages than the limit are running, and return the difference."""
        with self._changed:
            self._rest()
            return self._wait_for(lambda: limit - self._total if self._total < limit else 0)

    def turn(self, turn: Turn) -> int:
        """Wait until this queue has its turn, and return how many hands are kept for it."""
        with self._changed:
            self._seat.ask(turn.wants, suspect=turn.suspect, alone=turn.alone)
            self._changed.notify_all()  # what it has given back is another's
            return self._wait_for(self._seat.granted)

    def take(self) -> bool:
        """Keep a hand, if one is free."""
        with self._changed:
            return bool(self._seat.take())

    def rest(self) -> None:
        """Give back the hands that are kept."""
        with self._changed:
            self._rest()

    def release(self) -> None:
        """Give back the hands of jobs whose handlers have ended."""
        with self._changed:
            self._seat.release()
            self._changed.notify_all()

    def confirmed(self, messages: list[bytes]) -> None:
        """Remove messages whose removal Redis has confirmed."""
        with self._changed:
            for message in messages:
                self._running[message] -= 1
                if not self._running[message]:
                    del self._running[message]
            self._total -= len(messages)
            if self._seat is not None:
                self._seat.done(messages)
            self._changed.notify_all()

    def may_run(self, generation: int) -> bool:
        """Tell whether a message that was started in this generation may run."""
        return self._lease is None or self._lease.holds(generation, now())

    def finished(self, outcome: Answer | Dead | Run) -> None:
        """Have the outcome confirmed."""
        if self._seat is not None and not isinstance(outcome, Run):
            with self._changed:
                self._seat.ended(outcome.message)
        self._outcomes.put(outcome)

    def _rest(self) -> None:
        if self._seat is not None:
            self._seat.rest()
            self._changed.notify_all()

    def _wait_for(self, ready: Callable[[], int]) -> int:
        self._changed.wait_for(lambda: self._failure or self._hands.failure or ready())
        if (failure := self._failure or self._hands.failure) is not None:
            raise failure
        return ready()

    def _end(self, error: BaseException | None) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()


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
