"""One connection of a server to Redis: commands are sent in one write, replies are read in order.

It uses a connection of redis-py directly, because redis-py's own commands take more round trips and
may be repeated. TLS, ACL users, Sentinel and custom pools work as in redis-py.

Every failure raises `ConnectionLost`, whatever redis-py raises. The link must be aborted then. It
never reconnects by itself: the session has to recover first.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from jobqueue.errors import ConnectionLost
from jobqueue.wire.connection import (
    abort_when_closed,
    error_reply,
    finish_when_closed,
    not_connected,
    packed,
    read_along,
    reply,
    socket_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis import ConnectionPool

    from jobqueue.protocol.commands import Command, Reply


class Link:
    """A connection taken out of a pool, connected when the constructor returns."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        try:
            connection: Any = pool.get_connection()
        except Exception as error:  # not only redis-py's: an invalid host name is a UnicodeError
            raise not_connected(error, pool) from error
        self._redis = connection
        abort_when_closed(connection)
        self._redis.register_connect_callback(self._refuse_to_connect_again)

    def send(self, commands: Iterable[Command]) -> None:
        """Write commands without waiting for the replies."""
        try:
            self._redis.send_packed_command((packed(commands),), check_health=False)
        except Exception as error:
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error

    def receive(self, count: int) -> list[Reply]:
        """Read the replies to `count` commands."""
        read = self._redis.read_response
        replies: list[Reply] = []
        while len(replies) < count:
            try:
                replies.append(reply(read(disable_decoding=True, disconnect_on_error=False)))
            except ResponseError as error:
                replies.append(error_reply(error))
            except Exception as error:
                raise ConnectionLost(f"the connection to Redis is lost: {error}") from error
            replies += read_along(self._redis, count - len(replies))
        return replies

    def readable(self) -> bool:
        """Tell whether there is something to read, the end of the connection included."""
        try:
            return bool(self._redis.can_read(0))
        except Exception as error:
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error

    def close(self) -> None:
        """Disconnect, and return the connection to its pool. No reply may be outstanding."""
        finish_when_closed(self._redis)
        self._disconnect()

    def abort(self) -> None:
        """Reset the connection so that Redis notices, and return it to its pool."""
        if (sock := socket_of(self._redis)) is not None:
            with suppress(OSError):  # a handler has closed all descriptors
                sock.close()  # redis-py would shut it down first, which sends a FIN
        self._disconnect()

    def _disconnect(self) -> None:
        self._redis.deregister_connect_callback(self._refuse_to_connect_again)
        self._redis.disconnect()
        self._pool.release(self._redis)

    def _refuse_to_connect_again(self, _: object) -> None:
        # redis-py reconnects within a send if its connection was disconnected.
        self._redis.disconnect()
        raise RedisConnectionError("redis-py would have reconnected by itself")
