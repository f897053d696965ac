"""Connection pools: made from a URL, or taken from a client of `redis` or `redis.asyncio`.

redis-py's defaults break the protocol. It repeats commands, so that a lost reply queues a job twice
and a lost claim strands one; its timeout may be shorter than a claim's; and it may decode replies,
but a decoded message can't be removed by its exact bytes. A pool made from a URL has none of this; a
client that has it is refused with a sentence that says what to change.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - connecting imports it; a fork meanwhile would leave it locked
import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from redis import ConnectionPool, Redis
from redis import asyncio as aio
from redis.asyncio.retry import Retry as AioRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobqueue.wire.urls import require_unambiguous

try:  # with RESP3, redis-py 7 and newer request these from Redis, which costs a round trip
    from redis.maint_notifications import MaintNotificationsConfig
except ImportError:
    MaintNotificationsConfig = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_URL = "redis://localhost:6379/0"
REPLY_SECONDS = 5.0  # how long Redis may take to reply, beyond the time that a claim blocks


def pool_of(
    source: str | Redis, block_seconds: float = 0.0, connections: int = 1
) -> ConnectionPool:
    """Return the pool of a URL or of a client.

    Args:
        source: A Redis URL, or a client of redis-py.
        block_seconds: How long a claim blocks.
        connections: The number of connections that are used at the same time.

    Raises:
        TypeError: The source is neither.
        ValueError: The URL or the client can't be used.
    """
    if isinstance(source, str):
        settings = _options(source, Retry(NoBackoff(), 0))
        # Without asyncio, redis-py detects a dead peer.
        settings["socket_timeout"] = block_seconds + REPLY_SECONDS
        with hide_url_in_errors():
            pool: ConnectionPool = ConnectionPool.from_url(source, **settings)
    elif isinstance(source, Redis):
        pool = source.connection_pool
    else:
        raise TypeError(f"source must be a Redis URL or a redis.Redis, not {type(source).__name__}")
    _require_usable(pool, block_seconds, connections)
    _pools.add(pool)
    return pool


def aio_pool_of(
    source: str | aio.Redis, block_seconds: float = 0.0, connections: int = 1
) -> aio.ConnectionPool:
    """Return the pool of a URL or of a client of `redis.asyncio`, like `pool_of`."""
    if isinstance(source, str):
        settings = _options(source, AioRetry(NoBackoff(), 0))
        settings["socket_timeout"] = None  # `jobqueue.aio.link` keeps the time
        with hide_url_in_errors():
            pool: aio.ConnectionPool = aio.ConnectionPool.from_url(source, **settings)
    elif isinstance(source, aio.Redis):
        pool = source.connection_pool
    else:
        raise TypeError(
            f"source must be a Redis URL or a redis.asyncio.Redis, not {type(source).__name__}"
        )
    _require_usable(pool, block_seconds, connections, timed=not isinstance(source, str))
    return pool


def client_pools(source: str | Redis) -> list[ConnectionPool]:
    """Return the pools of a client: one with RESP3, and one to fall back to if that is refused."""
    if not isinstance(source, str):
        return [pool_of(source)]
    fallback = pool_of(source)
    with hide_url_in_errors():
        settings = _options(source, Retry(NoBackoff(), 0), protocol=3)
        settings["socket_timeout"] = REPLY_SECONDS
        pool: ConnectionPool = ConnectionPool.from_url(source, **settings)
    _pools.add(pool)
    return [pool, fallback]


def aio_client_pools(source: str | aio.Redis) -> list[aio.ConnectionPool]:
    """Return the pools of a client with `redis.asyncio`, like `client_pools`."""
    if not isinstance(source, str):
        return [aio_pool_of(source)]
    fallback = aio_pool_of(source)
    with hide_url_in_errors():
        settings = _options(source, AioRetry(NoBackoff(), 0), protocol=3)
        settings["socket_timeout"] = REPLY_SECONDS
        return [aio.ConnectionPool.from_url(source, **settings), fallback]


@contextmanager
def hide_url_in_errors() -> Iterator[None]:
    """Replace redis-py's errors about a URL, which may contain a password."""
    # client.security.password, server.security.password
    try:
        yield
    except (TypeError, ValueError):
        raise ValueError(
            "not a valid Redis URL: it must begin with redis://, rediss:// or unix://, have special "
            "characters such as # / ? @ in a password percent-encoded, a number as its database, and "
            "only options that redis-py knows"
        ) from None


def _options(url: str, retry: object, protocol: int = 2) -> dict[str, Any]:
    """Return redis-py's options for a URL's connections; options in the URL override them.

    Args:
        url: The URL.
        retry: The object that makes redis-py repeat nothing.
        protocol: 3 for a client, which subscribes and pushes on one connection. A server doesn't
            need RESP3, whose handshake takes more commands.
    """
    with hide_url_in_errors():
        require_unambiguous(url)
    options: dict[str, Any] = {"protocol": protocol, "retry": retry}
    if protocol == 3 and MaintNotificationsConfig is not None:
        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    if not url.startswith("unix:"):
        options["socket_connect_timeout"] = REPLY_SECONDS
    return options


def _require_usable(
    pool: Any, block_seconds: float, connections: int, *, timed: bool = True
) -> None:
    """Refuse a pool whose connections would break the protocol, or are too few.

    Args:
        pool: A pool of redis-py, for threads or for asyncio.
        block_seconds: How long a claim blocks.
        connections: The number of connections that are used at the same time.
        timed: Whether redis-py has to detect a dead peer.

    Raises:
        ValueError: Its message says why, and what to pass to redis-py instead.
    """
    if pool.max_connections < connections:
        raise ValueError(
            f"this client has at most {pool.max_connections} connections: create it with "
            f"max_connections={connections} or more"
        )
    if getattr(pool, "cache", None) is not None:
        raise ValueError("this client has client-side caching: create it without cache")
    # Created but not connected: only a connection shows which defaults redis-py has applied.
    with hide_url_in_errors():
        connection = pool.connection_class(**pool.connection_kwargs)
    if connection.retry.get_retries() != 0:
        # client.push.once
        raise ValueError(
            "this client repeats commands, which queues jobs twice: create it with retry=None"
        )
    if connection.encoder.decode_responses:
        # server.remove.exact-bytes
        raise ValueError(
            "this client decodes replies, but jobs are bytes: create it without decode_responses"
        )
    timeout = connection.socket_timeout
    if timed if timeout is None else timeout <= block_seconds:
        raise ValueError(
            f"this client's socket_timeout is {timeout}: create it with more than "
            f"{block_seconds:g} seconds, so that a dead peer is detected and a claim isn't cut short"
        )


def identity(pool: Any) -> str:
    """Return a name of the Redis that a pool connects to, without its password."""
    settings = pool.connection_kwargs
    place = (
        settings.get("path")
        or getattr(pool, "service_name", None)  # of Sentinel, where hosts change
        or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
    )
    return f"{place}/{settings.get('db') or 0}"


_pools: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()


def _unlock() -> None:
    """Replace the locks of pools in the child after a fork: threads that it lacks may hold them.

    redis-py makes a new pool in the child, but takes the lock of the old one first.
    """
    for pool in list(_pools):
        pool._lock = threading.RLock()  # noqa: SLF001 - redis-py has no public way
        pool._fork_lock = threading.RLock()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)
