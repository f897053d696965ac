"""A Redis that is connected and silent: each call returns by its timeout, whatever Redis does."""

import json
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from jobqueue import JobQueueError
from redis import Redis

from tests.conftest import RedisProcess, until
from tests.faults.caller import PROMPT_S, Caller, finish
from tests.faults.relay import Relay
from tests.faults.worker import Worker

LARGE = [("large", "x" * 900_000)] * 14  # more than the sockets between us and Redis hold


def require_whole(caller: Caller) -> None:
    """Show that the client works as ever, now that Redis speaks again."""
    assert until(lambda: caller.outcome(caller.run("echo", 1, timeout=2)) == 1, "a result")


def test_a_push_to_a_frozen_redis(
    caller: Caller, worker: Worker, redis_process: RedisProcess
) -> None:
    """client.timeout.settles: on connections that are there, run and its job end in time."""
    assert caller.outcome(caller.run("echo", 1)) == 1
    with redis_process.frozen():
        job = caller.run("echo", 2, timeout=0.3, within=PROMPT_S)
        assert isinstance(caller.outcome(job, PROMPT_S), JobQueueError)
    require_whole(caller)
    assert worker.claimed


def test_more_than_the_socket_holds(
    caller: Caller, worker: Worker, redis_process: RedisProcess
) -> None:
    """client.timeout.settles: bytes that Redis doesn't accept don't delay the caller."""
    assert caller.outcome(caller.run("echo", 1)) == 1
    with redis_process.frozen():
        pushing = caller.start(lambda client: client.run_many(LARGE, timeout=0.3))
        for job in finish(pushing, PROMPT_S):
            assert isinstance(caller.outcome(job, PROMPT_S), JobQueueError)
    require_whole(caller)
    assert worker.claimed


def start_large_push(caller: Caller, relay: Relay) -> Future[Any]:
    """Begin a push that doesn't come to its end, as the relay is held."""
    received = relay.received
    pushing = caller.start(lambda client: client.run_many(LARGE))
    until(lambda: relay.received > received, "the large push to be under way")
    return pushing


def test_a_bystander_of_a_push_that_waits(
    make_caller: Callable[..., Caller], relay: Relay, worker: Worker
) -> None:
    """client.timeout.settles: a push that Redis doesn't accept doesn't delay other callers."""
    caller = make_caller(relay.url)
    assert caller.outcome(caller.run("echo", 1)) == 1
    with relay.held():
        start_large_push(caller, relay)

        job = caller.run("echo", 2, timeout=0.3, within=PROMPT_S)
        assert isinstance(caller.outcome(job, PROMPT_S), JobQueueError)
    assert worker.claimed


def test_closing_beside_a_push_that_waits(
    make_caller: Callable[..., Caller], relay: Relay, worker: Worker
) -> None:
    """`close` asks nothing of Redis: it returns at once, and so does the push."""
    caller = make_caller(relay.url)
    assert caller.outcome(caller.run("echo", 1)) == 1
    with relay.held():
        pushing = start_large_push(caller, relay)

        caller.close(PROMPT_S)
        for job in finish(pushing, PROMPT_S):
            assert isinstance(caller.outcome(job, PROMPT_S), JobQueueError)
    assert worker.claimed


def test_connecting_again_to_push(
    make_caller: Callable[..., Caller], relay: Relay, worker: Worker
) -> None:
    """client.timeout.settles: callers whose push needs a new connection return in time."""
    lose_and_run(make_caller(f"{relay.url}?protocol=2"), relay, (False,))
    assert worker.claimed


@pytest.mark.parametrize("subscribed", [(True,), (True, False)], ids=["results", "both"])
def test_connecting_again_for_results(
    make_caller: Callable[..., Caller], relay: Relay, worker: Worker, subscribed: tuple[bool, ...]
) -> None:
    """client.timeout.settles: whichever connection has to be made again, run returns in time."""
    lose_and_run(make_caller(relay.url), relay, subscribed)
    assert worker.claimed


def lose_and_run(caller: Caller, relay: Relay, subscribed: tuple[bool, ...]) -> None:
    """Have four calls at once connect again to what accepts and is silent; then all is well."""
    assert caller.outcome(caller.run("echo", 1)) == 1
    with relay.held():
        relay.lose(subscribed=subscribed)
        calls = [caller.start(lambda client: client.run("echo", 2, timeout=0.3)) for _ in range(4)]
        for call in calls:
            assert isinstance(caller.outcome(finish(call, PROMPT_S), PROMPT_S), JobQueueError)
    require_whole(caller)


def test_a_first_job_and_a_frozen_redis(
    caller: Caller, redis_process: RedisProcess, worker: Worker
) -> None:
    """client.timeout.settles: a client that was never connected returns in time, and recovers."""
    with redis_process.frozen():
        job = caller.run("echo", 2, timeout=0.3, within=PROMPT_S)
        assert isinstance(caller.outcome(job, PROMPT_S), JobQueueError)
    require_whole(caller)
    assert worker.claimed


def test_a_job_that_timed_out_before_its_push_is_never_pushed(
    make_caller: Callable[..., Caller], relay: Relay, redis: Redis
) -> None:
    """client.settle.once: what its caller has given up isn't pushed when the network comes back."""
    caller = make_caller(relay.url)
    with relay.held():
        job = caller.run("late", timeout=0.2, within=PROMPT_S)
        assert isinstance(caller.outcome(job, PROMPT_S), JobQueueError)

    until(lambda: [caller.run("next")] and redis.llen("job-queue"), "the next job to be pushed")
    messages: Any = redis.lrange("job-queue", 0, -1)
    assert {json.loads(message)["method"] for message in messages} == {"next"}


def test_writes_that_are_paused(caller: Caller, redis: Redis, worker: Worker) -> None:
    """client.timeout.settles: CLIENT PAUSE keeps pushes back; run and its job end in time."""
    assert caller.outcome(caller.run("echo", 1)) == 1
    redis.client_pause(60_000, all=False)
    try:
        job = caller.run("echo", 2, timeout=0.3, within=PROMPT_S)
        assert isinstance(caller.outcome(job, PROMPT_S), JobQueueError)
    finally:
        redis.client_unpause()
    require_whole(caller)
    assert worker.claimed


def test_closing_while_redis_is_frozen(
    caller: Caller, worker: Worker, redis_process: RedisProcess
) -> None:
    """`close` settles what is left and returns at once: it has nothing to ask Redis for."""
    assert caller.outcome(caller.run("echo", 1)) == 1
    with redis_process.frozen():
        job = caller.run("echo", 2)
        caller.close(PROMPT_S)
        assert isinstance(caller.outcome(job, PROMPT_S), JobQueueError)
    assert worker.claimed


@pytest.mark.parametrize("first", [True, False], ids=["first", "again"])
def test_closing_while_a_call_connects(
    make_caller: Callable[..., Caller], relay: Relay, redis: Redis, worker: Worker, first: bool
) -> None:
    """`close` ends all jobs: no caller waits on, and nothing is pushed afterwards."""
    caller = make_caller(relay.url)
    if not first:
        assert caller.outcome(caller.run("echo", 1)) == 1
    worker.stop()
    with relay.held():
        if not first:
            relay.lose()
        pushing = caller.start(lambda client: client.run("late"))
        until(lambda: relay.connections, "the client to connect")

        caller.close(PROMPT_S)
        job = finish(pushing, PROMPT_S)
        assert isinstance(caller.outcome(job, PROMPT_S), JobQueueError)
    until(lambda: relay.connections == 0, "no connection of the client to be left")
    assert redis.llen("job-queue") == 0


def test_waits_end_while_redis_is_frozen(caller: Caller, redis_process: RedisProcess) -> None:
    """A job can be cancelled, whatever Redis does, and is no longer waited for then."""
    job = caller.run("never")
    with redis_process.frozen():
        assert caller.call(lambda _: job.cancel(), PROMPT_S)
    assert job.cancelled()
