"""The server: takes jobs from the queue, runs their handlers, publishes the results.

Everything of the protocol's section 7. What differs between one handler at a time and several
stands in `serial` and `threaded`; here are the handlers, the lock, the signals and the stop.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, overload

from jobqueue import keys, pools
from jobqueue.handlers import Handlers
from jobqueue.keys import Keys
from jobqueue.lock import ProcessorLock
from jobqueue.serial import Serial
from jobqueue.stop import Stop
from jobqueue.threaded import Threaded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from redis import Redis

    from jobqueue.handlers import Handler, HandlerT

log = logging.getLogger("jobqueue.server")

LONGEST_BLOCK_SECONDS = 5.0


class Server:
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
        if not queue or processor == "" or in_process == "":
            raise ValueError("queue, processor and in_process are non-empty strings")
        if concurrency < 1 or prefetch < 1:
            raise ValueError("concurrency and prefetch are at least 1")
        # server.recovery.block
        if not 0 < block_timeout <= LONGEST_BLOCK_SECONDS:
            raise ValueError(f"block_timeout is above 0 and at most {LONGEST_BLOCK_SECONDS:g} s")
        self._pool = pools.pool_of(source, block_timeout)
        # server.list.name, server.list.stable
        self._keys = Keys.of(queue, processor or socket.gethostname(), in_process)
        self._handlers = Handlers(channel_prefixes)
        self._concurrency = concurrency
        self._prefetch = prefetch
        self._block_seconds = float(block_timeout)
        self._stop = Stop()

    @overload
    def on(self, method: str) -> Callable[[HandlerT], HandlerT]: ...
    @overload
    def on(self, method: str, handler: HandlerT) -> HandlerT: ...
    def on(
        self, method: str, handler: Handler | None = None
    ) -> Handler | Callable[[Handler], Handler]:
        """Make a function answer the jobs of a method, as a decorator or given `handler`.

        The function is called with the job's parameters. What it returns is the result; what it
        raises is answered as an error: a `JobError` as it is, anything else as `handler-error`.

        Raises:
            ValueError: The method is no non-empty string, or has a handler already.
        """
        if handler is not None:
            self._handlers.register(method, handler)
            return handler

        def register(function: Handler) -> Handler:
            self._handlers.register(method, function)
            return function

        return register

    def run(self) -> None:
        """Recover what lies on the in-process list, then serve until SIGTERM, SIGINT or `stop`.

        In the main thread it handles both signals while it runs: the first stops gracefully, which
        means that everything claimed is answered before this returns. A second SIGINT stops at
        once.

        Raises:
            ProcessorInUse: Another server on this host uses the in-process list.
            ConnectionLost: Redis can't be reached, or refuses us, at the first attempt. Once
                connected, a server never gives up.
        """
        redis, in_process = pools.identity(self._pool.connection_kwargs), self._keys.in_process
        with ProcessorLock(redis, keys.text(in_process)), self._stopped_by_signals():
            log.info(
                "serving queue=%s in_process=%s redis=%s",
                *(keys.text(self._keys.queue), keys.text(in_process), redis),
            )
            self._serve()
            log.info("stopped in_process=%s", keys.text(in_process))

    def stop(self) -> None:
        """Ask the server to stop gracefully; callable from any thread, and from a handler."""
        self._stop.request()

    def _serve(self) -> None:
        parts = (self._pool, self._keys, self._handlers, self._stop)
        if self._concurrency == 1:
            Serial(*parts, prefetch=self._prefetch, block_seconds=self._block_seconds).serve()
        else:
            Threaded(
                *parts,
                concurrency=self._concurrency,
                prefetch=self._prefetch,
                block_seconds=self._block_seconds,
            ).serve()

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, _: object) -> None:
            if number == signal.SIGINT:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            self.stop()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)
