"""Where connections come from: a URL, or the pool of a ready-made client of `redis.asyncio`.

As in `jobqueue.wire.pools`, which says what is refused and why.
"""

from __future__ import annotations

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from jobqueue.wire.pools import (
    DEFAULT_URL,
    PATIENCE_SECONDS,
    identity,
    one_sentence,
    options,
    require_usable,
)

__all__ = ["DEFAULT_URL", "PATIENCE_SECONDS", "identity", "pool_of"]


def pool_of(source: str | Redis, block_seconds: float = 0.0) -> ConnectionPool:
    """Return the pool that the source stands for.

    Args:
        source: A URL that redis-py understands, or a client of its own making.
        block_seconds: How long a claim blocks.

    Raises:
        TypeError: The source is neither.
        ValueError: The URL or the client can't be used.
    """
    if isinstance(source, str):
        settings = options(source, None, Retry(NoBackoff(), 0))  # `connection` keeps the time
        with one_sentence():
            pool: ConnectionPool = ConnectionPool.from_url(source, **settings)
    elif isinstance(source, Redis):
        pool = source.connection_pool
    else:
        raise TypeError(
            f"Redis is given as a URL or a redis.asyncio.Redis, not {type(source).__name__}"
        )
    require_usable(pool, block_seconds, timed=not isinstance(source, str))
    return pool
