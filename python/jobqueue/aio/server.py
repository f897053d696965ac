"""The server for asyncio: claims jobs, runs their handlers and publishes the results.

Like `jobqueue.threads.server`, with the same names in the same order.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from jobqueue.aio.driver import Driver, Renewing, Stop
from jobqueue.aio.workers import Hands, Workers
from jobqueue.core.keeping import LIMIT_SECONDS as KEEP_SECONDS
from jobqueue.core.log import Log
from jobqueue.core.parallel import Parallel
from jobqueue.core.reconnect import run_with_reconnect
from jobqueue.core.serial import Serial
from jobqueue.core.settings import GRACE_SECONDS, Settings
from jobqueue.core.sharing import Sharing, Turns
from jobqueue.core.steps import Unreachable
from jobqueue.errors import ProcessorInUse
from jobqueue.host.lock import ProcessorLock, processor_name
from jobqueue.host.signals import stopped_by_signals
from jobqueue.protocol import keys
from jobqueue.wire import pools

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from redis.asyncio import Redis, RedisCluster

    from jobqueue.core.sharing import Order
    from jobqueue.core.takeover import Takeover

log = Log("jobqueue.server")


class Server(Settings):
    """Serves a queue, or several, under one processor name, in an event loop.

    Like `jobqueue.Server`, with the same arguments and errors, except that `source` may be a client
    of `redis.asyncio`, that handlers may be coroutine functions, and that with a concurrency above
    1, or several queues, they run in tasks. A plain function is called in the event loop and blocks it.
    """

    def __init__(
        self,
        source: str | Redis | RedisCluster = pools.DEFAULT_URL,
        *,
        queue: str | Sequence[str] = keys.QUEUE,
        order: Order = "fair",
        processor: str | None = None,
        in_process: str | None = None,
        concurrency: int = 1,
        prefetch: int = 1,
        block_timeout: float = 2.0,
        channel_prefixes: Collection[str] | None = None,
        attempts: int = 3,
        keep_limit: float = KEEP_SECONDS,
        takeover: bool = True,
        lease_timeout: float | None = None,
        grace_period: float = GRACE_SECONDS,
    ) -> None:
        super().__init__(
            queue=queue,
            order=order,
            processor=processor,
            in_process=in_process,
            concurrency=concurrency,
            prefetch=prefetch,
            block_timeout=block_timeout,
            channel_prefixes=channel_prefixes,
            attempts=attempts,
            keep_limit=keep_limit,
            takeover=takeover,
            lease_timeout=lease_timeout,
            grace_period=grace_period,
            awaits=True,
            make_name=processor_name,
        )
        self._used = False
        self._open(source)

    def with_settings(
        self,
        *,
        source: str | Redis | RedisCluster | None = None,
        queue: str | Sequence[str] | None = None,
        order: Order | None = None,
        processor: str | None = None,
        in_process: str | None = None,
        concurrency: int | None = None,
        attempts: int | None = None,
        keep_limit: float | None = None,
        takeover: bool | None = None,
    ) -> Self:
        """Return a new server with the same handlers, and with the given settings instead of its own.

        It may run, whether or not this one has. Handlers that are registered later belong to both.
        A `processor` replaces a whole `in_process` key unless that is given, too. None means
        unchanged; the other settings are always the same.

        Raises:
            TypeError: As in the constructor.
            ValueError: As in the constructor.
        """
        server = self._with(
            queue=queue,
            order=order,
            processor=processor,
            in_process=in_process,
            concurrency=concurrency,
            attempts=attempts,
            keep_limit=keep_limit,
            takeover=takeover,
        )
        server._open(self._source if source is None else source)  # noqa: SLF001 - of this class
        return server

    async def run(self, *, handle_signals: bool = True) -> None:
        """Recover the in-process list, then serve until SIGTERM, SIGINT or `stop`.

        In the main thread it handles both signals while it runs, as `jobqueue.Server.run` does. If
        its task is cancelled, it stops at once: jobs that were claimed stay on the in-process list,
        and run when a server of the same name starts. `stop` is the graceful way.

        Args:
            handle_signals: False leaves the signals to the application, whose handlers may call
                `stop`.

        Raises:
            RuntimeError: The server runs or has run, or the platform has no `fcntl` (Windows).
                Nothing was claimed.
            ProcessorInUse: Another server on this host uses the in-process list; or takeover is off,
                and servers with takeover would adopt from it. Nothing was claimed, and `run` may be
                called again.
            ProcessorLost: Another server has taken the lease of the list. What was running was
                answered, and nothing else was started.
            ConnectionLost: Redis can't be reached, or refuses the connection or a permission that
                takeover needs, at the first attempt: nothing was claimed, and `run` may be called again,
                unless it serves several queues. Or Redis was away or refused to
                serve for 4 seconds after a stop was requested (server.stop.unreachable): claimed
                jobs stay on the in-process list, and run when a server of the same name starts.
                Otherwise a server reconnects forever.
        """
        if self._used:
            raise RuntimeError(
                "a server runs once: create another one, for example with with_settings()"
            )
        self._used = True
        signals = stopped_by_signals(self.stop) if handle_signals else nullcontext()
        places = [
            (keys.text(each.queue), keys.text(each.in_process), pools.identity(pool))
            for each, pool in zip(self._lists, self._pools, strict=True)
        ]
        self._stop.bind_to_loop()
        try:
            with ExitStack() as stack:
                locks = [
                    stack.enter_context(ProcessorLock(place[-1], keys.name(each.in_process)))
                    for each, place in zip(self._lists, places, strict=True)
                ]
                stack.enter_context(signals)
                for place in places:
                    log.info("serving queue=%s in_process=%s redis=%s", *place)
                await self._serve(locks)
                for place in places:
                    log.info("stopped queue=%s in_process=%s redis=%s", *place)
        except (ProcessorInUse, Unreachable):
            self._used = self._stop.requested
            raise

    def stop(self) -> None:
        """Request a graceful stop, and return at once. Any thread and any handler may call this.

        It can't be withdrawn; a server that hasn't run yet then stops as soon as it has started.
        """
        self._stop.request()

    def _open(self, source: str | Redis | RedisCluster) -> None:
        self._source = source
        self._pools = [
            pools.aio_pool_of(source, each, self._block_seconds, self._connections)
            for each in self._lists
        ]
        self._stop = Stop()
        self._used = False

    async def _serve(self, locks: list[ProcessorLock]) -> None:
        lives = [
            self._begin_life(each, *lock.exchange_token())
            for each, lock in zip(self._lists, locks, strict=True)
        ]
        async with AsyncExitStack() as stack:
            for pool, life in zip(self._pools, lives, strict=True):
                if life.lease is not None:
                    await stack.enter_async_context(Renewing(pool, life.lease))
            if len(lives) == 1:
                await self._serve_one(lives[0])
            else:
                await self._serve_several(lives)

    def _limits(self, life: Takeover) -> dict[str, Any]:
        return {
            "prefetch": self._prefetch,
            "block_seconds": self._block_seconds,
            "attempts": self._attempts,
            "keep_ms": round(self._keep_seconds * 1_000),
            "takeover": life,
        }

    async def _serve_one(self, life: Takeover) -> None:
        (lists,), (pool,), limits = self._lists, self._pools, self._limits(life)
        reply_seconds = self._block_seconds + pools.REPLY_SECONDS
        if self._concurrency == 1:
            serial = Serial(lists, **limits)
            driver = Driver(pool, self._stop, reply_seconds, handlers=self._handlers)
            await driver.run(run_with_reconnect(serial.session, life.lease))
            return
        parallel = Parallel(lists, concurrency=self._concurrency, **limits)
        async with Hands(self._handlers, self._concurrency) as hands:
            workers = Workers(hands, life.lease)
            confirming = Driver(pool, self._stop, pools.REPLY_SECONDS, workers=workers)
            workers.drive(lambda: confirming.run(parallel.confirming()))
            claiming = Driver(pool, self._stop, reply_seconds, workers=workers)
            await claiming.run(parallel.claiming())

    async def _serve_several(self, lives: list[Takeover]) -> None:
        seats = Turns(len(lives), self._concurrency, self._order).seats
        ends: asyncio.Queue[BaseException | None] = asyncio.Queue()
        reply_seconds = self._block_seconds + pools.REPLY_SECONDS
        async with Hands(self._handlers, self._concurrency) as hands:
            for lists, pool, life, seat in zip(self._lists, self._pools, lives, seats, strict=True):
                workers = Workers(hands, life.lease, seat)
                sharing = Sharing(lists, concurrency=self._concurrency, **self._limits(life))
                confirming = Driver(pool, self._stop, pools.REPLY_SECONDS, workers=workers)
                workers.drive(partial(confirming.run, sharing.confirming()))
                claiming = Driver(pool, self._stop, reply_seconds, workers=workers)
                hands.drive(partial(claiming.run, sharing.claiming()), ends.put_nowait)
            errors = []
            for _ in lives:
                if (error := await ends.get()) is not None:
                    errors.append(error)
                    self._stop.request()  # the other queues end as at a stop
            if errors:
                raise errors[0]
