"""A server that runs one job at a time, on one connection, in the thread that serves.

One round trip per job: the result of one job and its removal travel in the same write as the claim
of the next. Only a claim that found the queue empty is followed by one that blocks. Of several jobs
claimed at once, each is answered before the next is started.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from jobqueue import flows, recovery
from jobqueue.connections import Connections
from jobqueue.recovery import SecondLook

if TYPE_CHECKING:
    from redis import ConnectionPool

    from jobqueue.connection import Connection
    from jobqueue.handlers import Handlers
    from jobqueue.keys import Keys
    from jobqueue.messages import Answer, Dead
    from jobqueue.stop import Stop

log = logging.getLogger("jobqueue.server")


class Serial:
    """Serves until it is stopped; a lost connection is replaced by a new one, for ever."""

    def __init__(
        self,
        pool: ConnectionPool,
        keys: Keys,
        handlers: Handlers,
        stop: Stop,
        *,
        prefetch: int,
        block_seconds: float,
    ) -> None:
        self._pool = pool
        self._keys = keys
        self._handlers = handlers
        self._stop = stop
        self._prefetch = prefetch
        self._block_seconds = block_seconds
        self._connections = Connections(pool, stop)
        self._finished: deque[Answer | Dead] = deque()  # in the order of their flows
        self._transactions = False
        self._second_look: SecondLook | None = None

    def serve(self) -> None:
        """Recover and serve until the stop is requested and everything claimed is answered.

        Raises:
            Unreachable: The very first attempt found no Redis, or was refused.
        """
        self._connections.converse(self._converse, persist=False)

    def _converse(self, connection: Connection) -> None:
        again = self._second_look is not None
        self._transactions = connection.run(flows.may_transact())
        # server.recovery.first, server.recovery.reconnect
        self._second_look = second_look = SecondLook(time.monotonic(), self._block_seconds)
        waiting = self._look(connection)
        while True:
            if not waiting and second_look.due(time.monotonic()):
                second_look.done = True
                waiting = self._look(connection)
            if not waiting and self._stop.requested:
                if second_look.done or not again:
                    return
                # server.stop.drains: until then, a lost claim of this life can move one more job.
                time.sleep(second_look.remaining(time.monotonic()))
                continue
            batch, waiting = waiting[: self._prefetch], waiting[self._prefetch :]
            waiting.extend(self._exchange(connection, second_look, batch, last=not waiting))

    def _look(self, connection: Connection) -> list[bytes | Answer | Dead]:
        # server.recovery.quiet: a claim's replies are read before anything else is sent.
        work = recovery.unfinished(connection.run(flows.look(self._keys)), self._finished)
        self._finished.clear()
        if work:
            log.info("recovering %d messages from %s", len(work), self._keys.in_process.decode())
        return work

    def _exchange(
        self,
        connection: Connection,
        second_look: SecondLook,
        batch: list[bytes | Answer | Dead],
        *,
        last: bool,
    ) -> list[bytes]:
        """Answer a batch, claim what comes after it, and return that."""
        begun = []
        commands: list[flows.Command] = []
        claim_may_follow = last
        for work in batch:
            if commands:  # no result waits for the next handler
                connection.send(commands)
            outcome = self._handlers.outcome(work) if isinstance(work, bytes) else work
            self._finished.append(outcome)
            claim_may_follow &= flows.one_write(outcome, transactions=self._transactions)
            flow = flows.finish(self._keys, outcome, transactions=self._transactions)
            commands = next(flow)
            begun.append((flow, len(commands)))
        now = time.monotonic()
        claiming, claims = None, 0
        # server.stop.no-claim, server.recovery.quiet
        if claim_may_follow and not self._stop.requested and not second_look.due(now):
            block = None if batch else second_look.block_seconds(now)
            claiming = flows.claim(self._keys, self._prefetch, block)
            claim_commands = next(claiming)
            claims = len(claim_commands)
            commands = commands + claim_commands
        connection.send(commands)
        answers = [connection.receive(count) for _, count in begun]
        claimed = connection.receive(claims)
        for (flow, _), replies in zip(begun, answers, strict=True):
            odd = connection.proceed(flow, replies)
            outcome = self._finished.popleft()
            if odd:
                log.warning("%s: %.200r", odd, outcome.message)
        if claiming is None:
            return []
        jobs = connection.proceed(claiming, claimed)
        self._connections.works()
        return jobs
