"""One connection of a server to Redis: commands are sent in one write, replies are read in order.

Like `jobqueue.threads.link`, over the streams of `redis.asyncio`. One timer watches all replies, and
none a write that doesn't wait: to make one each time takes longer than to write and to read.
"""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from jobqueue.errors import ConnectionLost
from jobqueue.wire.connection import (
    abort_when_closed,
    finish_when_closed,
    forget_certificates,
    not_connected,
    packed,
    streams_of,
    transport_of,
)
from jobqueue.wire.frames import Frames

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from redis.asyncio import ConnectionPool

    from jobqueue.protocol.commands import Command, Reply

GRACE_SECONDS = 0.1
READ_BYTES = 65_536


class Link:
    """A connection taken out of a pool; `open` makes it.

    Args:
        pool: The pool of the connection.
        redis: The connection of redis-py.
        reply_seconds: How long Redis may take to reply.
    """

    def __init__(self, pool: ConnectionPool, redis: Any, reply_seconds: float) -> None:
        self._pool = pool
        self._redis = redis
        self._reply_seconds = reply_seconds
        self._reader, self._writer = streams_of(redis)
        self._transport = transport_of(redis)
        frames = Frames()
        # A user's client may have RESP3; only with that there are push messages.
        self._parse = frames.replies if int(redis.protocol) > 2 else frames.of
        self._waiting = Waiting(self._reader, reply_seconds)
        abort_when_closed(redis)

    @classmethod
    async def open(cls, pool: ConnectionPool, reply_seconds: float) -> Link:
        """Connect."""
        try:
            async with ReplyTimeout(reply_seconds):
                redis: Any = await pool.get_connection()  # type: ignore[no-untyped-call]
                return cls(pool, redis, reply_seconds)
        except Exception as error:  # not only redis-py's: an invalid host name is a UnicodeError
            raise not_connected(error, pool) from error

    async def send(self, commands: Iterable[Command]) -> None:
        """Write commands without waiting for the replies."""
        try:
            self._writer.write(packed(commands))
            if self._transport.is_closing() or self._transport.get_write_buffer_size():
                async with ReplyTimeout(self._reply_seconds):
                    await self._writer.drain()
        except Exception as error:
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error

    async def receive(self, count: int) -> list[Reply]:
        """Read the replies to `count` commands, which are all that are outstanding."""
        replies: list[Reply] = []
        try:
            with self._waiting:
                while len(replies) < count:
                    replies += self._parse(await self._data())
        except TimeoutError as error:
            # server.connection.silent
            sentence = f"no reply within {self._reply_seconds:g} s"
            raise ConnectionLost(f"the connection to Redis is lost: {sentence}") from error
        except Exception as error:
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error
        return replies

    async def close(self) -> None:
        """Disconnect, and return the connection to its pool. No reply may be outstanding."""
        finish_when_closed(self._redis)
        if self._transport.get_extra_info("sslcontext") is not None:
            self._transport.abort()  # a farewell of TLS may take longer than the loop lives
        await self._disconnect()

    async def abort(self) -> None:
        """Reset the connection so that Redis notices, and return it to its pool."""
        self._transport.abort()
        await self._disconnect()

    async def _data(self) -> bytes:
        data: bytes = await self._reader.read(READ_BYTES)
        if not data:
            raise EOFError("Redis closed it")
        return data

    async def _disconnect(self) -> None:
        self._waiting.stop()
        await self._redis.disconnect(nowait=True)
        forget_certificates(self._redis)
        await self._pool.release(self._redis)


class ReplyTimeout:
    """Like `asyncio.timeout`, but the loop first reads what has arrived in the meantime.

    If a handler has blocked the loop for longer than the limit, `asyncio.timeout` would fire although
    the reply is in the socket already.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._timeout.__aenter__()
        self._handle = self._loop.call_later(self._seconds, self._pass)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._handle.cancel()
        await self._timeout.__aexit__(exc_type, exc, traceback)

    def _pass(self) -> None:
        self._timeout.reschedule(self._loop.time() + GRACE_SECONDS)


class Waiting:
    """A `with` block for each wait for replies: one that takes too long ends by TimeoutError.

    The loop first reads what has arrived, as with `ReplyTimeout`.

    Args:
        reader: The stream of the replies. After the TimeoutError it can't be read any more.
        seconds: How long a wait may take.
    """

    def __init__(self, reader: asyncio.StreamReader, seconds: float) -> None:
        self._reader = reader
        self._seconds = seconds
        self._until = math.inf
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._check)

    def __enter__(self) -> None:
        self._until = self._loop.time() + self._seconds

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._until = math.inf

    def stop(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def _check(self, *, again: bool = False) -> None:
        now = self._loop.time()
        if now < self._until:
            self._timer = self._loop.call_at(min(self._until, now + self._seconds), self._check)
        elif not again:
            self._timer = self._loop.call_later(GRACE_SECONDS, partial(self._check, again=True))
        else:
            self._reader.set_exception(TimeoutError())
