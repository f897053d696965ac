"""What redis-py keeps to itself about its connections, in one place: how they write, read and fail."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hiredis import Reader, pack_command
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from jobqueue.core.steps import Unreachable
from jobqueue.errors import ConnectionLost
from jobqueue.protocol.commands import ErrorReply

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from jobqueue.protocol.commands import Command, Reply

_pack: Callable[[Any], bytes] = pack_command  # hiredis annotates it for one argument only


def abort_when_closed(redis: Any) -> None:
    """Have the connection reset where it is closed (RST), so that Redis notices however it ends.

    What lies unsent in the kernel is dropped then. Otherwise the network could deliver a claim long
    after its connection was replaced.
    """
    # server.connection.closes
    if (sock := socket_of(redis)) is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def finish_when_closed(redis: Any) -> None:
    """Have the connection closed in the usual way again (FIN): nothing is outstanding on it."""
    if (sock := socket_of(redis)) is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))


def transport_of(redis: Any) -> asyncio.WriteTransport:
    """Return the transport of a connection of redis.asyncio, which is connected."""
    transport: asyncio.WriteTransport = redis._writer.transport  # noqa: SLF001 - not public
    return transport


def socket_of(redis: Any) -> Any:
    """Return the socket of a connection of either half; None where there is none any more."""
    if hasattr(redis, "_sock"):
        return redis._sock  # noqa: SLF001 - redis-py has no public one
    writer = redis._writer  # noqa: SLF001 - as above
    return None if writer is None else writer.get_extra_info("socket")


def packed(commands: Iterable[Command]) -> bytes:
    """Write commands as Redis reads them."""
    return b"".join([_pack(command) for command in commands])


def read_along(redis: Any, limit: int) -> list[Reply]:
    """Take the replies, up to a limit, that redis-py has read together with the last one.

    Asking redis-py for each of them costs more than reading it. It is asked where things are not
    as usual: another parser than hiredis's, or RESP3, where other things lie between the replies.
    """
    reader = getattr(redis._parser, "_reader", None)  # noqa: SLF001 - the parser has no public one
    if limit == 0 or redis.protocol != 2 or not isinstance(reader, Reader):
        return []
    gets = reader.gets
    replies: list[Reply] = []
    while len(replies) < limit:
        value = gets(False)  # noqa: FBT003 - hiredis takes it by position: don't decode
        if type(value) is object:  # redis-py's mark for a reply that isn't whole yet
            break
        if isinstance(value, RedisError) and not isinstance(value, ResponseError):
            raise ConnectionLost(f"the connection to Redis is lost: {value}")
        replies.append(error_reply(value) if isinstance(value, ResponseError) else reply(value))
    return replies


def reply(value: Any) -> Reply:
    """Make a value of redis-py's reply: errors inside EXEC's become `ErrorReply`, too."""
    if type(value) is list:
        return [error_reply(item) if isinstance(item, ResponseError) else item for item in value]
    return value


def error_reply(error: ResponseError) -> ErrorReply:
    """Make a value of an error reply; redis-py cuts the first word off those that it knows."""
    if isinstance(error, NoPermissionError):
        return ErrorReply("NOPERM", f"NOPERM {error}")
    return ErrorReply(str(error).partition(" ")[0], str(error))


def not_connected(error: Exception) -> ConnectionLost:
    """Tell a Redis that isn't there, or refuses us, from a connection lost during the handshake."""
    cause = error.__context__
    lost = isinstance(cause, ConnectionResetError | BrokenPipeError | ConnectionAbortedError)
    absent = not isinstance(error, RedisError) or (isinstance(cause, OSError) and not lost)
    if absent or isinstance(error, AuthenticationError | ResponseError):
        return Unreachable(f"cannot connect to Redis: {error}")
    return ConnectionLost(f"the connection to Redis is lost: {error}")


def refuses_resp3(error: Exception) -> bool:
    """Tell whether a handshake failed at HELLO: an old Redis, a proxy, or an ACL without it."""
    return isinstance(error, ResponseError) and not isinstance(error, AuthenticationError)
