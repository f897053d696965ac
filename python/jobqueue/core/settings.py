"""What the server for threads and the one for asyncio have in common: settings and handlers."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, overload

from jobqueue.core.handlers import Handlers
from jobqueue.protocol.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from jobqueue.core.handlers import Handler, HandlerT

LONGEST_BLOCK_SECONDS = 5.0


class Serving:
    """The settings of a server, checked, and its handlers.

    Raises:
        ValueError: A setting is out of range.
    """

    def __init__(
        self,
        *,
        queue: str,
        processor: str | None,
        in_process: str | None,
        concurrency: int,
        prefetch: int,
        block_timeout: float,
        channel_prefixes: Collection[str] | None,
        awaits: bool,
    ) -> None:
        if not queue or processor == "" or in_process == "":
            raise ValueError("queue, processor and in_process are non-empty strings")
        if concurrency < 1 or prefetch < 1:
            raise ValueError("concurrency and prefetch are at least 1")
        # server.recovery.block
        if not 0 < block_timeout <= LONGEST_BLOCK_SECONDS:
            raise ValueError(f"block_timeout is above 0 and at most {LONGEST_BLOCK_SECONDS:g} s")
        if isinstance(channel_prefixes, str):
            raise ValueError("channel_prefixes is a collection of strings, not one string")  # noqa: TRY004
        # server.list.name, server.list.stable
        self._keys = Keys.of(queue, processor or socket.gethostname(), in_process)
        self._handlers = Handlers(channel_prefixes, awaits=awaits)
        self._concurrency = concurrency
        self._prefetch = prefetch
        self._block_seconds = float(block_timeout)

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
            TypeError: The function is a coroutine function, and this server one for threads.
            ValueError: The method is empty, or has a handler already.
        """
        if handler is not None:
            self._handlers.register(method, handler)
            return handler

        def register(function: Handler) -> Handler:
            self._handlers.register(method, function)
            return function

        return register
