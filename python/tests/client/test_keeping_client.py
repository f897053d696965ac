"""Clients whose results are kept, on a real Redis; the tests play the servers with raw commands."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import Client, ConnectionLost, InvalidHandle, JobTimeout, NotQueued, aio

from tests.client.test_client import answer, claim, lose_subscription
from tests.conftest import DEADLINE_S, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

LARGE = "x" * 900_000


class Both:
    """A client of either half, with blocking calls; an event loop runs in a thread of its own."""

    def __init__(self, url: str, *, asynchronous: bool, **options: Any) -> None:
        self._loop = asyncio.new_event_loop() if asynchronous else None
        self.client: Any = (aio.Client if asynchronous else Client)(url, **options)
        if self._loop is not None:
            self._thread = threading.Thread(target=self._loop.run_forever)
            self._thread.start()

    def begin(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Return the job."""
        return self._done(getattr(self.client, name)(*arguments, **options))

    def result(self, job: Any) -> Any:
        """Return its result, or raise its error."""
        return job.result(DEADLINE_S) if self._loop is None else self._done(_awaited(job))

    def close(self) -> None:
        """Close it, and its loop."""
        self._done(self.client.close())
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _done(self, begun: Any) -> Any:
        if self._loop is None:
            return begun
        return asyncio.run_coroutine_threadsafe(begun, self._loop).result(DEADLINE_S)


async def _awaited(job: Any) -> Any:
    return await job


@pytest.fixture(params=[False, True], ids=["threads", "asyncio"])
def both(
    redis_url: str,
    redis: Redis,  # noqa: ARG001 - emptied first
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., Both]]:
    """Makes clients of both halves that are closed after the test."""
    with contextlib.ExitStack() as closing:

        def make(url: str = redis_url, **options: Any) -> Both:
            made = Both(url, asynchronous=request.param, **options)
            closing.callback(made.close)
            return made

        yield make


def key_of(message: bytes) -> str:
    """The key of a message's stored result."""
    return f"job-queue:result:{hashlib.sha1(message, usedforsecurity=False).hexdigest()}"


def store(redis: Redis, message: bytes, value: object) -> None:
    """Store a result, as a server does that publishes it at the same time."""
    result = json.dumps({"id": json.loads(message)["id"], "result": value})
    assert redis.set(key_of(message), result, nx=True, px=60_000)


def taken(redis: Redis) -> bytes:
    """The bytes of the oldest job, which is taken off the queue."""
    entry: Any = redis.brpop("job-queue", DEADLINE_S)
    message: bytes = entry[1]
    return message


def test_missed_results_are_found(both: Callable[..., Both], redis: Redis) -> None:
    """client.kept.looks, client.kept.member: with a timeout and without one, by default and by call."""
    client = both(keep=60)
    first = client.begin("run", "echo", timeout=DEADLINE_S)
    second = client.begin("run", "echo", keep=7.5)
    other = client.begin("run", "echo", keep=0, timeout=DEADLINE_S)
    messages = [taken(redis) for _ in range(3)]
    kept = [json.loads(message).get("keep_ms") for message in messages]

    lose_subscription(redis)
    for number, message in enumerate(messages[:2]):
        store(redis, message, number)

    assert kept == [60_000, 7_500, None]
    assert [client.result(first), client.result(second)] == [0, 1]
    until(lambda: answer(redis, json.loads(messages[2])), "the subscription")
    assert client.result(other) is None


def test_many_large_results_are_found(both: Callable[..., Both], redis: Redis) -> None:
    """client.kept.looks: Redis disconnects a subscriber for whom it has to keep too many replies."""
    limits: Any = redis.config_get("client-output-buffer-limit")
    redis.config_set("client-output-buffer-limit", "pubsub 4mb 4mb 60")
    try:
        client = both(keep=60)
        jobs = [client.begin("run", "echo", timeout=10 * DEADLINE_S) for _ in range(60)]
        messages = [taken(redis) for _ in jobs]
        for message in messages:
            store(redis, message, LARGE)
        lose_subscription(redis)

        assert [client.result(job) for job in jobs] == [LARGE] * 60
    finally:
        redis.config_set("client-output-buffer-limit", limits["client-output-buffer-limit"])


def test_without_a_timeout_it_is_lost_at_last(both: Callable[..., Both], redis: Redis) -> None:
    """client.kept.lost: when nothing can be found any more."""
    client = both()
    job = client.begin("run", "echo", keep=0.2)
    claim(redis)
    lose_subscription(redis)

    with pytest.raises(ConnectionLost, match="may have run"):
        client.result(job)


def test_a_handle_is_collected_elsewhere(both: Callable[..., Both], redis: Redis) -> None:
    """client.kept.handle, client.kept.collects: what is there, and what comes; as often as one likes."""
    here, there = both(), both()
    job = here.begin("run", "echo", [1], keep=60, detached=True)
    message = taken(redis)
    handle = job.handle
    assert handle.split(".")[0] == key_of(message).rpartition(":")[2]
    waiting = there.begin("collect", handle, timeout=DEADLINE_S)
    until(lambda: redis.pubsub_numsub(json.loads(message)["channel"])[0][1] == 2, "both")

    store(redis, message, [1])
    answer(redis, json.loads(message), result=[1])

    assert here.result(job) == [1]
    assert there.result(waiting) == [1]
    assert there.result(there.begin("collect", handle)) == [1]
    assert here.result(here.begin("collect", handle, delete=True)) == [1]
    until(lambda: not redis.exists(key_of(message)), "the result to be deleted")
    with pytest.raises(JobTimeout):
        here.result(here.begin("collect", handle, timeout=0.05))


def test_a_detached_job_has_its_own_channel(both: Callable[..., Both], redis: Redis) -> None:
    """client.kept.own-channel, client.subscribe.before-push: which its client leaves at the end."""
    client = both(keep=60)
    jobs = [client.begin("run", "echo", detached=True) for _ in range(2)]
    pushed = [claim(redis) for _ in jobs]
    channels = {each["channel"] for each in pushed}
    assert len(channels) == 2
    assert all(channel.startswith("job-queue:results:") for channel in channels)
    client.begin("run", "echo")
    assert claim(redis)["channel"] not in channels

    assert [answer(redis, each, result=each["id"]) for each in pushed] == [1, 1]

    assert [client.result(job) for job in jobs] == [each["id"] for each in pushed]
    until(lambda: len(redis.pubsub_channels("job-queue:results:*")) == 1, "no more channels")


def test_what_is_no_handle_is_refused(both: Callable[..., Both], redis: Redis) -> None:
    """client.kept.malformed: without a connection."""
    before = redis.info("stats")["total_connections_received"]
    with pytest.raises(InvalidHandle):
        both().begin("collect", "4a0fa57e", timeout=1)
    assert redis.info("stats")["total_connections_received"] == before


def test_a_detached_job_must_be_kept_and_queued(both: Callable[..., Both], redis: Redis) -> None:
    """client.settle.not-queued, client.kept.handle: otherwise nobody could collect anything."""
    with pytest.raises(ValueError, match="keep"):
        both().begin("run", "echo", detached=True)
    redis.lpush("other", "x")
    redis.rename("other", "job-queue")
    redis.set("wrong", "type")
    with pytest.raises(NotQueued):
        both(queue="wrong").begin("run", "echo", detached=True, keep=60)


def test_a_cancelled_caller_leaves_nothing_behind(redis_url: str, redis: Redis) -> None:
    """client.push.settled: whether it waits for its handle, for the result, or collects."""

    async def scenario() -> None:
        async with aio.Client(redis_url, keep=60) as client:
            shared = await client.run("first")
            job = await client.run("echo", detached=True)
            waiting = [
                asyncio.ensure_future(each)
                for each in (
                    _result_of(client.collect(str(job.handle))),
                    _result_of(client.run("echo", detached=True)),
                    job,
                )
            ]
            await asyncio.to_thread(
                until, lambda: len(redis.pubsub_channels("job-queue:*")) == 3, "three channels"
            )
            for task in waiting:
                task.cancel()
            assert await asyncio.gather(*waiting, return_exceptions=True)
            await asyncio.to_thread(
                until, lambda: len(redis.pubsub_channels("job-queue:*")) == 1, "one channel"
            )
            (session,) = client._sessions.values()
            assert len(session._calls) == 1
            shared.cancel()

    asyncio.run(asyncio.wait_for(scenario(), DEADLINE_S))


async def _result_of(running: Any) -> Any:
    return await (await running)


def test_an_interrupted_caller_leaves_nothing_behind(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """client.push.settled: Ctrl-C while it waits for the handle."""

    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    with Client(redis_url, keep=60) as client:
        monkeypatch.setattr("jobqueue.threads.job.Job.wait_for_handle", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.run("echo", detached=True)
        (session,) = client._sessions.values()
        until(lambda: not len(session._calls), "the job to be removed")
    assert not redis.pubsub_channels("job-queue:*")
