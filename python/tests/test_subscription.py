"""Who receives the results: the thread of the subscription, or for a moment the only one who waits.

In most of these tests a moment lasts for ever, so that nothing comes right by waiting.
"""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from jobqueue import Client, ConnectionLost, Job
from jobqueue.threads import pusher, subscription
from jobqueue.wire import pools
from redis import Redis

from tests.conftest import DEADLINE_S, RedisProcess, until
from tests.test_client import answer, claim, lose_subscription


@pytest.fixture(autouse=True)
def moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment lasts for ever."""
    monkeypatch.setattr(subscription, "MOMENT_SECONDS", 1_000.0)


@contextmanager
def meanwhile(act: Callable[..., Any], *arguments: Any) -> Iterator[None]:
    """Do something in another thread, as long as the `with` block lasts."""
    thread = threading.Thread(target=act, args=arguments, daemon=True)
    thread.start()
    yield
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def answer_next(redis: Redis) -> dict[str, Any]:
    """Answer the next job, and return it."""
    job = claim(redis)
    answer(redis, job)
    return job


def receives_itself(client: Client, redis: Redis) -> bool:
    """Run one job, and tell whether the thread that waited for it has received its result."""
    settled_by: list[threading.Thread] = []
    job = client.run("echo")
    job.add_done_callback(lambda _: settled_by.append(threading.current_thread()))
    with meanwhile(answer_next, redis):
        job.result(DEADLINE_S)
    return settled_by == [threading.current_thread()]


@pytest.fixture
def resting(client: Client, redis: Redis) -> Client:
    """A client whose thread rests, because a caller receives."""
    until(lambda: receives_itself(client, redis), "a caller to receive")
    return client


def test_who_waits_for_the_only_job_receives(resting: Client, redis: Redis) -> None:
    """No other thread has to wake the caller, once one has waited."""
    assert receives_itself(resting, redis)


def test_the_thread_receives_what_a_caller_leaves(resting: Client, redis: Redis) -> None:
    """client.concurrent.in-flight: another job's result is received, though nobody waits for it."""
    others: list[Job] = []

    def run_another() -> None:
        pushed = claim(redis)
        others.append(resting.run("echo", "other"))
        answer(redis, pushed)

    job = resting.run("echo")
    with meanwhile(run_another):
        job.result(DEADLINE_S)
    answer_next(redis)

    until(others[0].done, "the other job's result")


def test_several_callers_are_all_answered(resting: Client, redis: Redis) -> None:
    """client.concurrent.in-flight: only one of them can receive."""
    total = 8 * 20

    def serve() -> None:
        for _ in range(total):
            answer_next(redis)

    def use() -> None:
        for _ in range(20):
            resting.run("echo").result(DEADLINE_S)
        done.release()

    done = threading.Semaphore(0)
    with meanwhile(serve):
        for _ in range(8):
            threading.Thread(target=use, daemon=True).start()
        assert all(done.acquire(timeout=DEADLINE_S) for _ in range(8))


def test_a_wait_ends_in_time(resting: Client, redis: Redis) -> None:
    """The timeout of a wait holds while the caller receives; the result still comes."""
    job = resting.run("echo")

    with pytest.raises(TimeoutError):
        job.result(timeout=0.05)

    answer_next(redis)
    until(job.done, "the result")


def test_a_jobs_timeout_ends_the_wait(
    resting: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """client.timeout.settles: what another thread settles is noticed after a moment."""
    monkeypatch.setattr(subscription, "MOMENT_SECONDS", 0.01)

    job = resting.run("echo", timeout=0.05)

    assert job.exception(DEADLINE_S) is not None
    claim(redis)


def test_a_subscription_lost_while_a_caller_receives(resting: Client, redis: Redis) -> None:
    """client.lost.settles, client.lost.resubscribes: the thread takes over."""
    job = resting.run("echo")

    def lose() -> None:
        claim(redis)
        lose_subscription(redis)

    with meanwhile(lose):
        assert isinstance(job.exception(DEADLINE_S), ConnectionLost)

    with meanwhile(answer_next, redis):
        assert resting.run("echo").result(DEADLINE_S) is None


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, connect: Callable[..., Client]) -> Client:
    """A client that soon takes a silent Redis for dead."""
    monkeypatch.setattr(pools, "REPLY_SECONDS", 0.2)
    monkeypatch.setattr(pusher, "REPLY_SECONDS", 0.2)
    return connect()


def is_lost(client: Client, redis: Redis, redis_process: RedisProcess) -> bool:
    """Tell whether a job is settled as lost while Redis stands still."""
    job = client.run("echo")
    claim(redis)
    with redis_process.frozen():
        return isinstance(job.exception(DEADLINE_S), ConnectionLost)


def test_a_dead_peer_is_noticed(
    impatient: Client, redis: Redis, redis_process: RedisProcess
) -> None:
    """client.lost.settles: where Redis doesn't even answer PING, a job isn't waited for any more."""
    assert is_lost(impatient, redis, redis_process)


def test_a_dead_peer_is_noticed_though_the_thread_rests(
    impatient: Client, redis: Redis, redis_process: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """client.lost.settles: a caller that receives leaves it to the thread to ask."""
    monkeypatch.setattr(subscription, "MOMENT_SECONDS", 0.05)
    until(lambda: receives_itself(impatient, redis), "a caller to receive")

    assert is_lost(impatient, redis, redis_process)


def test_a_callback_of_a_caller_that_receives_may_close(resting: Client, redis: Redis) -> None:
    """Closing waits for the thread, which waits for its turn, which the caller has."""
    job = resting.run("echo")
    job.add_done_callback(lambda _: resting.close())

    with meanwhile(answer_next, redis):
        assert job.result(DEADLINE_S) is None

    until(lambda: len(redis.client_list()) == 1, "no connection of the client to be left")


def test_control_c_while_a_caller_receives(resting: Client, redis: Redis) -> None:
    """The wait is over, and since half a message may be lost, so is the connection."""
    job = resting.run("echo")

    def interrupt() -> None:
        claim(redis)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), meanwhile(interrupt):
        job.result(DEADLINE_S)

    assert isinstance(job.exception(DEADLINE_S), ConnectionLost)
    with meanwhile(answer_next, redis):
        assert resting.run("echo").result(DEADLINE_S) is None


def test_control_c_in_a_callback(resting: Client, redis: Redis) -> None:
    """It is the caller's, and not for the log."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    job = resting.run("echo")
    job.add_done_callback(interrupt)

    with pytest.raises(KeyboardInterrupt), meanwhile(answer_next, redis):
        job.result(DEADLINE_S)

    assert job.result(DEADLINE_S) is None
    with meanwhile(answer_next, redis):
        assert resting.run("echo").result(DEADLINE_S) is None


def test_a_child_takes_no_result_from_its_parent(resting: Client, redis: Redis) -> None:
    """client.channel.name: after a fork, whoever waits in the child for the parent's job."""
    job = resting.run("echo")
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, our point
        child = os.fork()
    if not child:
        os.write(writer, b"waits")
        try:
            job.result(timeout=0.5)
        except TimeoutError:
            os._exit(0)
        os._exit(1)

    assert os.read(reader, 100) == b"waits"
    with meanwhile(answer_next, redis):
        assert os.waitpid(child, 0)[1] == 0
    assert job.result(DEADLINE_S) is None
    os.close(reader)
    os.close(writer)
