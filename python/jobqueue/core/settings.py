"""The settings and handlers that both kinds of servers have, for threads and for asyncio."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Protocol, Self, overload

from jobqueue.core.handlers import Handlers
from jobqueue.core.lease import Lease
from jobqueue.core.recovery import LOOK_SECONDS
from jobqueue.core.sharing import ORDERS
from jobqueue.core.takeover import Takeover
from jobqueue.protocol import keys
from jobqueue.protocol.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from jobqueue.core.handlers import Handler, HandlerT
    from jobqueue.core.sharing import Order


LEASE_SECONDS = 8.0  # L: Redis may be away for 5 s, and a process be stopped for 3 s
GRACE_SECONDS = 3600.0  # G: Linux gives up delivering a claim after about 16 minutes

LONGEST_KEEP_SECONDS = 1e9  # Redis takes no time that ends beyond 2**63 milliseconds


class MakeName(Protocol):
    """Makes the name of a server that was given none."""

    def __call__(self, *, fresh: bool) -> str:
        """Return the host's name, or one that no other server has."""


class Settings:
    """The validated settings of a server, and its handlers.

    Raises:
        ValueError: A setting is out of range.
    """

    def __init__(
        self,
        *,
        queue: str | Sequence[str],
        order: Order,
        processor: str | None,
        in_process: str | None,
        concurrency: int,
        prefetch: int,
        block_timeout: float,
        channel_prefixes: Collection[str] | None,
        attempts: int,
        keep_limit: float,
        takeover: bool,
        lease_timeout: float | None,
        grace_period: float,
        awaits: bool,
        make_name: MakeName,
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
        self._make_name = make_name
        if lease_timeout is None:
            lease_timeout = max(LEASE_SECONDS, 3 * self._block_seconds)
        self._lease_seconds = float(lease_timeout)
        self._grace_seconds = float(grace_period)
        self._set(
            queue=queue,
            order=order,
            processor=processor,
            in_process=in_process,
            concurrency=concurrency,
            attempts=attempts,
            keep_limit=keep_limit,
            takeover=takeover,
        )

    @property
    def queues(self) -> tuple[str, ...]:
        """The keys of the queues, in the order of their priority."""
        return self._queues

    @property
    def processor(self) -> str:
        """The name of the server."""
        return self._name

    @property
    def in_process(self) -> str:
        """The key of the in-process list; of the first queue's, if there are several."""
        return keys.name(self._lists[0].in_process)

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
        *,
        queue: str | Sequence[str] | None,
        order: Order | None,
        processor: str | None,
        in_process: str | None,
        concurrency: int | None,
        attempts: int | None,
        keep_limit: float | None,
        takeover: bool | None,
    ) -> Self:
        """Return a copy with the given settings, which shares the handlers."""
        if processor is None and in_process is None:
            in_process = self._in_process
        server = copy.copy(self)
        server._set(  # noqa: SLF001 - of this class
            queue=self._queues if queue is None else queue,
            order=self._order if order is None else order,
            processor=self._processor if processor is None else processor,
            in_process=in_process,
            concurrency=self._concurrency if concurrency is None else concurrency,
            attempts=self._attempts if attempts is None else attempts,
            keep_limit=self._keep_seconds if keep_limit is None else keep_limit,
            takeover=self._takeover_on if takeover is None else takeover,
        )
        return server

    def _set(
        self,
        *,
        queue: str | Sequence[str],
        order: Order,
        processor: str | None,
        in_process: str | None,
        concurrency: int,
        attempts: int,
        keep_limit: float,
        takeover: bool,
    ) -> None:
        queues = (queue,) if isinstance(queue, str) else tuple(queue)
        if not queues or not all(queues) or processor == "" or in_process == "":
            raise ValueError("queue, processor and in_process must be non-empty strings")
        if len(queues) > 1:
            self._require_several(queues, in_process)
        if order not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}")
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        if attempts < 0 or attempts == 1:
            raise ValueError(
                "attempts must be 0, which is without limit, or at least 2: with 1, jobs would be given "
                "up that ran beside one that ended the server"
            )
        if not 0 <= keep_limit <= LONGEST_KEEP_SECONDS:
            raise ValueError(f"keep_limit must be 0, or up to {LONGEST_KEEP_SECONDS:g} seconds")
        # server.takeover.times
        if takeover and self._lease_seconds < 3 * self._block_seconds:
            raise ValueError("lease_timeout must be at least three times block_timeout")
        if takeover and self._grace_seconds < self._lease_seconds:
            raise ValueError("grace_period must be at least lease_timeout")
        self._queues = queues
        self._order = order
        self._processor = processor
        self._in_process = in_process
        self._concurrency = concurrency
        self._attempts = attempts
        self._keep_seconds = float(keep_limit)
        self._takeover_on = takeover
        # server.list.name, server.list.stable
        self._name = processor or self._make_name(fresh=takeover)
        self._lists = tuple(Keys.of(each, self._name, in_process) for each in queues)
        # server.takeover.ignores: nobody would adopt from another key.
        if takeover and in_process is not None and not in_process.startswith(f"{queues[0]}:"):
            raise ValueError(
                f"with takeover, in_process must begin with {queues[0]}: (or use takeover=False)"
            )

    def _require_several(self, queues: tuple[str, ...], in_process: str | None) -> None:
        """Check what is only possible for one queue."""
        if len(set(queues)) < len(queues):
            raise ValueError("a queue must be given once")
        if in_process is not None:
            raise ValueError("in_process is the list of one queue: give several queues a processor")
        if self._prefetch > 1:
            raise ValueError("prefetch must be 1 for several queues")

    @property
    def _connections(self) -> int:
        """The number of connections of a server: for each queue one claims, one may confirm or renew."""
        confirms = self._concurrency > 1 or len(self._lists) > 1
        return (1 + confirms + self._takeover_on) * len(self._lists)

    def _begin_life(self, keys: Keys, token: bytes, former: bytes | None) -> Takeover:
        """Begin a life of the server of one queue, with a lease if takeover is on.

        Args:
            keys: The lists.
            token: What no other life has.
            former: The token of an earlier life that is known to be over.
        """
        if not self._takeover_on:
            return Takeover(keys, asks=True)
        lease = Lease(
            keys,
            token,
            seconds=self._lease_seconds,
            block_seconds=self._block_seconds,
            former=former,
        )
        return Takeover(keys, lease, self._grace_seconds)
