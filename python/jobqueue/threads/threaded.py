"""A server that runs several handlers at once, each in a thread of its own.

The thread that serves claims jobs on one connection, for it may block there; another thread
publishes and removes on a second connection, everything that has finished meanwhile in one write. A
job counts as running from its claim until its removal is confirmed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING

from jobqueue.core import recovery
from jobqueue.core.recovery import SecondLook
from jobqueue.protocol import commands as flows
from jobqueue.threads.connections import Connections
from jobqueue.threads.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import ConnectionPool

    from jobqueue.core.handlers import Handlers
    from jobqueue.protocol.keys import Keys
    from jobqueue.protocol.messages import Answer, Dead
    from jobqueue.threads.link import Link
    from jobqueue.threads.stop import Stop

log = logging.getLogger("jobqueue.server")

BATCH = 100  # outcomes that leave in one write


class Threaded:
    """Serves until it is stopped; a lost connection is replaced by a new one, for ever."""

    def __init__(
        self,
        pool: ConnectionPool,
        keys: Keys,
        handlers: Handlers,
        stop: Stop,
        *,
        concurrency: int,
        prefetch: int,
        block_seconds: float,
    ) -> None:
        self._keys = keys
        self._handlers = handlers
        self._stop = stop
        self._concurrency = concurrency
        self._block_seconds = block_seconds
        self._limit = max(concurrency, prefetch)
        self._running = Running()
        self._claiming = Connections(pool, stop)
        self._acknowledging = Connections(pool, stop)
        self._waiting: SimpleQueue[bytes | None] = SimpleQueue()
        self._finished: SimpleQueue[Answer | Dead | None] = SimpleQueue()
        self._unconfirmed: deque[Answer | Dead] = deque()
        self._lost = False

    def serve(self) -> None:
        """Recover and serve until the stop is requested and everything claimed is answered.

        Raises:
            Unreachable: The very first attempt found no Redis, or was refused; or Redis is away
                while a stop is requested.
        """
        # server.concurrency.limit, server.concurrency.parallel
        threads = [
            threading.Thread(target=self._guard, args=(work,), name="jobqueue server", daemon=True)
            for work in (*[self._run] * self._concurrency, self._acknowledge)
        ]
        for thread in threads:
            thread.start()
        try:
            self._claiming.converse(self._claim, persist=False)
            # server.stop.drains
            self._running.wait_until_empty()
        finally:
            for _ in range(self._concurrency):
                self._waiting.put(None)
            self._finished.put(None)
        for thread in threads:
            thread.join()

    def _claim(self, connection: Link) -> None:
        again, self._lost = self._lost, True
        # server.recovery.first, server.recovery.reconnect
        second_look = SecondLook(time.monotonic(), self._block_seconds)
        self._look(connection)
        while True:
            room = self._running.wait_for_room(self._limit)
            now = time.monotonic()
            if second_look.due(now):
                second_look.done = True
                self._look(connection)
            elif not self._stop.requested:
                # server.stop.no-claim
                block = second_look.block_seconds(now)
                for message in connection.run(flows.claim(self._keys, room, block)):
                    self._start(message)
                self._claiming.works()
            elif second_look.done or not again:
                return
            else:
                # server.stop.drains: until then, a lost claim of this life can move one more job.
                time.sleep(second_look.remaining(now))

    def _look(self, connection: Link) -> None:
        # server.recovery.quiet: what runs is noted first, and no claim is outstanding.
        running = self._running.snapshot()
        found = recovery.strays(connection.run(flows.look(self._keys)), running)
        if not found:
            return
        log.info("recovering %d messages from %s", len(found), self._keys.in_process.decode())
        for message in found:
            self._start(message)
        # server.recovery.first: with fewer jobs than threads, none of them waits for its start.
        self._running.wait_for_room(self._concurrency)

    def _start(self, message: bytes) -> None:
        self._running.add(message)
        self._waiting.put(message)

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # or the thread that serves would wait for ever
            self._running.fail(error)

    def _run(self) -> None:
        while (message := self._waiting.get()) is not None:
            self._finished.put(self._handlers.outcome(message))

    def _acknowledge(self) -> None:
        outcome = self._finished.get()  # no connection before there is something to send on it
        if outcome is not None:
            self._unconfirmed.append(outcome)
            self._acknowledging.converse(self._confirm, persist=True)

    def _confirm(self, connection: Link) -> None:
        transactions = connection.run(flows.may_transact())
        while True:
            # server.publish.again: after a lost connection, these are the same bytes once more.
            outcomes = list(self._unconfirmed)
            finishing = [
                flows.finish(self._keys, outcome, transactions=transactions) for outcome in outcomes
            ]
            for outcome, odd in zip(outcomes, connection.run_all(finishing), strict=True):
                self._unconfirmed.popleft()
                self._running.discard(outcome.message)
                if odd:
                    log.warning("%s: %.200r", odd, outcome.message)
            self._acknowledging.works()
            if not self._collect():
                return

    def _collect(self) -> bool:
        """Wait for outcomes, and take what is there, up to a batch; False at the end."""
        while True:
            outcome = self._finished.get()
            if outcome is None:
                return False
            self._unconfirmed.append(outcome)
            if len(self._unconfirmed) == BATCH or self._finished.empty():
                return True
