"""One connection of a server to Redis: commands are sent in one write, replies are read in order.

Like `jobqueue.threads.link`, over `redis.asyncio`. Timeouts are kept here, one for all replies to a
write: redis-py would create a timer for each reply and a task for each write, which costs more than
the reading.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from jobqueue.errors import ConnectionLost
from jobqueue.wire.connection import (
    abort_when_closed,
    error_reply,
    finish_when_closed,
    forget_certificates,
    not_connected,
    packed,
    read_along,
    reply,
    transport_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from redis.asyncio import ConnectionPool

    from jobqueue.protocol.commands import Command, Reply

GRACE_SECONDS = 0.1


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
        self._transport = transport_of(redis)
        abort_when_closed(redis)
        self._redis.register_connect_callback(self._refuse_to_connect_again)

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
            async with ReplyTimeout(self._reply_seconds):
                await self._redis.send_packed_command([packed(commands)], check_health=False)
        except Exception as error:  # AttributeError if redis-py has removed its writer
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error

    async def receive(self, count: int) -> list[Reply]:
        """Read the replies to `count` commands."""
        read = self._redis.read_response
        replies: list[Reply] = []
        try:
            async with ReplyTimeout(self._reply_seconds):
                while len(replies) < count:
                    try:
                        read_one = read(
                            disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                        )
                        replies.append(reply(await read_one))
                    except ResponseError as error:
                        replies.append(error_reply(error))
                    replies += read_along(self._redis, count - len(replies))
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

    async def _disconnect(self) -> None:
        self._redis.deregister_connect_callback(self._refuse_to_connect_again)
        await self._redis.disconnect(nowait=True)
        forget_certificates(self._redis)
        await self._pool.release(self._redis)

    async def _refuse_to_connect_again(self, _: object) -> None:
        # redis-py reconnects within a send if its connection was disconnected.
        await self._redis.disconnect(nowait=True)
        raise RedisConnectionError("redis-py would have reconnected by itself")


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
