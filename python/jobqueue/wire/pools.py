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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis import ConnectionPool, Redis, RedisCluster, connection
from redis import asyncio as aio
from redis.asyncio import connection as aio_connection
from redis.asyncio.retry import Retry as AioRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobqueue.protocol.keys import QUEUE, Keys
from jobqueue.wire import finding, urls
from jobqueue.wire.lookup import ClusterLookup, SentinelLookup, shown, slot_of

try:  # with RESP3, redis-py 7 and newer request these from Redis, which costs a round trip
    from redis.maint_notifications import MaintNotificationsConfig
except ImportError:
    MaintNotificationsConfig = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jobqueue.wire.lookup import Lookup

DEFAULT_URL = "redis://localhost:6379/0"
REPLY_SECONDS = 5.0  # how long Redis may take to reply, beyond the time that a claim blocks

_DEFAULT_KEYS = Keys.of(QUEUE, "")

# What is taken from a client of a cluster, with TLS; the rest would repeat commands or decode.
_OF_NODES = {"username", "password", "credential_provider", "client_name"}
_OF_NODES |= {"socket_keepalive", "socket_keepalive_options"}


@dataclass(frozen=True)
class _Colour:
    """The classes of redis-py for threads, or those for asyncio."""

    pool: Any
    parse_url: Callable[[str], Any]
    retry: Any
    connection: Any
    tls: Any
    asking_tls: Any
    found: Any
    found_tls: Any


_THREADS = _Colour(
    ConnectionPool,
    connection.parse_url,
    Retry,
    connection.Connection,
    connection.SSLConnection,
    connection.SSLConnection,
    finding.Found,
    finding.FoundTls,
)
_AIO = _Colour(
    aio.ConnectionPool,
    aio_connection.parse_url,
    AioRetry,
    aio.Connection,
    aio.SSLConnection,
    finding.AioTls,
    finding.AioFound,
    finding.AioFoundTls,
)


def pool_of(
    source: str | Redis | RedisCluster,
    keys: Keys = _DEFAULT_KEYS,
    block_seconds: float = 0.0,
    connections: int = 1,
) -> ConnectionPool:
    """Return the pool of a URL or of a client.

    Args:
        source: A Redis URL, or a client of redis-py.
        keys: The keys of the queue, which are in one slot of a cluster.
        block_seconds: How long a claim blocks.
        connections: The number of connections that are used at the same time.

    Raises:
        TypeError: The source is neither.
        ValueError: The URL or the client can't be used, or not for these keys.
    """
    pool: ConnectionPool
    if isinstance(source, str | RedisCluster):
        # server.connection.silent: without asyncio, redis-py detects a dead peer.
        pool = _made(_THREADS, source, keys, socket_timeout=block_seconds + REPLY_SECONDS)
    elif isinstance(source, Redis):
        pool = source.connection_pool
    else:
        raise TypeError(
            "source must be a Redis URL or a redis.Redis or RedisCluster, not "
            f"{type(source).__name__}"
        )
    _require_usable(pool, block_seconds, connections)
    _pools.add(pool)
    return pool


def aio_pool_of(
    source: str | aio.Redis | aio.RedisCluster,
    keys: Keys = _DEFAULT_KEYS,
    block_seconds: float = 0.0,
    connections: int = 1,
) -> aio.ConnectionPool:
    """Return the pool of a URL or of a client of `redis.asyncio`, like `pool_of`."""
    pool: aio.ConnectionPool
    made = isinstance(source, str | aio.RedisCluster)
    if isinstance(source, str | aio.RedisCluster):
        pool = _made(_AIO, source, keys, socket_timeout=None)  # `jobqueue.aio.link` keeps the time
    elif isinstance(source, aio.Redis):
        pool = source.connection_pool
    else:
        raise TypeError(
            "source must be a Redis URL or a redis.asyncio.Redis or RedisCluster, not "
            f"{type(source).__name__}"
        )
    _require_usable(pool, block_seconds, connections, timed=not made)
    return pool


def client_pools(source: str | Redis | RedisCluster, queue: str) -> list[ConnectionPool]:
    """Return the pools of a client: one with RESP3, and one to fall back to if that is refused."""
    keys = Keys.of(queue, "")
    fallback = pool_of(source, keys)
    if isinstance(source, Redis):
        return [fallback]
    pool = _made(_THREADS, source, keys, protocol=3, socket_timeout=REPLY_SECONDS)
    _pools.add(pool)
    return [pool, fallback]


def aio_client_pools(
    source: str | aio.Redis | aio.RedisCluster, queue: str
) -> list[aio.ConnectionPool]:
    """Return the pools of a client with `redis.asyncio`, like `client_pools`."""
    keys = Keys.of(queue, "")
    fallback = aio_pool_of(source, keys)
    if isinstance(source, aio.Redis):
        return [fallback]
    return [_made(_AIO, source, keys, protocol=3, socket_timeout=REPLY_SECONDS), fallback]


@contextmanager
def hide_url_in_errors() -> Iterator[None]:
    """Replace redis-py's errors about a URL, which may contain a password."""
    # client.security.password, server.security.password
    try:
        yield
    except (TypeError, ValueError):
        raise ValueError(
            "not a valid Redis URL: it must begin with redis://, rediss:// or unix://, or for several "
            "hosts with redis+sentinel:// or redis+cluster://, have special characters such as "
            "# / ? @ in a password percent-encoded, a number as its database, and only options that "
            "redis-py knows"
        ) from None


def _made(
    colour: _Colour,
    source: Any,
    keys: Keys,
    *,
    socket_timeout: float | None,
    protocol: int = 2,
) -> Any:
    """Make a pool from a URL, or from what a client of a cluster connects with.

    Args:
        colour: The classes to use.
        source: A Redis URL, or a client of a cluster.
        keys: The keys of the queue.
        socket_timeout: How long redis-py waits for a reply.
        protocol: 3 for a client, which subscribes and pushes on one connection. A server doesn't
            need RESP3, whose handshake takes more commands.
    """
    options: dict[str, Any] = {
        "protocol": protocol,
        "retry": colour.retry(NoBackoff(), 0),
        "socket_timeout": socket_timeout,
    }
    if protocol == 3 and MaintNotificationsConfig is not None:
        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    if not isinstance(source, str):
        options["socket_connect_timeout"] = finding.CONNECT_SECONDS
        node = _settings_of(source)
        slot = slot_of(keys)
        manager = source.nodes_manager
        seeds = [(each.host, int(each.port)) for each in manager.startup_nodes.values()]
        lookup: Lookup = ClusterLookup(seeds, slot, getattr(manager, "address_remap", None))
        return colour.pool(**_found(colour, lookup, node | options, node | options))
    with hide_url_in_errors():
        location = urls.parse(source)
        if not source.startswith("unix:"):
            options["socket_connect_timeout"] = (
                finding.CONNECT_SECONDS if location.kind else REPLY_SECONDS
            )
        if not location.kind:
            return colour.pool.from_url(source, **options)
        settings = options | colour.parse_url(location.url)
        asking = options | colour.parse_url(location.sentinel_url or location.url)
    if location.kind == "cluster":
        lookup = ClusterLookup(location.addresses, slot_of(keys))
    else:
        lookup = SentinelLookup(location.addresses, location.service)
    arguments = _found(colour, lookup, settings, asking)
    with hide_url_in_errors():
        asked_by, how = arguments["asking"]
        asked_by(**how)  # which doesn't connect, but raises where an option is wrong
        return colour.pool(**arguments)


def _found(
    colour: _Colour, lookup: Lookup, settings: Mapping[str, Any], asking: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a pool whose connections look up where to connect."""
    plain = settings.get("connection_class", colour.connection)
    asking_class = asking.get("connection_class", colour.connection)
    for_pool = {"connection_class", "max_connections", "host", "port"}
    short = {
        "protocol": 2,
        "socket_timeout": finding.ASK_SECONDS,
        "socket_connect_timeout": finding.ASK_SECONDS,
    }
    return dict(settings) | {
        "connection_class": colour.found_tls if issubclass(plain, colour.tls) else colour.found,
        "lookup": lookup,
        "asking": (
            colour.asking_tls if issubclass(asking_class, colour.tls) else colour.connection,
            {name: value for name, value in asking.items() if name not in for_pool} | short,
        ),
    }


def _settings_of(cluster: Any) -> dict[str, Any]:
    """Return the arguments of the connections that a client of a cluster makes to its nodes."""
    node = next(iter(cluster.nodes_manager.startup_nodes.values()))
    pool = getattr(getattr(node, "redis_connection", None), "connection_pool", node)
    settings = {
        name: value
        for name, value in pool.connection_kwargs.items()
        if name in _OF_NODES or name.startswith("ssl_")
    }
    return settings | {"connection_class": pool.connection_class}


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
        made = pool.connection_class(**pool.connection_kwargs)
    if made.retry.get_retries() != 0:
        # client.push.once
        raise ValueError(
            "this client repeats commands, which queues jobs twice: create it with retry=None"
        )
    if made.encoder.decode_responses:
        # server.remove.exact-bytes
        raise ValueError(
            "this client decodes replies, but jobs are bytes: create it without decode_responses"
        )
    timeout = made.socket_timeout
    if timed if timeout is None else timeout <= block_seconds:
        raise ValueError(
            f"this client's socket_timeout is {timeout}: create it with more than "
            f"{block_seconds:g} seconds, so that a dead peer is detected and a claim isn't cut short"
        )


def identity(pool: Any) -> str:
    """Return a name of the Redis that a pool connects to, without its password."""
    settings = pool.connection_kwargs
    lookup: Lookup | None = settings.get("lookup")
    place = (
        settings.get("path")
        or getattr(pool, "service_name", None)  # of Sentinel, where hosts change
        or (lookup and lookup.name)
        or shown((settings.get("host", "localhost"), settings.get("port", 6379)))
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
