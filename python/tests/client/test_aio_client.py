"""The client for asyncio on a real Redis; the tests play the servers with raw commands."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from jobqueue import aio
from jobqueue.aio import ConnectionLost, JobError, JobTimeout, NotQueued
from jobqueue.calls import links
from jobqueue.wire import pools
from redis import Redis

from tests.client import test_client
from tests.conftest import DEADLINE_S, RedisProcess, until

Scenario = Callable[[aio.Client], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture
def play(redis_url: str, redis: Redis) -> Play:  # noqa: ARG001 - emptied first
    """Runs a scenario in an event loop, with a client."""

    async def run(scenario: Scenario) -> None:
        async with asyncio.timeout(DEADLINE_S), aio.Client(redis_url) as client:
            await scenario(client)

    return lambda scenario: asyncio.run(run(scenario))


@pytest.fixture
def claim(redis: Redis) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Takes the oldest job off the queue, while the loop goes on."""
    return lambda: asyncio.to_thread(test_client.claim, redis)


@pytest.fixture
def answer(redis: Redis) -> Callable[..., Any]:
    """Publishes a result."""
    return lambda job, **members: test_client.answer(redis, job, **members)


Claim = Callable[[], Awaitable[dict[str, Any]]]
Answer = Callable[..., Any]


def test_a_job_can_be_awaited(play: Play, claim: Claim, answer: Answer) -> None:
    """client.settle.value, client.settle.error: a value, or an error to catch."""

    async def scenario(client: aio.Client) -> None:
        good, bad = await client.run("echo", [1]), await client.run("echo")
        answer(await claim(), result=[1])
        answer(await claim(), error={"code": "a.b", "message": "m"})

        assert await good == [1]
        with pytest.raises(JobError, match=r"a\.b: m"):
            await bad
        assert repr(good) == f"<Job 'echo' channel={good.channel} id={good.id} finished>"

    play(scenario)


def test_gather_and_wait_work(play: Play, claim: Claim, answer: Answer) -> None:
    """client.concurrent.in-flight: a job is a future of asyncio; many are pushed at once."""

    async def scenario(client: aio.Client) -> None:
        jobs = await client.run_many([("echo", number) for number in range(20)])
        for _ in jobs:
            job = await claim()
            answer(job, result=job["parameters"])

        done, _ = await asyncio.wait(jobs)
        assert done == set(jobs)
        assert await asyncio.gather(*jobs) == list(range(20))

    play(scenario)


def test_a_timeout_settles_a_job(play: Play) -> None:
    """client.timeout.settles: the shorter one first, whatever the order of the calls."""

    async def scenario(client: aio.Client) -> None:
        long = await client.run("echo", timeout=DEADLINE_S)
        begun = time.monotonic()
        short = await client.run("echo", timeout=0.1)

        with pytest.raises(JobTimeout):
            await short
        assert time.monotonic() - begun >= 0.1
        assert not long.done()

    play(scenario)


def test_waiting_for_a_while_cancels(play: Play, claim: Claim, answer: Answer) -> None:
    """client.ignore.unknown: `wait_for` gives up on a job, and its late result is ignored."""

    async def scenario(client: aio.Client) -> None:
        job, other = await client.run("echo"), await client.run("echo")
        pushed = [await claim(), await claim()]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job, 0.05)

        answer(pushed[0])
        answer(pushed[1], result=1)

        assert await other == 1
        assert job.cancelled()
        assert "cancelled" in repr(job)

    play(scenario)


def test_a_lost_subscription(play: Play, claim: Claim, answer: Answer, redis: Redis) -> None:
    """client.lost.settles, client.lost.waits, client.lost.resubscribes: by timeout or not."""

    async def scenario(client: aio.Client) -> None:
        untimed, timed = await client.run("echo"), await client.run("echo", timeout=DEADLINE_S)
        _, pushed = await claim(), await claim()
        test_client.lose_subscription(redis)

        with pytest.raises(ConnectionLost):
            await untimed
        await asyncio.to_thread(until, lambda: answer(pushed), "the client to subscribe again")
        assert await timed is None
        new = await client.run("echo")
        answer(await claim(), result="new")
        assert await new == "new"

    play(scenario)


def test_a_refused_push_is_not_queued(play: Play, redis: Redis) -> None:
    """client.settle.not-queued: in Redis's words."""
    redis.set("job-queue", "no list")

    async def scenario(client: aio.Client) -> None:
        job = await client.run("echo", timeout=DEADLINE_S)
        with pytest.raises(NotQueued, match="WRONGTYPE"):
            await job

    play(scenario)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis://no host/0", "unix:///nowhere"])
def test_without_redis_nothing_is_queued(url: str) -> None:
    """client.settle.not-queued: no connection, no job, and no exception but the job's."""

    async def scenario() -> None:
        async with aio.Client(url) as client:
            job = await client.run("echo")
            with pytest.raises(NotQueued):
                await job

    asyncio.run(scenario())


def test_a_restart_while_nothing_happens_costs_no_job(
    play: Play, claim: Claim, answer: Answer, redis_process: RedisProcess
) -> None:
    """client.lost.resubscribes: idle connections that are gone are noticed before a push."""

    async def scenario(client: aio.Client) -> None:
        idle = await client.run("echo")
        await claim()
        idle.cancel()
        await asyncio.to_thread(redis_process.kill)
        await asyncio.to_thread(redis_process.start)

        job = await client.run("echo", 1)
        answer(await claim(), result=1)
        assert await job == 1

    play(scenario)


def test_a_dead_peer_is_noticed(
    play: Play, claim: Claim, redis_process: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """client.lost.settles: where Redis doesn't even answer PING, a job isn't waited for any more."""
    monkeypatch.setattr(links, "REPLY_TIMEOUT_SECONDS", 0.1)

    async def scenario(client: aio.Client) -> None:
        job = await client.run("echo")
        await claim()
        with redis_process.frozen(), pytest.raises(ConnectionLost):
            await job

    play(scenario)


def test_a_push_that_isnt_answered_is_lost(
    play: Play, claim: Claim, redis_process: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """client.lost.settles: the connection of a push that Redis doesn't answer is given up."""
    monkeypatch.setattr(links, "REPLY_TIMEOUT_SECONDS", 0.1)

    async def scenario(client: aio.Client) -> None:
        idle = await client.run("echo")
        await claim()
        idle.cancel()
        with redis_process.frozen(), pytest.raises(ConnectionLost, match="no reply"):
            await (await client.run("echo"))

    play(scenario)


def test_closing_settles_what_is_left(play: Play, claim: Claim, redis: Redis) -> None:
    """A closed client's jobs may have run; it accepts no more, and may be closed twice."""

    async def scenario(client: aio.Client) -> None:
        job = await client.run("echo")
        await claim()
        await client.close()
        await client.close()

        with pytest.raises(ConnectionLost, match="closed"):
            await job
        with pytest.raises(ValueError, match="closed"):
            await client.run("echo")

    play(scenario)
    until(lambda: len(redis.client_list()) == 1, "no connection of the client to be left")


def test_another_loop_has_a_channel_of_its_own(
    redis_url: str, claim: Claim, answer: Answer
) -> None:
    """client.channel.name: a client of a module works in each loop that a program runs."""
    client = aio.Client(redis_url)

    async def scenario() -> str:
        job = await client.run("echo")
        answer(await claim())
        await job
        return job.channel

    assert asyncio.run(scenario()) != asyncio.run(scenario())


def test_uvloop_is_as_good(redis_url: str, redis: Redis) -> None:  # noqa: ARG001 - emptied first
    """A client and a server of either concurrency work in uvloop's loop, too."""

    async def scenario(concurrency: int) -> None:
        server = aio.Server(redis_url, processor="uv", concurrency=concurrency, block_timeout=0.1)
        server.on("echo", lambda parameters: parameters)
        running = asyncio.create_task(server.run())
        async with asyncio.timeout(DEADLINE_S), aio.Client(redis_url) as client:
            jobs = await client.run_many([("echo", number) for number in range(200)])
            assert await asyncio.gather(*jobs) == list(range(200))
        server.stop()
        await running

    for concurrency in (1, 10):
        uvloop.run(scenario(concurrency))


def test_a_loop_that_was_held_up_looks_before_it_gives_up(
    play: Play, claim: Claim, redis_url: str
) -> None:
    """server.connection.survives: an answer that is already in the socket is an answer."""

    async def scenario(client: aio.Client) -> None:
        await client.run("echo")
        await claim()
        connection = await aio.link.Link.open(pools.aio_pool_of(redis_url), 0.1)

        for _ in range(3):
            await connection.send([(b"PING",)])
            receiving = asyncio.ensure_future(connection.receive(1))
            await asyncio.sleep(0)
            threading.Event().wait(0.3)  # a handler that blocks the loop

            assert await receiving == [b"PONG"]
        await connection.close()

    play(scenario)
