"""The private attributes of redis-py's connections, in one place, what is sent on them, and how they fail."""

from __future__ import annotations

import os
import re
import socket
import ssl
import struct
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hiredis import pack_command
from redis import SSLConnection, exceptions
from redis.asyncio import SSLConnection as AioSSLConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.sentinel import MasterNotFoundError

from jobqueue.core.steps import Unreachable
from jobqueue.errors import ConnectionLost
from jobqueue.protocol.commands import ErrorReply

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping

    from jobqueue.protocol.commands import Command

_pack: Callable[[Any], bytes] = pack_command  # hiredis annotates it for one argument only
_packed_again = lru_cache(_pack)
_REPEATED = {b"MULTI", b"EXEC", b"BLMOVE", b"LMOVE"}  # whose words are the same each time

OF_A_CLUSTER = " (the URL of a cluster begins with redis+cluster://)"
OUR_CERTIFICATE = " (if Redis asks for a certificate, ssl_certfile and ssl_keyfile name ours)"

# The first words of errors, which redis-py cuts off.
_CODES: dict[type[ResponseError], str] = {
    exceptions.AskError: "ASK",
    exceptions.ClusterCrossSlotError: "CROSSSLOT",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.ExecAbortError: "EXECABORT",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.MovedError: "MOVED",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.TryAgainError: "TRYAGAIN",
}


class NotFoundError(exceptions.ConnectionError):
    """Nobody who was asked knows where Redis is."""


def abort_when_closed(redis: Any) -> None:
    """Send a RST when the connection is closed, so that Redis notices however it ends.

    Unsent data in the kernel is dropped then. Otherwise the network could deliver a claim long after
    its connection was replaced.
    """
    # server.connection.closes
    if (sock := socket_of(redis)) is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def finish_when_closed(redis: Any) -> None:
    """Send a FIN when the connection is closed, as usual: no reply is outstanding."""
    if (sock := socket_of(redis)) is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))


def streams_of(redis: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return the streams of an open connection of `redis.asyncio`."""
    return redis._reader, redis._writer  # noqa: SLF001 - redis-py has no public way to them


def transport_of(redis: Any) -> asyncio.WriteTransport:
    """Return the transport of an open connection of `redis.asyncio`."""
    return streams_of(redis)[1].transport


def socket_of(redis: Any) -> Any:
    """Return the socket of a connection of `redis` or `redis.asyncio`; None if it is closed."""
    if hasattr(redis, "_sock"):
        return redis._sock  # noqa: SLF001 - redis-py has no public one
    writer = redis._writer  # noqa: SLF001 - as for `streams_of`
    return None if writer is None else writer.get_extra_info("socket")


def packed(commands: Iterable[Command]) -> bytes:
    """Encode commands in the format of Redis."""
    return b"".join(
        [
            _packed_again(command) if command[0] in _REPEATED else _pack(command)
            for command in commands
        ]
    )


def error_reply(error: ResponseError) -> ErrorReply:
    """Convert an error of redis-py, with its first word."""
    code, text = _CODES.get(type(error)), str(error)
    return error_of(text if code is None else f"{code} {text}")


def error_of(text: str) -> ErrorReply:
    """Take an error from its words, and say what to do about one that a wrong kind of URL causes."""
    code = text.partition(" ")[0]
    return ErrorReply(code, text + OF_A_CLUSTER * (code in {"MOVED", "CROSSSLOT"}))


def not_connected(error: Exception, pool: Any) -> ConnectionLost:
    """Convert an error of connecting: `Unreachable`, or a connection lost during the handshake."""
    cause = error.__context__
    lost = isinstance(cause, ConnectionResetError | BrokenPipeError | ConnectionAbortedError)
    absent = not isinstance(error, RedisError) or (isinstance(cause, OSError) and not lost)
    unknown = isinstance(error, MasterNotFoundError | NotFoundError)
    if absent or unknown or isinstance(error, AuthenticationError | ResponseError):
        return Unreachable(f"can't connect to Redis: {reason_of(error)}")
    if _without_certificate(pool.connection_class, pool.connection_kwargs):
        return Unreachable(f"can't connect to Redis: {reason_of(error)}{OUR_CERTIFICATE}")
    return ConnectionLost(f"the connection to Redis is lost: {reason_of(error)}")


def not_answered(error: Exception, connection_class: Any, settings: Mapping[str, Any]) -> str:
    """Say why a sentinel or a node of a cluster hasn't replied."""
    cause = error.__context__
    number = (
        cause.errno if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) else 0
    )
    lost = isinstance(cause, ConnectionResetError | BrokenPipeError)
    if number and number > 0 and not lost:
        return os.strerror(number)
    reason = reason_of(error)
    explained = "ssl_" in reason or not isinstance(error, exceptions.ConnectionError)
    if explained or not _without_certificate(connection_class, settings):
        return reason
    return f"{reason}{OUR_CERTIFICATE}"


def _without_certificate(connection_class: Any, settings: Mapping[str, Any]) -> bool:
    """Tell whether we connect with TLS and have no certificate.

    If Redis asks for one, it ends the connection, and we often notice that before the reason arrives.
    """
    tls = issubclass(connection_class, SSLConnection | AioSSLConnection)
    return tls and not settings.get("ssl_certfile")


def reason_of(error: BaseException) -> str:
    """Say why there is no connection, in a part of a sentence that names no secret."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not accepted: {cause.verify_message.rstrip('.')} (ssl_ca_certs "
                "names the authority that has signed it)"
            )
        if isinstance(cause, ssl.SSLError):
            reason = re.sub(r"\s*\(_ssl\.c:\d+\)", "", cause.reason or cause.args[-1])
            reason = reason.replace("_", " ").lower()
            ours = re.search("certificate|unknown ca|eof", reason)
            return f"TLS failed: {reason}{OUR_CERTIFICATE if ours else ''}"
        cause = cause.__cause__ or cause.__context__
    return str(error) or "no answer in time"  # a TimeoutError of asyncio has no words


def forget_certificates(redis: Any) -> None:
    """Have a closed connection of `redis.asyncio` read its certificates again when it reconnects.

    They may have been renewed. Without asyncio, redis-py always reads them again.
    """
    if (tls := getattr(redis, "ssl_context", None)) is not None:
        tls.context = None


def refuses_resp3(error: Exception) -> bool:
    """Tell whether the handshake failed at HELLO: an old Redis, a proxy, or an ACL that forbids it."""
    return isinstance(error, ResponseError) and not isinstance(error, AuthenticationError)
