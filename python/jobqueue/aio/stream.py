"""A client's connection to Redis, like `jobqueue.threads.stream`, over `redis.asyncio`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from jobqueue.errors import ConnectionLost
from jobqueue.wire.connection import (
    forget_certificates,
    not_connected,
    packed,
    refuses_resp3,
    streams_of,
)
from jobqueue.wire.frames import Frames

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

    from jobqueue.protocol.commands import Command, Reply

READ_BYTES = 262_144


class Stream:
    """One connection.

    Args:
        pool: The pool of the connection.
        redis: The connection of redis-py.
    """

    def __init__(self, pool: ConnectionPool, redis: Any) -> None:
        self._pool = pool
        self._redis = redis
        self._reader, self._writer = streams_of(redis)
        self._frames = Frames()
        self._unsent: list[Command] = []

    @property
    def unsent(self) -> int:
        """The number of bytes in the write buffer."""
        size: int = self._writer.transport.get_write_buffer_size()
        return size + sum(len(part) for command in self._unsent for part in command)

    def write(self, command: Command) -> None:
        """Add a command to the write buffer."""
        self._unsent.append(command)

    def flush(self) -> None:
        """Write as much as the socket accepts now; the event loop writes the rest later."""
        unsent, self._unsent = self._unsent, []
        if unsent:
            self._writer.write(packed(unsent))

    async def read(self) -> list[Reply]:
        """Wait for data, and return its frames."""
        try:
            data = await self._reader.read(READ_BYTES)
        except Exception as error:
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error
        if not data:
            raise ConnectionLost("the connection to Redis is lost: Redis closed it")
        return self._frames.of(data)

    def abort(self) -> None:
        """Disconnect; a pending `read` raises."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Disconnect, and return the connection to its pool."""
        # client.connection.closes
        self.abort()
        await self._redis.disconnect(nowait=True)
        forget_certificates(self._redis)
        await self._pool.release(self._redis)
        await asyncio.sleep(0)  # the loop closes the socket in its next iteration


async def open_streams(pools: list[ConnectionPool]) -> list[Stream]:
    """Connect, and return one stream with RESP3, otherwise two.

    Args:
        pools: The pool to connect with, and the one to fall back to if RESP3 is refused.

    Raises:
        ConnectionLost: It can't connect.
    """
    streams: list[Stream] = []
    try:
        redis = await _connect(pools)
        streams.append(Stream(*redis))
        if int(redis[1].protocol) < 3:
            streams.append(Stream(*await _connect([redis[0]])))
    except BaseException as error:
        for stream in streams:
            await stream.close()
        if _while_discarded(error):
            raise GeneratorExit from None  # the loop is closed: redis-py can't clean up in it
        if isinstance(
            error, Exception
        ):  # not only redis-py's: an invalid host name is a UnicodeError
            raise not_connected(error, pools[-1]) from error
        raise
    return streams


def _while_discarded(error: BaseException) -> bool:
    """Tell whether an error came up while Python discarded this coroutine with its loop."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, GeneratorExit):
        cause = cause.__context__
    return cause is not None


async def _connect(pools: list[ConnectionPool]) -> tuple[ConnectionPool, Any]:
    for pool in pools[:-1]:
        try:
            return pool, await _connection(pool)
        except Exception as error:
            if not refuses_resp3(error):
                raise
    return pools[-1], await _connection(pools[-1])


async def _connection(pool: ConnectionPool) -> Any:
    return await pool.get_connection()  # type: ignore[no-untyped-call]
