"""The settings and handlers that both kinds of servers have, for threads and for asyncio."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Self, overload

from jobqueue.core.handlers import Handlers
from jobqueue.core.recovery import LOOK_SECONDS
from jobqueue.protocol import keys
from jobqueue.protocol.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from jobqueue.core.handlers import Handler, HandlerT


class Settings:
    """The validated settings of a server, and its handlers.

    Raises:
        ValueError: A setting is out of range.
    """

    def __init__(
        self,
        *,
        queue: str,
        processor: str,
        in_process: str | None,
        concurrency: int,
        prefetch: int,
        block_timeout: float,
        channel_prefixes: Collection[str] | None,
        attempts: int,
        awaits: bool,
    ) -> None:
        if prefetch < 1:
            raise ValueError("prefetch must be at least 1")
        # server.recovery.block
        if not 0 < block_timeout <= LOOK_SECONDS:
            raise ValueError(f"block_timeout must be above 0 and at most {LOOK_SECONDS:g} seconds")
        if isinstance(channel_prefixes, str):
            raise ValueError("channel_prefixes must be a collection of strings, not one string")  # noqa: TRY004
        self._prefetch = prefetch
        self._block_seconds = float(block_timeout)
        self._handlers = Handlers(channel_prefixes, awaits=awaits)
        self._set(queue, processor, in_process, concurrency, attempts)

    @property
    def in_process(self) -> str:
        """The key of the in-process list."""
        return keys.name(self._keys.in_process)

    @overload
    def on(self, method: str) -> Callable[[HandlerT], HandlerT]: ...
    @overload
    def on(self, method: str, handler: HandlerT) -> HandlerT: ...
    def on(
        self, method: str, handler: Handler | None = None
    ) -> Handler | Callable[[Handler], Handler]:
        """Register the handler of a method, as a decorator or with the argument `handler`.

        The handler is called with the job's parameters (server.run.handler). The job is answered
        with what it returns, which must be JSON of at most 1 MiB, or with what it raises: a
        `JobError` as it is, any other exception as `handler-error` (server.run.handler-error).

        Raises:
            TypeError: The handler is a coroutine function, and the server is one for threads.
            ValueError: The method is empty, or has a handler already. Nothing was registered.
        """
        if handler is not None:
            self._handlers.register(method, handler)
            return handler

        def register(function: Handler) -> Handler:
            self._handlers.register(method, function)
            return function

        return register

    def _with(
        self,
        queue: str | None,
        processor: str | None,
        in_process: str | None,
        concurrency: int | None,
        attempts: int | None,
    ) -> Self:
        """Return a copy with the given settings, which shares the handlers."""
        if processor is None and in_process is None:
            in_process = self._in_process
        server = copy.copy(self)
        server._set(  # noqa: SLF001 - of this class
            self._queue if queue is None else queue,
            self._processor if processor is None else processor,
            in_process,
            self._concurrency if concurrency is None else concurrency,
            self._attempts if attempts is None else attempts,
        )
        return server

    def _set(
        self, queue: str, processor: str, in_process: str | None, concurrency: int, attempts: int
    ) -> None:
        if not queue or not processor or in_process == "":
            raise ValueError("queue, processor and in_process must be non-empty strings")
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        if attempts < 0 or attempts == 1:
            raise ValueError(
                "attempts must be 0, which is without limit, or at least 2: with 1, jobs would be given "
                "up that ran beside one that ended the server"
            )
        self._queue = queue
        self._processor = processor
        self._in_process = in_process
        self._concurrency = concurrency
        self._attempts = attempts
        # server.list.name, server.list.stable
        self._keys = Keys.of(queue, processor, in_process)

    @property
    def _connections(self) -> int:
        """The number of connections of a server: with a concurrency above 1, a second one confirms."""
        return 1 if self._concurrency == 1 else 2
