"""The server for asyncio: takes jobs from the queue, runs their handlers, publishes the results.

As `jobqueue.threads.server`, with the same names in the same order.
"""

from __future__ import annotations

import logging
import socket
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

from jobqueue.aio.driver import Driver, Stop, Workers
from jobqueue.core.lasting import run_with_reconnect
from jobqueue.core.parallel import Parallel
from jobqueue.core.serial import Serial
from jobqueue.core.settings import Settings
from jobqueue.core.steps import Unreachable
from jobqueue.errors import ProcessorInUse
from jobqueue.host.lock import ProcessorLock
from jobqueue.host.signals import stopped_by_signals
from jobqueue.protocol import keys
from jobqueue.wire import pools

if TYPE_CHECKING:
    from collections.abc import Collection

    from redis.asyncio import Redis

log = logging.getLogger("jobqueue.server")


class Server(Settings):
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
            processor=socket.gethostname() if processor is None else processor,
            in_process=in_process,
            concurrency=concurrency,
            prefetch=prefetch,
            block_timeout=block_timeout,
            channel_prefixes=channel_prefixes,
            awaits=True,
        )
        self._used = False
        self._open(source)

    def with_settings(
        self,
        *,
        source: str | Redis | None = None,
        queue: str | None = None,
        processor: str | None = None,
        in_process: str | None = None,
        concurrency: int | None = None,
    ) -> Self:
        """Return a server that hasn't run, with the same handlers and what is given in place of its own.

        A processor's name that is given wins over a whole in-process key that isn't.

        Raises:
            TypeError: As the constructor.
            ValueError: As the constructor.
        """
        server = self._with(queue, processor, in_process, concurrency)
        server._open(self._source if source is None else source)  # noqa: SLF001 - of this class
        return server

    async def run(self, *, handle_signals: bool = True) -> None:
        """Recover what lies on the in-process list, then serve until SIGTERM, SIGINT or `stop`.

        In the main thread it handles both signals while it runs, as `jobqueue.Server.run` does.
        Cancelling it stops at once, and what was running is run again after the next start; `stop`
        is for a graceful end.

        Args:
            handle_signals: As there.

        Raises:
            RuntimeError: The server runs, or has run; nothing was done.
            ProcessorInUse: Another server on this host uses the in-process list; nothing was done,
                and `run` may be called again.
            ConnectionLost: Redis can't be reached, or refuses us, at the first attempt: nothing was
                claimed, and `run` may be called again. Or Redis has been away, or has refused to
                serve, for seconds after a stop was requested: what was claimed lies on the
                in-process list, and runs when a server of that name starts. Else a server never
                gives up.
        """
        if self._used:
            raise RuntimeError(
                "a server runs once: make another one, for instance by with_settings()"
            )
        self._used = True
        queue, in_process = keys.text(self._keys.queue), keys.text(self._keys.in_process)
        redis = pools.identity(self._pool)
        signals = stopped_by_signals(self.stop) if handle_signals else nullcontext()
        self._stop.listen_here()
        try:
            with ProcessorLock(redis, self.in_process), signals:
                log.info("serving queue=%s in_process=%s redis=%s", queue, in_process, redis)
                await self._serve()
                log.info("stopped queue=%s in_process=%s redis=%s", queue, in_process, redis)
        except (ProcessorInUse, Unreachable):
            self._used = self._stop.requested
            raise

    def stop(self) -> None:
        """Ask the server to stop gracefully; callable from any thread, and from a handler."""
        self._stop.request()

    def _open(self, source: str | Redis) -> None:
        self._source = source
        self._pool = pools.aio_pool_of(source, self._block_seconds, self._connections)
        self._stop = Stop()
        self._used = False

    async def _serve(self) -> None:
        limits: dict[str, Any] = {"prefetch": self._prefetch, "block_seconds": self._block_seconds}
        reply_seconds = self._block_seconds + pools.REPLY_SECONDS
        if self._concurrency == 1:
            serial = Serial(self._keys, **limits)
            driver = Driver(self._pool, self._stop, reply_seconds, handlers=self._handlers)
            await driver.run(run_with_reconnect(serial.session))
            return
        parallel = Parallel(self._keys, concurrency=self._concurrency, **limits)
        async with Workers(self._handlers, self._concurrency) as workers:
            confirming = Driver(self._pool, self._stop, pools.REPLY_SECONDS, workers=workers)
            workers.drive(lambda: confirming.run(parallel.confirming()))
            claiming = Driver(self._pool, self._stop, reply_seconds, workers=workers)
            await claiming.run(parallel.claiming())
