"""The server: takes jobs from the queue, runs their handlers, publishes the results.

Everything of the protocol's section 7. What a server does stands in `jobqueue.core`: one handler at a
time in `serial`, several at once in `parallel`. Here are its settings, the lock and the signals.
"""

from __future__ import annotations

import logging
import socket
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

from jobqueue.core.lasting import run_with_reconnect
from jobqueue.core.parallel import Parallel
from jobqueue.core.serial import Serial
from jobqueue.core.settings import Settings
from jobqueue.core.steps import Unreachable
from jobqueue.errors import ProcessorInUse
from jobqueue.host.lock import ProcessorLock
from jobqueue.host.signals import stopped_by_signals
from jobqueue.protocol import keys
from jobqueue.threads.driver import Driver, Stop, Workers
from jobqueue.threads.spin import Spin
from jobqueue.wire import pools

if TYPE_CHECKING:
    from collections.abc import Collection

    from redis import Redis

log = logging.getLogger("jobqueue.server")


class Server(Settings):
    """Serves one queue under one processor's name.

    Args:
        source: The URL of Redis, or a redis-py client with `retry=None`, undecoded replies and a
            `socket_timeout` above `block_timeout`.
        queue: The key of the queue.
        processor: A name that is unique among the servers that run, and the same after a restart;
            the host's name where it is left out. Several servers on one host, or containers whose
            host names change, need names of their own.
        in_process: The whole key of the in-process list, where it doesn't follow from the name.
        concurrency: How many handlers run at once; more than 1 runs them in threads.
        prefetch: How many jobs are claimed at once. More than 1 is faster, but a job then waits
            behind the ones claimed before it although another server may be idle, and more are to
            be run again after a crash.
        block_timeout: How many seconds a claim waits for a job, at most 5. A stop takes as long.
        channel_prefixes: The beginnings of the channels that may be published on; all, if left out.

    Raises:
        TypeError: The source is neither a URL nor a client.
        ValueError: An argument is out of range, or the client can't be used.
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
            awaits=False,
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

    def run(self, *, handle_signals: bool = True) -> None:
        """Recover what lies on the in-process list, then serve until SIGTERM, SIGINT or `stop`.

        In the main thread it handles both signals while it runs: the first stops all servers of the
        process gracefully, which means that everything claimed is answered before this returns. A
        second SIGINT stops at once. The application's own handlers are called, too, and are there
        again afterwards; what they raise is raised at the end.

        Args:
            handle_signals: Whether to do so. Else the signals mean what the application says, and
                `stop` is for its handlers.

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
        try:
            with ProcessorLock(redis, self.in_process), signals:
                log.info("serving queue=%s in_process=%s redis=%s", queue, in_process, redis)
                self._serve()
                log.info("stopped queue=%s in_process=%s redis=%s", queue, in_process, redis)
        except (ProcessorInUse, Unreachable):
            self._used = self._stop.requested
            raise

    def stop(self) -> None:
        """Ask the server to stop gracefully; callable from any thread, and from a handler."""
        self._stop.request()

    def _open(self, source: str | Redis) -> None:
        self._source = source
        self._pool = pools.pool_of(source, self._block_seconds, self._connections)
        self._stop = Stop()
        self._used = False

    def _serve(self) -> None:
        limits: dict[str, Any] = {"prefetch": self._prefetch, "block_seconds": self._block_seconds}
        if self._concurrency == 1:
            serial = Serial(self._keys, **limits)
            driver = Driver(self._pool, self._stop, handlers=self._handlers, spin=Spin())
            driver.run(run_with_reconnect(serial.session))
            return
        parallel = Parallel(self._keys, concurrency=self._concurrency, **limits)
        with Workers(self._handlers, self._concurrency) as workers:
            confirming = Driver(self._pool, self._stop, workers=workers)
            workers.drive(lambda: confirming.run(parallel.confirming()))
            Driver(self._pool, self._stop, workers=workers).run(parallel.claiming())
