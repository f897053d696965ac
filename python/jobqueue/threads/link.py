"""One connection of a server to Redis: commands are sent in one write, replies are read in order.

redis-py makes the connection, so TLS, ACL users, Sentinel and custom pools work as in redis-py. Then
its socket is read and written here, because redis-py's own commands take more round trips and may be
repeated.

Every failure raises `ConnectionLost`. The link must be aborted then. It never reconnects by itself:
the session has to recover first.
"""

from __future__ import annotations

import select
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jobqueue.errors import ConnectionLost
from jobqueue.wire.connection import (
    abort_when_closed,
    finish_when_closed,
    not_connected,
    packed,
    socket_of,
)
from jobqueue.wire.frames import Frames

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis import ConnectionPool

    from jobqueue.protocol.commands import Command, Reply

READ_BYTES = 65_536


class Link:
    """A connection taken out of a pool, connected when the constructor returns."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        try:
            self._redis: Any = pool.get_connection()
        except Exception as error:  # not only redis-py's: an invalid host name is a UnicodeError
            raise not_connected(error, pool) from error
        abort_when_closed(self._redis)
        self._sock = socket_of(self._redis)
        frames = Frames()
        # A user's client may have RESP3; only with that there are push messages.
        self._parse = frames.replies if int(self._redis.protocol) > 2 else frames.of
        self._arrivals = select.poll()
        self._arrivals.register(self._sock, select.POLLIN)

    def send(self, commands: Iterable[Command]) -> None:
        """Write commands without waiting for the replies."""
        try:
            self._sock.sendall(packed(commands))
        except OSError as error:
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error

    def receive(self, count: int) -> list[Reply]:
        """Read the replies to `count` commands, which are all that are outstanding."""
        replies: list[Reply] = []
        while len(replies) < count:
            try:
                data = self._sock.recv(READ_BYTES)
            except OSError as error:
                raise ConnectionLost(f"the connection to Redis is lost: {error}") from error
            if not data:
                raise ConnectionLost("the connection to Redis is lost: Redis closed it")
            replies += self._parse(data)
        return replies

    def readable(self) -> bool:
        """Tell whether there is something to read, the end of the connection included."""
        kept_back = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0
        return kept_back or bool(self._arrivals.poll(0))

    def close(self) -> None:
        """Disconnect, and return the connection to its pool. No reply may be outstanding."""
        finish_when_closed(self._redis)
        self._disconnect()

    def abort(self) -> None:
        """Reset the connection so that Redis notices, and return it to its pool."""
        with suppress(OSError):  # a handler has closed all descriptors
            self._sock.close()  # redis-py would shut it down first, which sends a FIN
        self._disconnect()

    def _disconnect(self) -> None:
        self._redis.disconnect()
        self._pool.release(self._redis)
