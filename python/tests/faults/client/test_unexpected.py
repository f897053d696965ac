"""Unexpected exceptions in a thread or a task of the library: every job is settled with a message."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from jobqueue import Client, JobError, JobQueueError, aio
from redis import Connection, ConnectionPool, Redis
from redis import asyncio as redis_aio

from tests.conftest import until
from tests.faults.caller import DEADLINE_S, Caller
from tests.faults.program import run_program
from tests.faults.relay import Relay
from tests.faults.serving import KINDS, AnyServer, Thread, make
from tests.faults.worker import Worker


class Hostile(logging.Handler):
    """A handler of logs that fails, as one does whose disk is full."""

    def emit(self, record: logging.LogRecord) -> None:
        """Fail."""
        raise OSError(28, f"no space left for {record.name}")


@pytest.fixture
def hostile_log() -> Iterator[None]:
    """Our loggers have such a handler."""
    logger, handler = logging.getLogger("jobqueue"), Hostile()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.usefixtures("hostile_log")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_log_that_fails(make_caller: Callable[..., Caller], relay: Relay, worker: Worker) -> None:
    """A connection is lost, which can't be logged: every waiter is notified, and the next job works."""
    caller = make_caller(relay.url)
    jobs = [caller.run("never"), caller.run("never", timeout=0.3)]
    assert caller.outcome(caller.run("echo", 1)) == 1

    relay.lose()

    for job in jobs:
        assert isinstance(caller.outcome(job), JobQueueError)
    assert until(lambda: caller.outcome(caller.run("echo", 2, timeout=1)) == 2, "a result")
    assert worker.claimed


@pytest.mark.usefixtures("hostile_log")
@pytest.mark.parametrize("kind", KINDS)
def test_a_log_that_fails_while_jobs_are_served(
    kind: str, thread: Callable[[AnyServer], Thread], client: Client, redis_url: str, redis: Redis
) -> None:
    """Whatever there is to say, the server goes on: each job is answered, and each dead one buried."""
    server = make(kind, redis_url)
    server.on("echo", lambda value: value)
    server.on("fail", lambda _: 1 / 0)
    server.on("hostile", lambda _: object())
    running = thread(server)
    assert running.settled(client.run("echo", 1)).result(0) == 1

    redis.lpush("job-queue", "no job")
    for method in ("fail", "hostile", "nobody's"):
        assert isinstance(running.settled(client.run(method)).exception(0), JobError)
    until(lambda: redis.llen("job-queue:dead") == 1, "it on the dead list")
    redis.client_kill_filter(_type="normal", skipme=True)

    assert running.settled(client.run("echo", 2)).result(0) == 2
    running.stop()
    assert running.error is None


UNEXPECTED = [ValueError, RuntimeError, MemoryError, RecursionError]


@pytest.mark.parametrize("unexpected", UNEXPECTED)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_connection_class_that_fails(
    colour: str, redis: Redis, worker: Worker, unexpected: type[BaseException]
) -> None:
    """An application's own class raises what redis-py never does: the job says it, the next works."""
    failures = [unexpected("the first attempt")]
    port = redis.get_connection_kwargs()["port"]

    class Failing(Connection):
        def connect(self, *args: Any, **options: Any) -> None:
            if failures:
                raise failures.pop()
            super().connect(*args, **options)  # type: ignore[no-untyped-call]

    class FailingAio(redis_aio.Connection):
        async def connect(self, *args: Any, **options: Any) -> None:
            if failures:
                raise failures.pop()
            await super().connect(*args, **options)  # type: ignore[no-untyped-call]

    settings: dict[str, Any] = {"port": port, "retry": None, "socket_timeout": 5, "protocol": 3}
    source: Any
    if colour == "threads":
        source = Redis(connection_pool=ConnectionPool(connection_class=Failing, **settings))
    else:
        source = redis_aio.Redis(
            connection_pool=redis_aio.ConnectionPool(connection_class=FailingAio, **settings)
        )
    caller = Caller(colour, source)

    outcome = caller.outcome(caller.run("never"))
    assert isinstance(outcome, JobQueueError)
    assert "the first attempt" in str(outcome)
    assert caller.outcome(caller.run("echo", 2)) == 2
    caller.close()
    assert worker.claimed


NONSENSE = {
    "no RESP": b"what?\r\n",
    "an endless length": b"*99999999999999999999999\r\n",
    "a negative length": b"$-7\r\n",
    "a deep nesting": b"*1\r\n" * 10_000,
    "replies to nothing": b":1\r\n:1\r\n:1\r\n",
    "a push without a word": b">0\r\n",
    "a word of another type": b"*3\r\n:1\r\n:2\r\n:3\r\n",
    "a message without a text": b">3\r\n$7\r\nmessage\r\n$1\r\nx\r\n_\r\n",
    "a map": b"%1\r\n+a\r\n+b\r\n",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_a_redis_that_talks_nonsense(
    make_caller: Callable[..., Caller], relay: Relay, worker: Worker, name: str
) -> None:
    """Whatever comes in place of a reply, its caller isn't left waiting, and the next job works."""
    caller = make_caller(relay.url)
    assert caller.outcome(caller.run("echo", 1)) == 1

    relay.answers[b"LPUSH"] = NONSENSE[name]
    job = caller.run("never", timeout=0.3)
    assert isinstance(caller.outcome(job), JobQueueError)
    relay.answers.clear()

    assert until(lambda: caller.outcome(caller.run("echo", 2, timeout=1)) == 2, "a result")
    assert worker.claimed


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_thread_that_cant_be_started_once(
    colour: str, redis_url: str, worker: Worker, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A limit of threads is a matter of a moment: no caller hangs, and the next job works."""
    caller = Caller(colour, redis_url.replace("127.0.0.1", "localhost"))
    caller.call(lambda _: None)
    start = threading.Thread.start
    ours = ("jobqueue", "asyncio_")
    left = number

    def refuse_once(thread: threading.Thread) -> None:
        nonlocal left
        if thread.name.startswith(ours):
            left -= 1
            if left == 0:
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    called: Future[Any] = Future()
    job = caller.run("echo", 1, timeout=2)
    caller.call(lambda _: job.add_done_callback(lambda _: called.set_result(None)))
    assert caller.outcome(job) == 1 or isinstance(caller.outcome(job), JobQueueError)

    assert called.result(DEADLINE_S) is None, (
        "expected the callback, whether other jobs come or not"
    )
    assert caller.outcome(caller.run("echo", 2)) == 2
    caller.close()
    assert worker.claimed


def test_a_program_that_closes_all_descriptors(redis_url: str, worker: Worker) -> None:
    """All waits end, at most one more job isn't queued, and the next ones work."""
    program = """
    import logging, os, sys
    from jobqueue import Client, JobQueueError, JobTimeout
    logging.disable()
    client = Client(sys.argv[1])
    for number in range(20):
        waits = client.run("never", timeout=0.05)
        assert client.run("echo", number).result(5) == number
        os.closerange(3, 256)
        assert isinstance(waits.exception(5), JobQueueError)
        refused = client.run("echo", timeout=2).exception(5)
        assert refused is None or isinstance(refused, JobQueueError)
    client.close()
    """
    assert run_program(program, redis_url) == ""
    assert worker.claimed


def test_a_callback_that_cancels_under_a_lock_of_the_application(redis_url: str) -> None:
    """Callbacks hold no lock of ours: another thread cancels other jobs meanwhile."""
    guard, entered, swept = threading.Lock(), threading.Event(), threading.Event()
    with Client(redis_url) as one, Client(redis_url) as other:
        first, second, third = one.run("never"), other.run("never"), one.run("never")

        def forget(_: object) -> None:
            entered.set()
            with guard:
                assert swept.is_set()

        def sweep() -> None:
            with guard:
                assert entered.wait(DEADLINE_S)
                second.cancel()
                third.cancel()
                first.cancel()
                swept.set()

        first.add_done_callback(forget)
        sweeping = threading.Thread(target=sweep, daemon=True)
        sweeping.start()
        until(guard.locked, "the sweep to have begun")
        cancelling = threading.Thread(target=first.cancel, daemon=True)
        cancelling.start()
        for thread in (sweeping, cancelling):
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "expected no thread to wait for another"
        assert all(job.cancelled() for job in (first, second, third))


def test_a_loop_that_cancels_the_clients_tasks(redis_url: str, worker: Worker) -> None:
    """A framework that cancels all tasks ends the session when it has pushed; the next job works."""

    async def scenario() -> None:
        async with aio.Client(redis_url) as client:
            job = await client.run("never", timeout=60)
            assert await (await client.run("echo", 1)) == 1
            await client.run("last")
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            with pytest.raises(JobQueueError, match="cancelled"):
                await asyncio.wait_for(job, DEADLINE_S)
            assert await (await client.run("echo", 2)) == 2

    asyncio.run(scenario())
    assert [job["method"] for job in worker.claimed] == ["never", "echo", "last", "echo"]
