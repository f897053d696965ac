"""What redis-py's defaults would do to the protocol, and that each of them is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import redis as redis_py
from jobqueue import Client, Server, aio
from jobqueue.wire import pools
from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.cache import CacheConfig
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from tests.conftest import DEADLINE_S
from tests.server.test_server import Serve, echo

PASSWORD = "hush"
SOUND = {"retry": None, "socket_timeout": 10}
TRAPS = [
    ({}, "repeats commands"),
    ({**SOUND, "retry": Retry(NoBackoff(), 1)}, "repeats commands"),
    ({**SOUND, "retry_on_error": [RedisConnectionError]}, "repeats commands"),
    ({**SOUND, "decode_responses": True}, "decodes replies"),
    ({**SOUND, "socket_timeout": None}, "socket_timeout is None"),
    ({**SOUND, "socket_timeout": 2}, "socket_timeout is 2"),
]


@pytest.mark.parametrize("options,sentence", TRAPS)
@pytest.mark.parametrize(
    "make,redis_class", [(Server, Redis), (aio.Server, redis_py.asyncio.Redis)]
)
def test_a_trap_of_redis_py_is_refused(
    make: type[Any], redis_class: type[Any], options: dict[str, Any], sentence: str
) -> None:
    """client.push.once, server.remove.exact-bytes, server.recovery.block: reported in one sentence."""
    with pytest.raises(ValueError, match=sentence):
        make(redis_class(**options), block_timeout=2.0)


@pytest.mark.parametrize(
    "make,redis_class", [(Server, Redis), (aio.Server, redis_py.asyncio.Redis)]
)
def test_a_pool_that_is_too_small_is_refused(make: type[Any], redis_class: type[Any]) -> None:
    """Where handlers run at once, one more connection confirms; with takeover, one renews the lease."""
    one = redis_class(**SOUND, max_connections=1)

    for concurrency, least in ((1, 2), (3, 3)):
        with pytest.raises(ValueError, match=f"max_connections={least} or more"):
            make(one, concurrency=concurrency)
    server = make(one, takeover=False)
    with pytest.raises(ValueError, match="max_connections=2 or more"):
        make(one, concurrency=3, takeover=False)
    with pytest.raises(ValueError, match="max_connections=2 or more"):
        server.with_settings(concurrency=3)


def test_client_side_caching_is_refused() -> None:
    """A cache stands between us and the connection."""
    source = Redis(**SOUND, protocol=3, cache_config=CacheConfig())  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="caching"):
        Client(source)


@pytest.mark.parametrize("make", [Client, Server, aio.Client, aio.Server])
@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{PASSWORD}/x@localhost",
        f"http://:{PASSWORD}@localhost",
        f"redis://:{PASSWORD}@localhost:port",
        f"redis://:{PASSWORD}@localhost?no_such_option=1",
    ],
)
def test_a_bad_url_is_told_without_its_password(make: type[Any], url: str) -> None:
    """client.security.password, server.security.password: redis-py's own error may quote it."""
    with pytest.raises(ValueError, match="not a valid Redis URL") as caught:
        make(url)

    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("make", [Client, Server, aio.Client, aio.Server])
def test_what_is_no_redis_is_refused(make: type[Any]) -> None:
    """A client of the other half is as wrong as a number."""
    other = Redis() if make.__module__.startswith("jobqueue.aio") else redis_py.asyncio.Redis()

    for source in (7, other):
        with pytest.raises(TypeError, match="source must be a Redis URL or a redis"):
            make(source)


def test_an_option_of_the_url_counts() -> None:
    """What stands in the URL wins over what is right, and is refused like a client's."""
    with pytest.raises(ValueError, match="socket_timeout is 1"):
        Server("redis://localhost?socket_timeout=1", block_timeout=2.0)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", ["threads", "threads-4"], indirect=True)
def test_a_ready_made_client_works(
    serve: Serve, connect: Callable[..., Client], redis_url: str, protocol: int
) -> None:
    """Pools of any kind, RESP2 and RESP3: a server takes three connections, a client two."""

    def make(connections: int) -> Redis:
        options = {**SOUND, "protocol": protocol, "max_connections": connections, "timeout": 5}
        pool = BlockingConnectionPool.from_url(redis_url, **options)
        return Redis(connection_pool=pool)

    serve({"echo": echo}, make(3))
    client = connect(make(2))

    jobs = client.run_many([("echo", number) for number in range(100)])

    assert [job.result(DEADLINE_S) for job in jobs] == list(range(100))


@pytest.mark.parametrize(
    "url,name",
    [
        ("redis://:hush@localhost:6380/3", "localhost:6380/3"),
        ("redis://", "localhost:6379/0"),
        ("unix://:hush@/run/redis.sock?db=2", "/run/redis.sock/2"),
    ],
)
def test_a_redis_is_named_without_its_password(url: str, name: str) -> None:
    """server.security.password: what the log and the lock call it."""
    assert pools.identity(pools.pool_of(url)) == name
