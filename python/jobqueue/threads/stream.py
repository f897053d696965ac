"""A client's non-blocking connection to Redis, with a write buffer.

redis-py makes the connection, so TLS, ACL users, Sentinel and custom pools work as in redis-py. Then
its socket is read and written here. Every failure raises `ConnectionLost`; the stream must be closed
then.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from jobqueue.errors import ConnectionLost
from jobqueue.wire.connection import not_connected, packed, refuses_resp3
from jobqueue.wire.frames import Frames

if TYPE_CHECKING:
    from redis import ConnectionPool

    from jobqueue.protocol.commands import Command, Reply

READ_BYTES = 65_536
TURN_BYTES = 8 * 1_048_576  # the limit of one `read`

_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream:
    """One connection.

    Args:
        pool: The pool of the connection.
        redis: The connection of redis-py.
    """

    def __init__(self, pool: ConnectionPool, redis: Any) -> None:
        self._pool = pool
        self._redis = redis
        self._sock = redis._sock  # noqa: SLF001 - redis-py has no public way to its socket
        self._sock.settimeout(0)
        self._frames = Frames()
        self._unsent = bytearray()

    @property
    def unsent(self) -> int:
        """The number of bytes in the write buffer."""
        return len(self._unsent)

    def fileno(self) -> int:
        """The socket, for a selector."""
        number: int = self._sock.fileno()
        return number

    def write(self, command: Command) -> None:
        """Add a command to the write buffer."""
        self._unsent += packed([command])

    def flush(self) -> None:
        """Write as much as the socket accepts now."""
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except _NOT_NOW:
            return
        except OSError as error:
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error

    def read(self) -> list[Reply]:
        """Return the frames that have arrived since the last call."""
        chunks: list[bytes] = []
        try:
            while sum(map(len, chunks)) < TURN_BYTES:
                chunks.append(self._sock.recv(READ_BYTES))
                # A chunk that isn't full was the last one, except for what TLS has buffered.
                if len(chunks[-1]) < READ_BYTES and not self._kept_back():
                    break
        except _NOT_NOW:
            pass
        except OSError as error:
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error
        if chunks and not chunks[-1]:
            raise ConnectionLost("the connection to Redis is lost: Redis closed it")
        return self._frames.of(b"".join(chunks))

    def close(self) -> None:
        """Disconnect, and return the connection to its pool."""
        # client.connection.closes
        self._redis.disconnect()
        self._pool.release(self._redis)

    def _kept_back(self) -> bool:
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0


def open_streams(pools: list[ConnectionPool]) -> list[Stream]:
    """Connect, and return one stream with RESP3, otherwise two. This blocks.

    Args:
        pools: The pool to connect with, and the one to fall back to if RESP3 is refused.

    Raises:
        ConnectionLost: It can't connect.
    """
    streams: list[Stream] = []
    try:
        redis = _connect(pools)
        streams.append(Stream(*redis))
        if int(redis[1].protocol) < 3:
            streams.append(Stream(*_connect([redis[0]])))
    except BaseException as error:
        for stream in streams:
            stream.close()
        if isinstance(
            error, Exception
        ):  # not only redis-py's: an invalid host name is a UnicodeError
            raise not_connected(error, pools[-1]) from error
        raise
    return streams


def _connect(pools: list[ConnectionPool]) -> tuple[ConnectionPool, Any]:
    for pool in pools[:-1]:
        try:
            return pool, pool.get_connection()
        except Exception as error:
            if not refuses_resp3(error):
                raise
    return pools[-1], pools[-1].get_connection()
