"""The server for asyncio: takes jobs from the queue, runs their handlers, publishes the results.

As `jobqueue.threads.server`, with the same names in the same order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from jobqueue.aio import handlers
from jobqueue.aio.concurrent import Concurrent
from jobqueue.aio.connections import Connections
from jobqueue.aio.stop import Stop
from jobqueue.core.serial import Exchange, Handle, Send, Serial
from jobqueue.core.settings import Serving
from jobqueue.host.lock import ProcessorLock
from jobqueue.host.signals import stopped_by_signals
from jobqueue.protocol import keys
from jobqueue.wire import pools

if TYPE_CHECKING:
    from collections.abc import Collection

    from redis.asyncio import Redis

    from jobqueue.aio.link import Link
    from jobqueue.core.serial import Steps

log = logging.getLogger("jobqueue.server")


class Server(Serving):
    """Serves one queue under one processor's name, in an event loop.

    As `jobqueue.Server`, except that `source` may be a client of `redis.asyncio`, that handlers may
    be coroutine functions, and that a concurrency above 1 runs them in tasks. A handler that is no
    coroutine function is called in the loop and holds it up for as long as it takes.
    """

    def __init__(
        self,
        source: str | Redis = pools.DEFAULT_URL,
        *,
        queue: str = keys.QUEUE,
        processor: str | None = None,
        in_process: str | None = None,
        concurrency: int = 1,
        prefetch: int = 1,
        block_timeout: float = 2.0,
        channel_prefixes: Collection[str] | None = None,
    ) -> None:
        super().__init__(
            queue=queue,
            processor=processor,
            in_process=in_process,
            concurrency=concurrency,
            prefetch=prefetch,
            block_timeout=block_timeout,
            channel_prefixes=channel_prefixes,
            awaits=True,
        )
        self._pool = pools.aio_pool_of(source, block_timeout)
        self._stop = Stop()

    async def run(self) -> None:
        """Recover what lies on the in-process list, then serve until SIGTERM, SIGINT or `stop`.

        In the main thread it handles both signals while it runs, as `jobqueue.Server.run` does.
        Cancelling it stops at once, and what was running is run again after the next start; `stop`
        is for a graceful end.

        Raises:
            ProcessorInUse: Another server on this host uses the in-process list.
            ConnectionLost: Redis can't be reached, or refuses us, at the first attempt, or for
                seconds after a stop was requested. Else a server never gives up.
        """
        queue, in_process = keys.text(self._keys.queue), keys.text(self._keys.in_process)
        redis = pools.identity(self._pool)
        self._stop.serve_here()
        with ProcessorLock(redis, in_process), stopped_by_signals(self.stop):
            log.info("serving queue=%s in_process=%s redis=%s", queue, in_process, redis)
            await self._serve()
            log.info("stopped queue=%s in_process=%s redis=%s", queue, in_process, redis)

    def stop(self) -> None:
        """Ask the server to stop gracefully; callable from any thread, and from a handler."""
        self._stop.request()

    async def _serve(self) -> None:
        if self._concurrency > 1:
            await Concurrent(
                self._pool,
                self._keys,
                self._handlers,
                self._stop,
                concurrency=self._concurrency,
                prefetch=self._prefetch,
                block_seconds=self._block_seconds,
            ).serve()
            return
        patience = self._block_seconds + pools.REPLY_SECONDS
        connections = Connections(self._pool, self._stop, patience)
        serial = Serial(
            self._keys,
            self._stop,
            prefetch=self._prefetch,
            block_seconds=self._block_seconds,
            clock=time.monotonic,
            works=connections.works,
        )
        await connections.converse(lambda link: self._take(serial.steps(), link), persist=False)

    async def _take(self, steps: Steps[None], connection: Link) -> None:
        """Take the steps of a server that runs one job at a time."""
        came: Any = None
        try:
            while True:
                step = steps.send(came)
                came = None
                if isinstance(step, Handle):
                    came = await handlers.outcome(self._handlers, step.message)
                elif isinstance(step, Exchange):
                    await connection.send(step.commands)
                    came = await connection.receive(step.replies)
                elif isinstance(step, Send):
                    await connection.send(step.commands)
                else:
                    await asyncio.sleep(step.seconds)
        except StopIteration:
            return
