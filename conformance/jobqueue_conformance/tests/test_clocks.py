"""Redis's clock decides, not the machine's: each test starts a Redis of its own, whose clock it sets."""

import json
from collections.abc import Iterator

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient, StartServer
from jobqueue_conformance.redis_servers.base import RedisUnavailable
from jobqueue_conformance.redis_servers.shifted import ShiftedRedis
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.verdicts import Unsupported, require

MINUTE_S, MINUTE_MS = 60, 60_000
HOUR_MS = 60 * MINUTE_MS
ASKED = 40  # more than 16 and 32, after which a program may think that it knows the time
LATE_MS = 5 * MINUTE_MS  # how long a slow machine may take, and less than any difference of clocks
SET_TO_MINUTES = (10, 11, 12, 13, 14)  # ahead of the machine's clock, one after the other


@pytest.fixture(scope="module")
def redis_server() -> Iterator[ShiftedRedis]:
    """A Redis whose clock can be set."""
    try:
        server = ShiftedRedis()
    except RedisUnavailable as reason:
        raise Unsupported(f"the clock of a Redis is to be set: {reason}") from reason
    yield server
    server.close()


def redis_ms(redis: Redis) -> int:
    """Redis's clock."""
    seconds, microseconds = redis.time()
    return int(seconds) * 1_000 + int(microseconds) // 1_000


@pytest.mark.requirement("server.expiry.refuses", "server.expiry.runs")
@pytest.mark.dimensions(occasion="again")
def test_jobs_expire_by_the_clock_of_redis(
    server: StartServer, peer: Peer, redis: Redis, redis_server: ShiftedRedis
) -> None:
    """Behind the machine's clock, a job runs in Redis's time; each time that clock is set, the next one has expired.

    A server that goes on for a moment from a time that it asked for before runs one of the jobs that come at once.
    """
    redis_server.shift(-30 * MINUTE_S)
    server(lease_ms=HOUR_MS)  # which the leaps don't end
    for _ in range(ASKED):
        peer.push("echo", "often asked for", expires_at_ms=redis_ms(redis) + HOUR_MS)
    for ahead_minutes in SET_TO_MINUTES:
        early = peer.push("echo", "in time", expires_at_ms=redis_ms(redis) + 15 * MINUTE_MS)
        result = peer.result(early, "server.expiry.runs")
        require(
            result.get("result") == "in time",
            "server.expiry.runs",
            expected="the value of a job that hasn't expired by Redis's clock",
            got=result,
        )

        redis_server.shift(ahead_minutes * MINUTE_S)
        late = peer.push("echo", "late", expires_at_ms=redis_ms(redis) - MINUTE_MS // 2)
        result = peer.result(late, "server.expiry.refuses")
        require(
            result.get("error", {}).get("code") == "expired",
            "server.expiry.refuses",
            expected="`expired` for a job that has expired by Redis's clock",
            got=result,
        )


@pytest.mark.requirement("client.expiry.clock", "client.expiry.member")
@pytest.mark.dimensions(occasion="again", size="2³¹")
def test_a_client_takes_the_time_from_redis(
    client: StartClient, peer: Peer, redis: Redis, redis_server: ShiftedRedis
) -> None:
    """Each of two jobs expires by Redis's clock, which is half an hour behind the machine's."""
    redis_server.shift(-30 * MINUTE_S)
    driver = client()
    for in_ms in (HOUR_MS, 2**31):
        from_ms = redis_ms(redis) + in_ms
        driver.submit("echo", None, expires_in_ms=in_ms)
        job = peer.claim()
        at_ms = json.loads(job.message).get("expires_at_ms")
        peer.answer(job, result=None)
        require(
            isinstance(at_ms, int | float) and abs(at_ms - from_ms) <= LATE_MS,
            "client.expiry.clock",
            expected=f"`expires_at_ms` at {from_ms}, give or take {LATE_MS} ms",
            got=at_ms,
        )


@pytest.mark.requirement("server.kept.stores", "server.kept.value")
@pytest.mark.parametrize("ahead_minutes", [-30, 30])
def test_a_result_is_kept_for_its_time(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: ShiftedRedis,
    keys: Keys,
    ahead_minutes: int,
) -> None:
    """However Redis's clock differs from the machine's, a result is stored for as long as its job says."""
    redis_server.shift(ahead_minutes * MINUTE_S)
    server()
    job = peer.push("echo", "kept", keep_ms=20 * MINUTE_MS)
    peer.result(job, "server.kept.stores")
    peer.wait_settled(job)

    left_ms = int(redis.pttl(keys.result(job.message)))
    require(
        20 * MINUTE_MS - LATE_MS < left_ms <= 20 * MINUTE_MS,
        "server.kept.value",
        expected=f"{20 * MINUTE_MS} ms to live, or up to {LATE_MS} ms less",
        got=f"{left_ms} ms",
    )
