"""The server: takes jobs from the queue, runs their handlers, publishes the results.

Everything of the protocol's section 7. What a server does that runs one handler at a time stands in
`serial`, several at once in `threaded`; here are the lock, the signals and the stop.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from jobqueue.core.serial import Exchange, Handle, Send, Serial
from jobqueue.core.settings import Serving
from jobqueue.host.lock import ProcessorLock
from jobqueue.host.signals import stopped_by_signals
from jobqueue.protocol import keys
from jobqueue.threads.connections import Connections
from jobqueue.threads.spin import Spin
from jobqueue.threads.stop import Stop
from jobqueue.threads.threaded import Threaded
from jobqueue.wire import pools

if TYPE_CHECKING:
    from collections.abc import Collection

    from redis import Redis

    from jobqueue.core.serial import Steps
    from jobqueue.threads.link import Link

log = logging.getLogger("jobqueue.server")


class Server(Serving):
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
            processor=processor,
            in_process=in_process,
            concurrency=concurrency,
            prefetch=prefetch,
            block_timeout=block_timeout,
            channel_prefixes=channel_prefixes,
            awaits=False,
        )
        self._pool = pools.pool_of(source, block_timeout)
        self._stop = Stop()
        self._spin = Spin()

    def run(self) -> None:
        """Recover what lies on the in-process list, then serve until SIGTERM, SIGINT or `stop`.

        In the main thread it handles both signals while it runs: the first stops gracefully, which
        means that everything claimed is answered before this returns. A second SIGINT stops at
        once.

        Raises:
            ProcessorInUse: Another server on this host uses the in-process list.
            ConnectionLost: Redis can't be reached, or refuses us, at the first attempt, or for
                seconds after a stop was requested. Else a server never gives up.
        """
        queue, in_process = keys.text(self._keys.queue), keys.text(self._keys.in_process)
        redis = pools.identity(self._pool)
        with ProcessorLock(redis, in_process), stopped_by_signals(self.stop):
            log.info("serving queue=%s in_process=%s redis=%s", queue, in_process, redis)
            self._serve()
            log.info("stopped queue=%s in_process=%s redis=%s", queue, in_process, redis)

    def stop(self) -> None:
        """Ask the server to stop gracefully; callable from any thread, and from a handler."""
        self._stop.request()

    def _serve(self) -> None:
        if self._concurrency > 1:
            Threaded(
                self._pool,
                self._keys,
                self._handlers,
                self._stop,
                concurrency=self._concurrency,
                prefetch=self._prefetch,
                block_seconds=self._block_seconds,
            ).serve()
            return
        connections = Connections(self._pool, self._stop)
        serial = Serial(
            self._keys,
            self._stop,
            prefetch=self._prefetch,
            block_seconds=self._block_seconds,
            clock=time.monotonic,
            works=connections.works,
        )
        connections.converse(lambda link: self._take(serial.steps(), link), persist=False)

    def _take(self, steps: Steps[None], connection: Link) -> None:
        """Take the steps of a server that runs one job at a time."""
        came: Any = None
        try:
            while True:
                step = steps.send(came)
                came = None
                if isinstance(step, Handle):
                    came = self._handlers.outcome(step.message)
                elif isinstance(step, Exchange):
                    connection.send(step.commands)
                    self._spin.wait(connection.readable)
                    came = connection.receive(step.replies)
                elif isinstance(step, Send):
                    connection.send(step.commands)
                else:
                    time.sleep(step.seconds)
        except StopIteration:
            return
