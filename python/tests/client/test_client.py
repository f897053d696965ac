"""The client on a real Redis; the tests play the servers with raw commands."""

import concurrent.futures
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from jobqueue import Client, ConnectionLost, Job, JobError, JobTimeout, NotQueued
from redis import Redis

from tests.conftest import DEADLINE_S, RedisProcess, until


def claim(redis: Redis) -> dict[str, Any]:
    """Take the oldest job off the queue, as soon as there is one."""
    job: dict[str, Any] = json.loads(until(lambda: redis.rpop("job-queue"), "a job on the queue"))
    return job


def answer(redis: Redis, job: dict[str, Any], **members: Any) -> int:
    """Publish a result, which is null where nothing else is said."""
    result = {"id": job["id"], **(members or {"result": None})}
    return int(redis.publish(job["channel"], json.dumps(result)))


def push_and_forget(client: Client, redis: Redis) -> None:
    """Push a job without waiting for it, and return when the client is idle."""
    job = client.run("echo")
    claim(redis)
    job.cancel()
    (session,) = client._sessions.values()
    until(lambda: not any(session._calls._links._outstanding), "the reply to the push to be read")


def lose_subscription(redis: Redis) -> None:
    """Have Redis close the connections that are subscribed."""
    assert redis.client_kill_filter(_type="pubsub")


def test_a_job_is_what_the_protocol_says(client: Client, redis: Redis) -> None:
    """client.job.form, client.channel.name: four members, on a channel of the client's own."""
    job = client.run("echo", {"request": "hello"})

    pushed = claim(redis)
    assert pushed == {
        "method": "echo",
        "parameters": {"request": "hello"},
        "channel": job.channel,
        "id": job.id,
    }
    assert job.channel.startswith("job-queue:results:")
    assert repr(job) == f"<Job 'echo' channel={job.channel} id={job.id} pending>"


def test_results_settle_their_jobs_in_any_order(client: Client, redis: Redis) -> None:
    """client.concurrent.in-flight: each job by its own result, as values or as errors."""
    jobs = [client.run("echo", number) for number in range(3)]
    pushed = [claim(redis) for _ in jobs]

    answer(redis, pushed[2], result=[0, None, False])
    answer(redis, pushed[0], error={"code": "shop.odd", "message": "m", "data": 1, "more": 2})
    answer(redis, pushed[1], result="", more=1)

    assert jobs[2].result(DEADLINE_S) == [0, None, False]
    assert jobs[1].result(DEADLINE_S) == ""
    error = jobs[0].exception(DEADLINE_S)
    assert isinstance(error, JobError)
    assert error.args == ("shop.odd", "m", 1)


def test_what_is_no_result_is_ignored(client: Client, redis: Redis) -> None:
    """client.ignore.malformed, client.ignore.unknown: any program may publish on a channel."""
    job = client.run("echo")
    pushed = claim(redis)

    for junk in (b"", b"\xff", b"[]", b"{}", b'{"id": "99", "result": 1}', b"[" * 9_999):
        redis.publish(job.channel, junk)
    answer(redis, pushed, result="first")
    answer(redis, pushed, result="second")

    assert job.result(DEADLINE_S) == "first"


def test_futures_of_the_standard_library_work(client: Client, redis: Redis) -> None:
    """A job is a future: callbacks, wait, as_completed and a wait of one's own."""
    jobs = client.run_many([("echo", 1), ("echo", 2)])
    called: list[Job] = []
    jobs[0].add_done_callback(called.append)  # type: ignore[arg-type]

    with pytest.raises(TimeoutError):
        jobs[0].result(timeout=0.01)
    for _ in jobs:
        answer(redis, claim(redis))

    assert not concurrent.futures.wait(jobs, DEADLINE_S).not_done
    assert set(concurrent.futures.as_completed(jobs)) == set(jobs)
    assert called == [jobs[0]]


def test_all_who_wait_for_a_job_are_woken(client: Client, redis: Redis) -> None:
    """A job makes what its waiters share when the first one comes, and several may come first."""
    jobs = client.run_many([("echo", number) for number in range(200)])
    together = threading.Barrier(5)
    woken: list[Job] = []

    def wait_for_each() -> None:
        for job in jobs:
            together.wait()
            job.result()
            woken.append(job)

    def all_woken(number: int) -> bool:
        return len(woken) == 4 * (number + 1)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that they come at the same time more often
    try:
        for _ in range(4):
            threading.Thread(target=wait_for_each, daemon=True).start()
        for number, job in enumerate(jobs):
            together.wait()
            answer(redis, claim(redis))
            until(partial(all_woken, number), f"all who wait for {job}")
    finally:
        sys.setswitchinterval(before)


def test_many_jobs_are_one_command(client: Client, redis: Redis) -> None:
    """client.push.left: in their order, in one round trip."""
    client.run_many([("echo", number) for number in range(100)])

    assert [claim(redis)["parameters"] for _ in range(100)] == list(range(100))
    redis.config_resetstat()
    client.run_many([("echo", number) for number in range(100)])
    until(lambda: redis.llen("job-queue") == 100, "the jobs")
    assert redis.info("commandstats")["cmdstat_lpush"]["calls"] == 1
    assert client.run_many([]) == []


def test_many_jobs_are_checked_before_the_first_is_pushed(client: Client, redis: Redis) -> None:
    """A mistake in one of them pushes none."""
    with pytest.raises(TypeError):
        client.run_many([("echo", 1), ("echo", object())])

    assert redis.dbsize() == 0


def test_threads_share_a_client(client: Client, redis: Redis) -> None:
    """client.concurrent.in-flight: no result goes to another job's thread."""
    total, stop = 8 * 50, threading.Event()

    def serve() -> None:
        for _ in range(total):
            job = claim(redis)
            answer(redis, job, result=job["parameters"])
        stop.set()

    server = threading.Thread(target=serve, daemon=True)
    server.start()

    def use(thread: int) -> list[Any]:
        return [client.run("echo", [thread, n]).result(DEADLINE_S) for n in range(50)]

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        results = list(threads.map(use, range(8)))

    assert results == [[[thread, n] for n in range(50)] for thread in range(8)]
    assert stop.wait(DEADLINE_S)


def test_a_timeout_settles_a_job(client: Client, redis: Redis) -> None:
    """client.timeout.settles, client.timeout.local: not before, and the shorter one first."""
    long = client.run("echo", timeout=DEADLINE_S)
    until(lambda: redis.llen("job-queue") == 1, "a job on the queue, and with it a connection")
    begun = time.monotonic()
    short = client.run("echo", timeout=0.5)

    assert isinstance(short.exception(DEADLINE_S), JobTimeout)
    assert time.monotonic() - begun >= 0.5
    assert not long.done()
    until(lambda: redis.llen("job-queue") == 2, "both jobs on the queue all the same")


def test_a_call_returns_though_redis_stands_still(
    client: Client, redis: Redis, redis_process: RedisProcess
) -> None:
    """client.timeout.settles: neither a push nor a timeout waits for Redis."""
    client.run("echo")
    claim(redis)

    with redis_process.frozen():
        job = client.run("echo", timeout=0.1)
        assert isinstance(job.exception(DEADLINE_S), JobTimeout)

    assert claim(redis)["id"] == job.id


def test_a_lost_subscription(client: Client, redis: Redis) -> None:
    """client.lost.settles, client.lost.waits, client.lost.resubscribes: by timeout or not."""
    untimed, timed = client.run("echo"), client.run("echo", timeout=DEADLINE_S)
    _, pushed = claim(redis), claim(redis)

    lose_subscription(redis)

    assert isinstance(untimed.exception(DEADLINE_S), ConnectionLost)
    until(lambda: answer(redis, pushed), "the client to subscribe again, on the same channel")
    assert timed.result(DEADLINE_S) is None
    new = client.run("echo")
    answer(redis, claim(redis), result="new")
    assert new.result(DEADLINE_S) == "new"


def test_a_callback_may_run_another_job(client: Client, redis: Redis) -> None:
    """client.lost.settles: a callback that tries again may even wait, and never for itself."""
    again: list[Job] = []
    tried = threading.Event()

    def run_again(_: object) -> None:
        again.append(client.run("echo", timeout=DEADLINE_S))
        again[0].exception(DEADLINE_S)
        tried.set()

    client.run("echo").add_done_callback(run_again)
    claim(redis)

    lose_subscription(redis)

    answer(redis, claim(redis), result="again")
    assert tried.wait(DEADLINE_S)
    assert again[0].result(DEADLINE_S) == "again"


@pytest.mark.parametrize("failure", [ValueError("callback"), SystemExit(3)])
def test_a_callback_may_fail(client: Client, redis: Redis, failure: BaseException) -> None:
    """client.concurrent.in-flight: whatever a callback raises, the other jobs are settled."""

    def fail(_: object) -> None:
        raise failure

    job = client.run("echo")
    job.add_done_callback(fail)
    answer(redis, claim(redis))
    assert job.result(DEADLINE_S) is None

    other = client.run("echo")
    answer(redis, claim(redis), result=1)

    assert other.result(DEADLINE_S) == 1


def test_cancelling_only_stops_the_waiting(client: Client, redis: Redis) -> None:
    """client.ignore.unknown: a cancelled job's late result is ignored."""
    job, other = client.run("echo"), client.run("echo")
    pushed = [claim(redis), claim(redis)]
    waiter = threading.Thread(target=lambda: concurrent.futures.wait([job]), daemon=True)
    waiter.start()

    assert job.cancel()
    assert job.cancel()
    waiter.join(DEADLINE_S)
    for each in pushed:
        answer(redis, each, result=1)

    assert (waiter.is_alive(), job.cancelled()) == (False, True)
    assert other.result(DEADLINE_S) == 1
    assert not other.cancel()


def test_a_refused_push_is_not_queued(client: Client, redis: Redis) -> None:
    """client.settle.not-queued: in Redis's words, and the client goes on."""
    push_and_forget(client, redis)
    redis.set("job-queue", "no list")

    error = client.run("echo", timeout=DEADLINE_S).exception(DEADLINE_S)

    assert isinstance(error, NotQueued)
    assert "WRONGTYPE" in str(error)
    redis.delete("job-queue")
    job = client.run("echo")
    answer(redis, claim(redis))
    assert job.result(DEADLINE_S) is None


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis://no host/0", "unix:///nowhere"])
def test_without_redis_nothing_is_queued(connect: Callable[..., Client], url: str) -> None:
    """client.settle.not-queued: no connection, no job, and no exception but the job's."""
    error = connect(url).run("echo").exception(DEADLINE_S)

    assert isinstance(error, NotQueued)


def test_a_restart_while_nothing_happens_costs_no_job(
    client: Client, redis: Redis, redis_process: RedisProcess
) -> None:
    """client.lost.resubscribes: idle connections that are gone are noticed before a push."""
    push_and_forget(client, redis)

    redis_process.kill()
    redis_process.start()

    job = client.run("echo", 1)
    answer(redis, claim(redis), result=1)
    assert job.result(DEADLINE_S) == 1


def test_an_idle_connection_that_was_closed_is_replaced(client: Client, redis: Redis) -> None:
    """client.push.once: the push goes out once, on a connection that is alive."""
    push_and_forget(client, redis)

    redis.client_kill_filter(_type="normal", skipme=True)

    job = client.run("echo", 1)
    answer(redis, claim(redis), result=1)
    assert job.result(DEADLINE_S) == 1
    assert redis.llen("job-queue") == 0


def test_closing_settles_what_is_left(client: Client, redis: Redis) -> None:
    """A closed client's jobs may have run; it accepts no more, and may be closed twice."""
    with client:
        job = client.run("echo")
        claim(redis)
    client.close()

    assert isinstance(job.exception(DEADLINE_S), ConnectionLost)
    with pytest.raises(ValueError, match="closed"):
        client.run("echo")
    until(lambda: len(redis.client_list()) == 1, "no connection of the client to be left")


@pytest.mark.parametrize(
    "arguments,error",
    [
        ({"method": ""}, ValueError),
        ({"method": 7}, TypeError),
        ({"method": "m", "parameters": {1}}, TypeError),
        ({"method": "m", "parameters": float("inf")}, ValueError),
        ({"method": "m", "timeout": -1}, ValueError),
        ({"method": "m", "timeout": float("nan")}, ValueError),
    ],
)
def test_a_callers_mistakes_are_raised(arguments: dict[str, Any], error: type[Exception]) -> None:
    """client.job.form, client.job.size: reported at the call, and nothing is pushed."""
    with Client("redis://127.0.0.1:1/0") as client, pytest.raises(error):
        client.run(**arguments)


def test_a_child_has_a_channel_of_its_own(client: Client, redis: Redis) -> None:
    """client.channel.name: after a fork, parent and child take no results from each other."""
    job = client.run("echo", "parent")
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forks with threads are tested here
        child = os.fork()
    if not child:
        os.write(writer, str(client.run("echo", "child").result(DEADLINE_S)).encode())
        os._exit(0)

    pushed = [claim(redis), claim(redis)]
    for each in pushed:
        answer(redis, each, result=each["parameters"])

    assert job.result(DEADLINE_S) == "parent"
    assert os.read(reader, 100) == b"child"
    assert pushed[0]["channel"] != pushed[1]["channel"]
    assert os.waitpid(child, 0)[1] == 0
    os.close(reader)
    os.close(writer)
