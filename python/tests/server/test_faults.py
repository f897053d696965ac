"""Servers of all four kinds, and what no fault may lose."""

import json
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jobqueue import (
    Client,
    ConnectionLost,
    JobError,
    JobTimeout,
    ProcessorInUse,
    Server,
    admin,
    aio,
)
from jobqueue.protocol import keys
from redis import Redis

from tests.conftest import DEADLINE_S, RedisProcess, left, run_here, until
from tests.server.test_server import Serve, echo, job

Program = subprocess.Popen[str]


class Gate:
    """A handler that stands still until it is let go."""

    def __init__(self) -> None:
        self.runs: list[Any] = []
        self._entered = threading.Semaphore(0)
        self._opened = threading.Event()

    def __call__(self, parameters: Any) -> Any:
        """Stand still, and return the parameters."""
        self.runs.append(parameters)
        self._entered.release()
        assert self._opened.wait(DEADLINE_S), "expected the gate to be opened"
        return parameters

    def wait(self) -> None:
        """Wait until a handler stands in the gate."""
        assert self._entered.acquire(timeout=DEADLINE_S), "expected a handler to be called"

    def open(self) -> None:
        """Let it go."""
        self._opened.set()


@pytest.fixture
def gate() -> Gate:
    """A closed gate."""
    return Gate()


def test_a_job_that_kills_its_server_is_given_up(
    start: Callable[[], Program], client: Client, redis: Redis
) -> None:
    """server.attempts.limit: after four deaths its client is answered, and so are all others."""
    jobs = client.run_many([("echo", 1), ("die", None), *[("echo", 2)] * 20])
    for _ in range(4):
        assert start().wait(DEADLINE_S) == -signal.SIGKILL
    start()

    with pytest.raises(JobError) as raised:
        jobs[1].result(DEADLINE_S)
    assert raised.value.code == "too-many-attempts"
    assert [each.result(DEADLINE_S) for each in (jobs[0], *jobs[2:])] == [1, *[2] * 20]
    until(lambda: redis.llen("job-queue:in-process:program") == 0, "an empty list")
    (buried,) = admin.dead_messages(redis)
    assert json.loads(buried.message)["method"] == "die"
    assert redis.get(keys.attempts(b"job-queue", buried.message)) == b"4"


def test_a_server_that_is_killed_runs_its_job_again(
    start: Callable[[], Program], client: Client, redis: Redis
) -> None:
    """server.recovery.first: the job of a process that died by kill -9 is started at once again."""
    client.run("hang")
    killed = start()
    assert killed.stdout is not None
    assert killed.stdout.readline() == "running\n"

    killed.kill()
    killed.wait()
    again = start()

    assert again.stdout is not None
    assert again.stdout.readline() == "running\n"
    assert redis.llen("job-queue:in-process:program") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_gracefully(
    start: Callable[[], Program], client: Client, number: signal.Signals
) -> None:
    """server.stop.exit: the server ends with the status 0."""
    program = start()
    assert client.run("echo", 1, timeout=DEADLINE_S).result() == 1

    program.send_signal(number)

    assert program.wait(DEADLINE_S) == 0


def test_a_second_sigint_stops_at_once(start: Callable[[], Program], client: Client) -> None:
    """A handler that doesn't end can't prevent a second SIGINT."""
    program = start()
    client.run("hang")
    assert program.stdout is not None
    assert program.stdout.readline() == "running\n"

    def interrupt() -> bool:
        program.send_signal(signal.SIGINT)
        return program.poll() is not None

    until(interrupt, "the server to give in")
    assert program.returncode != 0


def test_a_second_server_of_the_name_is_refused(
    start: Callable[[], Program], client: Client, redis_url: str
) -> None:
    """server.list.own: on one host a lock tells, whichever the two kinds are."""
    program = start()
    assert client.run("echo", 1, timeout=DEADLINE_S).result() == 1

    with pytest.raises(ProcessorInUse, match=f"program.*process {program.pid}"):
        Server(redis_url, processor="program").run()


def test_a_connection_lost_while_a_job_runs(
    serve: Serve, client: Client, redis: Redis, gate: Gate
) -> None:
    """server.recovery.running, server.publish.again: it is answered, and isn't run again."""
    serve({"gate": gate, "echo": echo})
    waiting = client.run("gate", 1, timeout=DEADLINE_S)
    gate.wait()

    redis.client_kill_filter(_type="normal", skipme=True)
    redis.client_kill_filter(_type="pubsub", skipme=True)
    until(lambda: redis.pubsub_numsub(waiting.channel)[0][1], "the client to subscribe again")
    gate.open()

    assert waiting.result() == 1
    assert client.run("echo", 2).result(DEADLINE_S) == 2
    assert gate.runs == [1]
    until(lambda: not left(redis), "no key to be left")


def test_connections_that_are_lost_all_the_time(serve: Serve, redis: Redis) -> None:
    """server.connection.survives, server.recovery.reconnect: at least one run, and nothing left."""
    ran: list[int] = []
    serve({"note": ran.append})

    for number in range(40):
        redis.lpush("job-queue", job(str(number), "note", parameters=number))
        if number % 2:
            redis.client_kill_filter(_type="normal", skipme=True)

    until(lambda: set(ran) == set(range(40)), "every job to be run")
    until(lambda: not left(redis), "no key to be left")


def test_redis_restarts_while_a_job_runs(
    serve: Serve, client: Client, redis: Redis, redis_process: RedisProcess, gate: Gate
) -> None:
    """server.connection.survives, client.lost.waits: what Redis has on disk is answered."""
    serve({"gate": gate, "echo": echo})
    client.run("gate", 1, timeout=DEADLINE_S)
    gate.wait()
    client.run("echo", 2, timeout=DEADLINE_S)
    until(lambda: redis.llen("job-queue") + redis.llen("job-queue:in-process:test"), "the jobs")

    redis_process.kill()
    redis_process.start()
    gate.open()

    assert client.run("echo", 3, timeout=DEADLINE_S).result() == 3
    until(lambda: not left(redis), "no key to be left")
    assert gate.runs == [1]


def test_a_forbidden_channel_is_no_end(
    serve: Serve, client: Client, redis: Redis, redis_url: str
) -> None:
    """server.publish.noperm: the job is moved to the dead list, and the next one answered."""
    rules = "on >secret resetchannels &job-queue:results:* allkeys +@all"
    redis.execute_command("ACL", "SETUSER", "confined", *rules.split())  # type: ignore[no-untyped-call]
    serve({"echo": echo}, redis_url.replace("//", "//confined:secret@"))
    forbidden = job("1", channel="elsewhere")

    redis.lpush("job-queue", forbidden)

    assert client.run("echo", 1).result(DEADLINE_S) == 1
    until(lambda: redis.lrange("job-queue:dead", 0, -1) == [forbidden], "it on the dead list")


def test_redis_at_its_memory_limit(serve: Serve, client: Client, redis: Redis, gate: Gate) -> None:
    """server.publish.again: nothing is lost while Redis refuses, and all goes on afterwards."""
    serve({"gate": gate, "echo": echo})
    waiting = client.run("gate", 1, timeout=DEADLINE_S)
    gate.wait()

    redis.config_set("maxmemory", 1)
    gate.open()
    assert waiting.result() == 1
    redis.config_set("maxmemory", 0)

    assert client.run("echo", 2, timeout=DEADLINE_S).result() == 2
    until(lambda: not left(redis), "no key to be left")


def test_a_stop_lets_the_running_job_finish(
    serve: Serve, client: Client, redis: Redis, gate: Gate
) -> None:
    """server.stop.drains, server.stop.no-claim: what runs is answered, what waits is left alone."""
    running = serve({"gate": gate})
    waiting = client.run("gate", 1)
    gate.wait()

    running.server.stop()
    gate.open()
    running.stop()
    redis.lpush("job-queue", job("waits"))

    assert waiting.result(DEADLINE_S) == 1
    assert redis.lrange("job-queue", 0, -1) == [job("waits")]
    assert not redis.exists("job-queue:in-process:test")


def test_stops_that_race_with_pushes_strand_nothing(serve: Serve, redis: Redis) -> None:
    """server.stop.drains: whatever an outstanding claim returns is run before the server ends."""
    for _ in range(5):
        ran: list[int] = []
        running = serve({"note": ran.append}, block_timeout=0.05)
        pusher = threading.Thread(
            target=lambda: [redis.lpush("job-queue", job(str(n), "note")) for n in range(50)]
        )
        pusher.start()
        running.server.stop()
        pusher.join()
        running.stop()

        assert redis.llen("job-queue:in-process:test") == 0
        assert len(ran) + redis.llen("job-queue") == 50
        redis.delete("job-queue")


def test_a_stop_gives_up_where_redis_stays_away(
    kind: str, redis_url: str, redis_process: RedisProcess, client: Client, gate: Gate
) -> None:
    """server.recovery.first: what can't be delivered is left to the next start, and that is reported."""
    make = aio.Server if kind.startswith("asyncio") else Server
    server = make(redis_url, processor="test", concurrency=4 if kind.endswith("4") else 1)
    server.on("gate", gate)
    with ThreadPoolExecutor() as threads:
        ended = threads.submit(run_here, server)
        client.run("gate", 1)
        gate.wait()

        redis_process.kill()
        server.stop()
        gate.open()

        error = ended.exception(DEADLINE_S)
    redis_process.start()
    assert isinstance(error, ConnectionLost)


def test_an_unreachable_redis_is_told_at_the_start(kind: str) -> None:
    """The first attempt fails in words; only a server that was connected never gives up."""
    make = aio.Server if kind.startswith("asyncio") else Server
    concurrency = 4 if kind.endswith("4") else 1
    server = make("redis://:hush@127.0.0.1:1/0", processor="nobody", concurrency=concurrency)

    with pytest.raises(ConnectionLost, match="can't connect to Redis") as caught:
        run_here(server)

    assert "hush" not in str(caught.value)


def test_a_timeout_is_the_callers_alone(serve: Serve, client: Client, gate: Gate) -> None:
    """client.timeout.local, client.ignore.unknown: the job runs on, and its late result is ignored."""
    serve({"gate": gate, "echo": echo})
    assert client.run("echo", 1).result(DEADLINE_S) == 1
    late = client.run("gate", 1, timeout=0.5)  # of which a push on an open connection takes little
    gate.wait()

    with pytest.raises(JobTimeout):
        late.result(DEADLINE_S)
    gate.open()

    assert client.run("echo", 2).result(DEADLINE_S) == 2
    assert gate.runs == [1]
