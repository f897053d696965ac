"""The server: claims jobs, runs their handlers and publishes the results (protocol, section 7).

Its decisions are in `jobqueue.core`: `serial` for one handler at a time, `parallel` for several.
This file has its settings, its lock and its signals.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self

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
from jobqueue.threads.driver import Driver, Renewing, Stop
from jobqueue.threads.spin import Spin
from jobqueue.threads.workers import Hands, Workers
from jobqueue.wire import pools

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from redis import Redis, RedisCluster

    from jobqueue.core.sharing import Order
    from jobqueue.core.takeover import Takeover

log = Log("jobqueue.server")


class Server(Settings):
    """Serves a queue, or several, under one processor name. It runs once; `with_settings` makes another one.

    Whatever a handler raises, its job is answered and the server goes on (server.run.goes-on).

    Args:
        source: A Redis URL, or a client of redis-py with `retry=None`, a `socket_timeout` above
            `block_timeout` and without `decode_responses`.
        queue: The key of the queue, or those of several queues, which share the handlers: each has a
            list, a lease, and connections of its own. Several are served in threads, at any
            concurrency; a job that is claimed while no handler is free is returned at once.
        order: Which of several queues is next: `fair`, the one that has been served least, or
            `priority`, the first one that has a job.
        processor: A name that is unique among running servers (server.list.own). With a name that
            is the same after a restart, the server's jobs run again as soon as it is back
            (server.list.stable). Default: a new name for each server; without `takeover`, the host
            name, so that several servers on one host, and containers whose host name changes, need
            explicit names.
        in_process: The whole key of the in-process list; overrides the one that follows from the
            processor name (server.list.name). With `takeover` it has to begin with `<queue>:`.
        concurrency: The number of handlers that run at the same time, from 1; above 1 they run in
            threads (server.concurrency.limit).
        prefetch: The number of jobs that are claimed at once, from 1. More than 1 is faster, but a
            claimed job waits behind those claimed before it even if another server is idle, and
            more jobs run again after a crash.
        block_timeout: Seconds that a claim waits for a job, above 0 and at most 5
            (server.recovery.block). A stop takes up to that long when no handler runs.
        channel_prefixes: The prefixes of the channels that may be published on
            (server.channel-prefix.confined). None allows all channels.
        attempts: How often a job that was on the list of a server that ended is started again
            before it is given up (server.attempts.limit), from 2; 0 is without limit.
        keep_limit: The longest time in seconds for which the result of a job is kept that asks for
            it (server.kept.value); 0 keeps none.
        takeover: Whether this server adopts the jobs of servers that never come back, and others
            adopt its own.
        lease_timeout: Seconds without a sign of life after which a server counts as gone, at least
            three times `block_timeout` (server.takeover.times). Servers of one queue should have the
            same. Default: 8, or three times `block_timeout` if that is more.
        grace_period: Seconds for which the list of a server that is gone is remembered, in case that
            the network delivers one of its claims late (server.takeover.prunes).

    Raises:
        TypeError: The source is neither a URL nor a client.
        ValueError: An argument is out of range, or the URL or the client can't be used.
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
            awaits=False,
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

    def run(self, *, handle_signals: bool = True) -> None:
        """Recover the in-process list, then serve until SIGTERM, SIGINT or `stop`.

        In the main thread it handles both signals while it runs. The first one stops all servers of
        the process gracefully: everything that was claimed is answered before this returns
        (server.stop.drains). A second SIGINT raises KeyboardInterrupt: jobs that were claimed stay
        on the in-process list, and run when a server of the same name starts. The application's own
        signal handlers are called, too, and are restored afterwards; what they raise is raised when
        the servers have stopped.

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
        try:
            with ExitStack() as stack:
                locks = [
                    stack.enter_context(ProcessorLock(place[-1], keys.name(each.in_process)))
                    for each, place in zip(self._lists, places, strict=True)
                ]
                stack.enter_context(signals)
                for place in places:
                    log.info("serving queue=%s in_process=%s redis=%s", *place)
                self._serve(locks)
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
            pools.pool_of(source, each, self._block_seconds, self._connections)
            for each in self._lists
        ]
        self._stop = Stop()
        self._used = False

    def _serve(self, locks: list[ProcessorLock]) -> None:
        lives = [
            self._begin_life(each, *lock.exchange_token())
            for each, lock in zip(self._lists, locks, strict=True)
        ]
        with ExitStack() as stack:
            for pool, life in zip(self._pools, lives, strict=True):
                if life.lease is not None:
                    stack.enter_context(Renewing(pool, life.lease))
            if len(lives) == 1:
                self._serve_one(lives[0])
            else:
                self._serve_several(lives)

    def _limits(self, life: Takeover) -> dict[str, Any]:
        return {
            "prefetch": self._prefetch,
            "block_seconds": self._block_seconds,
            "attempts": self._attempts,
            "keep_ms": round(self._keep_seconds * 1_000),
            "takeover": life,
        }

    def _serve_one(self, life: Takeover) -> None:
        (lists,), (pool,), limits = self._lists, self._pools, self._limits(life)
        if self._concurrency == 1:
            serial = Serial(lists, **limits)
            driver = Driver(pool, self._stop, handlers=self._handlers, spin=Spin())
            driver.run(run_with_reconnect(serial.session, life.lease))
            return
        parallel = Parallel(lists, concurrency=self._concurrency, **limits)
        hands = Hands(self._handlers, self._concurrency)
        with hands, Workers(hands, life.lease) as workers:
            confirming = Driver(pool, self._stop, workers=workers)
            workers.drive(lambda: confirming.run(parallel.confirming()))
            Driver(pool, self._stop, workers=workers).run(parallel.claiming())

    def _serve_several(self, lives: list[Takeover]) -> None:
        seats = Turns(len(lives), self._concurrency, self._order).seats
        ends: SimpleQueue[BaseException | None] = SimpleQueue()
        with Hands(self._handlers, self._concurrency) as hands, ExitStack() as stack:
            for lists, pool, life, seat in zip(self._lists, self._pools, lives, seats, strict=True):
                workers = stack.enter_context(Workers(hands, life.lease, seat))
                sharing = Sharing(lists, concurrency=self._concurrency, **self._limits(life))
                confirming = Driver(pool, self._stop, workers=workers)
                workers.drive(partial(confirming.run, sharing.confirming()))
                claiming = Driver(pool, self._stop, workers=workers)
                hands.drive(partial(claiming.run, sharing.claiming()), ends.put)
            errors = []
            for _ in lives:
                if (error := ends.get()) is not None:
                    errors.append(error)
                    self._stop.request()  # the other queues end as at a stop
            if errors:
                raise errors[0]
