"""A server that runs several handlers at once, each in a task of its own.

One task claims jobs on one connection, for it may block there; another publishes and removes on a
second connection, everything that has finished meanwhile in one write. A job counts as running from
its claim until its removal is confirmed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from jobqueue.aio import handlers
from jobqueue.aio.connections import Connections
from jobqueue.aio.running import Running
from jobqueue.core import recovery
from jobqueue.core.recovery import SecondLook
from jobqueue.protocol import commands as flows
from jobqueue.wire.pools import REPLY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import ConnectionPool

    from jobqueue.aio.link import Link
    from jobqueue.aio.stop import Stop
    from jobqueue.core.handlers import Handlers
    from jobqueue.protocol.keys import Keys
    from jobqueue.protocol.messages import Answer, Dead

log = logging.getLogger("jobqueue.server")

BATCH = 100  # outcomes that leave in one write


class Concurrent:
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
        self._claiming = Connections(pool, stop, block_seconds + REPLY_SECONDS)
        self._acknowledging = Connections(pool, stop, REPLY_SECONDS)
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self._finished: asyncio.Queue[Answer | Dead] = asyncio.Queue()
        self._unconfirmed: deque[Answer | Dead] = deque()
        self._lost = False

    async def serve(self) -> None:
        """Recover and serve until the stop is requested and everything claimed is answered.

        Raises:
            Unreachable: The very first attempt found no Redis, or was refused; or Redis is away
                while a stop is requested.
        """
        # server.concurrency.limit, server.concurrency.parallel
        tasks = [
            asyncio.create_task(self._guard(work), name="jobqueue server")
            for work in (*[self._run] * self._concurrency, self._acknowledge)
        ]
        try:
            await self._claiming.converse(self._claim, persist=False)
            # server.stop.drains
            await self._running.wait_until_empty()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _claim(self, connection: Link) -> None:
        again, self._lost = self._lost, True
        # server.recovery.first, server.recovery.reconnect
        second_look = SecondLook(time.monotonic(), self._block_seconds)
        await self._look(connection)
        while True:
            room = await self._running.wait_for_room(self._limit)
            now = time.monotonic()
            if second_look.due(now):
                second_look.done = True
                await self._look(connection)
            elif not self._stop.requested:
                # server.stop.no-claim
                block = second_look.block_seconds(now)
                for message in await connection.run(flows.claim(self._keys, room, block)):
                    self._start(message)
                self._claiming.works()
            elif second_look.done or not again:
                return
            else:
                # server.stop.drains: until then, a lost claim of this life can move one more job.
                await asyncio.sleep(second_look.remaining(now))

    async def _look(self, connection: Link) -> None:
        # server.recovery.quiet: what runs is noted first, and no claim is outstanding.
        running = self._running.snapshot()
        found = recovery.strays(await connection.run(flows.look(self._keys)), running)
        if not found:
            return
        log.info("recovering %d messages from %s", len(found), self._keys.in_process.decode())
        for message in found:
            self._start(message)
        # server.recovery.first: with fewer jobs than tasks, none of them waits for its start.
        await self._running.wait_for_room(self._concurrency)

    def _start(self, message: bytes) -> None:
        self._running.add(message)
        self._waiting.put_nowait(message)

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # or the task that serves would wait for ever
            self._running.fail(error)

    async def _run(self) -> None:
        while True:
            message = await self._waiting.get()
            self._finished.put_nowait(await handlers.outcome(self._handlers, message))

    async def _acknowledge(self) -> None:
        await self._collect()  # no connection before there is something to send on it
        await self._acknowledging.converse(self._confirm, persist=True)

    async def _confirm(self, connection: Link) -> None:
        transactions = await connection.run(flows.may_transact())
        while True:
            # server.publish.again: after a lost connection, these are the same bytes once more.
            finishing = [
                flows.finish(self._keys, outcome, transactions=transactions)
                for outcome in self._unconfirmed
            ]
            async for odd in connection.run_all(finishing):
                outcome = self._unconfirmed.popleft()
                self._running.discard(outcome.message)
                if odd:
                    log.warning("%s: %.200r", odd, outcome.message)
            self._acknowledging.works()
            await self._collect()

    async def _collect(self) -> None:
        """Wait for outcomes, and take what is there, up to a batch."""
        self._unconfirmed.append(await self._finished.get())
        while len(self._unconfirmed) < BATCH and not self._finished.empty():
            self._unconfirmed.append(self._finished.get_nowait())
