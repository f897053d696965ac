"""A client's connection to Redis, which never waits: what can't be written yet stays here.

redis-py makes the connection, so TLS, ACL users, Sentinel and custom pools work as it does them.
Then its socket is read and written here. Every failure is a `ConnectionLost`; the stream is of no
use afterwards and has to be closed.
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
TURN_BYTES = 8 * 1_048_576  # read at once, before what was read is looked at

_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream:
    """One connection.

    Args:
        pool: Where it came from, and goes back to.
        redis: What redis-py calls a connection.
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
        """How many bytes wait to be written."""
        return len(self._unsent)

    def fileno(self) -> int:
        """The socket, for a selector."""
        number: int = self._sock.fileno()
        return number

    def write(self, command: Command) -> None:
        """Write a command with the next `flush`."""
        self._unsent += packed([command])

    def flush(self) -> None:
        """Write as much as the socket takes now."""
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except _NOT_NOW:
            return
        except OSError as error:
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error

    def read(self) -> list[Reply]:
        """Return what has come since the last time."""
        chunks: list[bytes] = []
        try:
            while sum(map(len, chunks)) < TURN_BYTES:
                chunks.append(self._sock.recv(READ_BYTES))
                # A chunk that isn't full was the last one; only TLS may have kept more back.
                if len(chunks[-1]) < READ_BYTES and not self._kept_back():
                    break
        except _NOT_NOW:
            pass
        except OSError as error:
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error
        if chunks and not chunks[-1]:
            raise ConnectionLost("the connection to Redis is lost: Redis has closed it")
        return self._frames.of(b"".join(chunks))

    def close(self) -> None:
        """Disconnect, and give the connection back to its pool."""
        # client.connection.closes
        self._redis.disconnect()
        self._pool.release(self._redis)

    def _kept_back(self) -> bool:
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0


def open_streams(pools: list[ConnectionPool]) -> list[Stream]:
    """Connect, and return one stream where Redis speaks RESP3 and otherwise two. This waits.

    Args:
        pools: The pool to connect by, and the one to fall back to where RESP3 is refused.

    Raises:
        ConnectionLost: It isn't possible.
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
        if isinstance(error, Exception):  # not only redis-py's: a host name can be no name at all
            raise not_connected(error) from error
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
