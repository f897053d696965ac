"""A Redis that refuses what it took before: a replica now, loading, full, or tired of a slow reader."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from jobqueue import Client, ConnectionLost, NotQueued
from redis import Redis

from tests.conftest import RedisProcess, until
from tests.faults.caller import DEADLINE_S, Caller
from tests.faults.relay import Relay
from tests.faults.worker import Worker, answer, claim

LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"


@contextmanager
def demoted(redis: Redis, relay: Relay) -> Iterator[None]:
    """Make Redis the replica of an address that doesn't answer; its connections stay (READONLY)."""
    assert relay.connections
    redis.replicaof("127.0.0.1", "1")
    try:
        yield
    finally:
        redis.replicaof("NO", "ONE")


@contextmanager
def stale(redis: Redis, relay: Relay) -> Iterator[None]:
    """Make it a replica that serves nothing while its primary is away (MASTERDOWN)."""
    redis.config_set("replica-read-only", "no")
    redis.config_set("replica-serve-stale-data", "no")
    try:
        with demoted(redis, relay):
            yield
    finally:
        redis.config_set("replica-read-only", "yes")
        redis.config_set("replica-serve-stale-data", "yes")


@contextmanager
def loading(redis: Redis, relay: Relay) -> Iterator[None]:
    """Have pushes answered as by a Redis that has just restarted (LOADING)."""
    assert redis.ping()
    relay.answers[b"LPUSH"] = LOADING
    try:
        yield
    finally:
        relay.answers.clear()


REFUSALS = {"READONLY": demoted, "MASTERDOWN": stale, "LOADING": loading}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_redis_that_serves_no_more_is_left(
    make_caller: Callable[..., Caller],
    relay: Relay,
    redis: Redis,
    second_redis: RedisProcess,
    code: str,
) -> None:
    """One push is refused, which ends the connection; the next looks the address up again.

    Who waits without a timeout learns that the connection is lost; who has one waits on.
    """
    caller = make_caller(relay.url)
    untimed, timed = caller.run("first"), caller.run("first", timeout=60)
    until(lambda: redis.llen("job-queue") == 2, "both jobs on the queue")
    with Redis(port=second_redis.port or 0, protocol=2) as other:
        other.flushall()
        with REFUSALS[code](redis, relay):
            relay.target = second_redis.port or 0
            refused = caller.run("refused")
            outcome = caller.outcome(refused)
            assert isinstance(outcome, NotQueued)
            assert code in str(outcome)
            assert isinstance(caller.outcome(untimed), ConnectionLost)

            relay.answers.clear()
            caller.run("next")
            assert claim(other)["method"] == "next"
            assert not timed.done()
    assert redis.llen("job-queue") == 2


def test_a_full_redis_refuses_one_job(
    make_caller: Callable[..., Caller], relay: Relay, redis: Redis
) -> None:
    """OOM settles its own job only: the connection stays, and with it all who wait."""
    caller = make_caller(relay.url)
    waiting = caller.run("waiting")
    job = claim(redis)
    accepted = relay.accepted
    redis.config_set("maxmemory", 1)
    refused = caller.run_many([("refused", 1), ("refused", 2)])
    for each in refused:
        assert isinstance(caller.outcome(each), NotQueued)
    redis.config_set("maxmemory", 0)

    caller.run("next")
    assert claim(redis)["method"] == "next"
    assert answer(redis, job, result=1) == 1
    assert caller.outcome(waiting) == 1
    assert relay.accepted == accepted, "expected the connection to be kept"


@pytest.fixture
def small_buffer(redis: Redis) -> Iterator[None]:
    """A Redis that soon cuts off a subscriber who doesn't read."""
    name = "client-output-buffer-limit"
    before = redis.config_get(name)[name]
    redis.config_set(name, "pubsub 4mb 1mb 5")
    yield
    redis.config_set(name, str(before))


BIG = [("echo", "x" * 900_000)] * 30


@pytest.mark.usefixtures("small_buffer")
def test_big_results_in_bulk(caller: Caller, worker: Worker) -> None:
    """Reading keeps up with whatever Redis sends: no client is disconnected, and no wait times out."""
    jobs = caller.run_many(BIG, timeout=30)
    assert [len(caller.outcome(job, 30)) for job in jobs] == [900_000] * 30
    assert len(worker.claimed) == 30


@pytest.mark.usefixtures("small_buffer")
def test_a_callback_that_blocks_delays_no_reading(redis_url: str, worker: Worker) -> None:
    """The first callback blocks until all the other results are there: so they must come before."""
    arrived = threading.Event()
    blocked = threading.Event()

    def block(_: object) -> None:
        blocked.set()
        arrived.wait()

    with Client(redis_url) as client:
        first = client.run("echo", 1, timeout=30)
        first.add_done_callback(block)
        try:
            assert blocked.wait(DEADLINE_S)
            jobs = client.run_many(BIG, timeout=30)
            assert [len(job.result(30)) for job in jobs] == [900_000] * 30
        finally:
            arrived.set()
    assert len(worker.claimed) == 31
