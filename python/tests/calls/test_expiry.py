"""Jobs that expire: when a client asks for that, and by which clock."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import aio
from jobqueue.calls import clock
from jobqueue.calls.calls import Calls, State
from jobqueue.calls.times import expiry_of
from jobqueue.calls.unsettled import Submission
from jobqueue.errors import ConnectionLost, NotQueued
from jobqueue.protocol import messages
from jobqueue.protocol.commands import ErrorReply

from tests.calls.sessions import opened
from tests.conftest import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue import Client
    from redis import Redis

TIME = [b"50", b"250000"]  # 50,250 ms
NOPERM = ErrorReply("NOPERM", "NOPERM this user has no permissions to run the 'time' command")
LOADING = ErrorReply("LOADING", "LOADING Redis is loading the dataset in memory")


def test_a_client_for_asyncio_says_when_jobs_expire(redis_url: str, redis: Redis) -> None:
    """client.expiry.clock: each job, or else the client, and the times are Redis's."""

    async def push() -> None:
        async with aio.Client(redis_url, expires="timeout") as client:
            await client.run("echo", 1, timeout=60)
            await client.run("echo", 2)
            await client.run("echo", 3, expires=5)
            await client.run_many([("echo", 4)], timeout=1, expires=math.inf)

    asyncio.run(push())
    seconds = redis.time()[0]
    jobs = [json.loads(each) for each in redis.lrange("job-queue", 0, -1)][::-1]

    assert ["expires_at_ms" in job for job in jobs] == [True, False, True, False]
    assert [round(jobs[n]["expires_at_ms"] / 1000 - seconds) for n in (0, 2)] == pytest.approx(
        [60, 5], abs=DEADLINE_S
    )


@pytest.mark.parametrize("expires", [-1, math.nan, "never"])
def test_what_is_no_expiry_is_refused(connect: Callable[..., Client], expires: Any) -> None:
    """A mistake of the caller: nothing is submitted."""
    with pytest.raises(ValueError, match="expires must be"):
        connect(expires=expires)
    with pytest.raises(ValueError, match="expires must be"):
        connect().run("echo", expires=expires)


def test_a_default_is_for_those_that_say_nothing() -> None:
    """Seconds, or those of the timeout, or none."""
    assert expiry_of(None, None, 5, 100) is None
    assert expiry_of(None, "timeout", 5, 100) == 105
    assert expiry_of(None, "timeout", None, 100) is None
    assert expiry_of(7, "timeout", 5, 100) == 107
    assert expiry_of("timeout", 7, 5, 100) == 105
    assert expiry_of(None, 7, 5, 100) == 107


def submit(session: Calls[str], job: str, expires_at: float | None) -> None:
    """Submit a job."""
    session.submit([Submission(job, job, b'{"id":"%b"}' % job.encode(), expires_at)], None)


@pytest.mark.parametrize("links", [1, 2])
def test_the_clock_is_asked_at_most_a_minute_before(links: int) -> None:
    """client.expiry.clock: of Redis, on the way to the push, and again on a new connection."""
    session: Calls[str] = Calls(b"q", b"channel")
    opened(session, 10, links)
    submit(session, "1", None)
    submit(session, "2", 15)
    submit(session, "3", 16.5)
    assert session.take_push(10) == (b"LPUSH", b"q", b'{"id":"1"}')
    assert session.take_push(11) == (b"TIME",)
    assert session.take_push(11) is None, "what comes behind it keeps its place"
    session.received(0, [1, TIME], 12)

    assert session.take_push(12) == (b"LPUSH", b"q", b'{"id":"2","expires_at_ms":54250}')
    assert session.take_push(71) == (b"LPUSH", b"q", b'{"id":"3","expires_at_ms":55750}')
    submit(session, "4", 80)
    assert session.take_push(11 + clock.GOOD_SECONDS + 0.1) == (b"TIME",)

    session.lost("cut", 72, 0)
    opened(session, 73, links)
    assert session.take_push(73) == (b"TIME",), "another Redis may have another clock"
    session.received(0, [[b"1", b"0"]], 73)
    assert session.take_push(73) == (b"LPUSH", b"q", b'{"id":"4","expires_at_ms":8000}')


def test_a_client_that_may_not_ask_pushes_nothing_that_expires() -> None:
    """client.expiry.clock: such jobs are not queued; others are."""
    session: Calls[str] = Calls(b"q", b"channel")
    opened(session, 0)
    submit(session, "1", 5)
    submit(session, "2", None)
    submit(session, "3", 5)
    session.take_push(0)

    session.received(0, [NOPERM], 1)

    settled = session.take_settled()
    assert [(each.job, type(each.error)) for each in settled] == [
        ("1", NotQueued),
        ("3", NotQueued),
    ]
    assert session.take_push(1) == (b"LPUSH", b"q", b'{"id":"2"}')


def test_a_redis_that_loads_is_asked_later() -> None:
    """client.lost.resubscribes: the job waits for a connection on which Redis tells its time."""
    session: Calls[str] = Calls(b"q", b"channel")
    opened(session, 0)
    submit(session, "1", 5)
    session.take_push(0)

    with pytest.raises(ConnectionLost):
        session.received(0, [LOADING], 1)
    session.lost("loading", 1, 0)

    assert session.take_settled() == []
    assert session.state is State.AWAY


def test_a_job_that_expires_is_as_small_as_others() -> None:
    """client.job.size: with the member that is added when it is pushed."""
    length = messages.LIMIT_BYTES - len(messages.encode_job("m", "", "c", "1"))
    messages.encode_job("m", "x" * length, "c", "1")
    fits = messages.encode_job("m", "x" * (length - messages.EXPIRY_BYTES), "c", "1", expires=True)
    assert len(messages.with_expiry(fits, 10**16 - 1)) == messages.LIMIT_BYTES

    with pytest.raises(ValueError, match="more than"):
        messages.encode_job("m", "x" * length, "c", "1", expires=True)
