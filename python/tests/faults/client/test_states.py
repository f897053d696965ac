"""What is true after an exception: a client, a job and a server are what their docstrings say."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import Client, JobError, NotQueued, ProcessorInUse

from tests.conftest import until
from tests.faults.caller import DEADLINE_S, Caller, finish
from tests.faults.serving import KINDS, AnyServer, Thread, make

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from tests.faults.worker import Worker

CANCELLED = (concurrent.futures.CancelledError, asyncio.CancelledError)


def test_a_wait_that_ends_leaves_the_job(redis_url: str, redis: Redis) -> None:
    """Every way to wait with a timeout ends by TimeoutError, and none of them changes the job."""
    with Client(redis_url) as client:
        job = client.run("echo")
        for wait in (
            job.result,
            job.exception,
            lambda timeout: next(concurrent.futures.as_completed([job], timeout)),
        ):
            for timeout in (0, -1, 0.01):
                with pytest.raises(TimeoutError):
                    wait(timeout)
        assert concurrent.futures.wait([job], 0) == (set(), {job})
        assert [job.done(), job.running(), job.cancelled()] == [False] * 3
        until(lambda: redis.llen("job-queue") == 1, "the job on the queue")

        redis.publish(job.channel, f'{{"id": "{job.id}", "result": 1}}')

        assert job.result(DEADLINE_S) == 1
        assert concurrent.futures.wait([job]) == ({job}, set())
        assert list(concurrent.futures.as_completed([job, job])) == [job]


def test_a_cancelled_job_stays_cancelled(caller: Caller, worker: Worker) -> None:
    """Cancelling may be done again; all waits end, and each callback is called once."""
    job = caller.run("never")
    called: list[bool] = []
    for _ in range(2):
        caller.call(lambda _: job.add_done_callback(lambda job: called.append(job.cancelled())))
    waiting = caller.start(lambda _: _outcome(job))

    # One of asyncio can't be cancelled twice, which says so; both are the standard library's own ways.
    assert caller.call(lambda _: [job.cancel(), job.cancelled(), job.done()]) == [True, True, True]
    caller.call(lambda _: job.cancel())

    with pytest.raises(CANCELLED):
        finish(waiting)
    assert caller.outcome(caller.run("echo", 1)) == 1
    until(lambda: called == [True, True], "the callbacks to be called")
    caller.close()
    assert job.cancelled()
    assert worker.claimed


def _outcome(job: Any) -> Any:
    if isinstance(job, asyncio.Future):
        return asyncio.wait_for(job, DEADLINE_S)
    return job.result(DEADLINE_S)


def test_a_settled_job_cant_be_cancelled(caller: Caller, worker: Worker) -> None:
    """It keeps its value or its error, however often one asks."""
    done, failed = caller.run("echo", 1), caller.run("fail")
    assert caller.outcome(done) == 1
    error = caller.outcome(failed)

    assert caller.call(lambda _: [done.cancel(), failed.cancel()]) == [False, False]

    assert isinstance(error, JobError)
    assert caller.outcome(done) == 1
    assert caller.outcome(failed) is error
    with pytest.raises(JobError):
        failed.result()
    assert not done.cancelled()
    assert worker.claimed


def test_a_closed_client_stays_closed(caller: Caller, redis: Redis) -> None:
    """Several may close it at once; then every call is refused, and pushes nothing."""
    caller.run("first")
    for closing in [caller.start(lambda client: client.close()) for _ in range(5)]:
        finish(closing)

    for call in (lambda client: client.run("late"), lambda client: client.run_many([("late", 1)])):
        with pytest.raises(ValueError, match="closed"):
            caller.call(call)
    caller.close()

    assert redis.llen("job-queue") == 1


def test_a_job_that_isnt_queued_disturbs_no_other(caller: Caller, redis: Redis) -> None:
    """Where Redis refuses one push, the next one is on the queue."""
    redis.set("job-queue", "no list")
    assert isinstance(caller.outcome(caller.run("refused")), NotQueued)
    redis.delete("job-queue")

    caller.run("queued")

    until(lambda: redis.llen("job-queue") == 1, "the next job")


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_whose_name_is_in_use_may_run_later(
    kind: str, thread: Callable[[AnyServer], Thread], client: Client, redis_url: str
) -> None:
    """ProcessorInUse, and nothing was done: it runs as soon as the other has ended."""
    first, second = make(kind, redis_url), make(kind, redis_url)
    for server in (first, second):
        server.on("echo", lambda value: value)
    running = thread(first)
    assert running.settled(client.run("echo", 1)).result(0) == 1

    for _ in range(2):
        refused = thread(second)
        until(lambda refused=refused: refused.ended, "it to be refused")  # type: ignore[misc] # a default's type
        assert isinstance(refused.error, ProcessorInUse)
    running.stop()

    assert thread(second).settled(client.run("echo", 2)).result(0) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_stopped_before_it_runs(
    kind: str, thread: Callable[[AnyServer], Thread], redis: Redis, redis_url: str
) -> None:
    """It answers what is on its list, claims nothing, returns, and runs no more."""
    server = make(kind, redis_url)
    server.on("echo", lambda value: value)
    message = '{"method": "echo", "channel": "c", "id": "1"}'
    redis.lpush(server.in_process, message)
    redis.lpush("job-queue", message)

    server.stop()
    running = thread(server)

    until(lambda: running.ended, "it to end")
    assert running.error is None
    assert (redis.llen(server.in_process), redis.llen("job-queue")) == (0, 1)
    again = thread(server)
    until(lambda: again.ended, "it to be refused")
    assert isinstance(again.error, RuntimeError)
