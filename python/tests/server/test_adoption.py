"""Servers of all four kinds with leases, on a real Redis: who runs the jobs of those that are gone."""

import asyncio
import itertools
import signal
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from jobqueue import Client, JobError, ProcessorInUse, ProcessorLost, Server, admin, aio
from redis import Redis

from tests.conftest import DEADLINE_S, Running, run_here, until
from tests.server.test_server import Serve, echo, job

Program = subprocess.Popen[str]
Start = Callable[..., Program]
SHORT: dict[str, Any] = {"takeover": True, "block_timeout": 0.2, "lease_timeout": 0.8}
LIST = "job-queue:in-process:test"
LEASE = f"job-queue:lease:{LIST}"
GONE = "job-queue:in-process:gone"
LEASE_S = 1.2


def hang(program: Program, client: Client) -> None:
    """Have a program run a job that never ends."""
    client.run("hang")
    assert program.stdout is not None
    assert program.stdout.readline() == "running\n"


def plant(redis: Redis, *entries: bytes) -> None:
    """Leave a list behind, marked as lapsed long ago."""
    redis.hset("job-queue:processors", GONE, "1000")
    for entry in entries:
        redis.lpush(GONE, entry)


def test_another_server_runs_the_jobs_of_one_that_never_comes_back(
    start: Start, client: Client, redis: Redis
) -> None:
    """server.takeover.adopts: its lease ends, its list is marked, and C later it is emptied."""
    gone = start("gone", LEASE_S)
    hang(gone, client)
    gone.kill()
    gone.wait()

    other = start("other", LEASE_S)

    assert other.stdout is not None
    assert other.stdout.readline() == "running\n", "expected the job to run again"
    assert redis.llen("job-queue:in-process:other") == 1
    assert redis.llen(GONE) == 0


def test_the_same_name_on_the_same_host_waits_for_nothing(start: Start, client: Client) -> None:
    """server.takeover.waits: the lock's file has the token of a life that is proved to be over."""
    killed = start("same", 600.0)
    hang(killed, client)

    killed.kill()
    killed.wait()
    again = start("same", 600.0)

    assert again.stdout is not None
    assert again.stdout.readline() == "running\n"


def test_a_server_that_stood_still_too_long_starts_nothing_that_is_gone(
    start: Start, client: Client, redis: Redis
) -> None:
    """server.takeover.lapse: a claim's reply that it reads after L is no job to run."""
    program = start("still", LEASE_S)
    assert client.run("echo", 1).result(DEADLINE_S) == 1
    program.send_signal(signal.SIGSTOP)
    stranded = client.run("hang")
    own = "job-queue:in-process:still"
    until(lambda: redis.llen(own) or redis.llen("job-queue"), "the job")
    until(lambda: not redis.exists(f"job-queue:lease:{own}"), "the end of the lease")
    redis.delete(own, "job-queue")

    program.send_signal(signal.SIGCONT)

    assert client.run("echo", 2).result(DEADLINE_S) == 2
    program.send_signal(signal.SIGTERM)
    output, _ = program.communicate(timeout=DEADLINE_S)
    assert (output, program.returncode) == ("", 0)
    stranded.cancel()


def test_what_a_scan_finds_due_goes_first(serve: Serve, redis: Redis, kind: str) -> None:
    """server.takeover.first: before the first job of the queue, the oldest first."""
    ran: list[Any] = []
    plant(redis, *(job(str(n), parameters=n) for n in (1, 2, 3)))
    redis.lpush("job-queue", job("4", parameters=4))

    serve({"echo": ran.append}, attempts=0, **SHORT)

    until(lambda: len(ran) == 4, "four runs")
    if not kind.endswith("4"):
        assert ran == [1, 2, 3, 4]
    until(lambda: redis.llen(LIST) == 0, "an empty list")


def test_a_job_that_kills_its_adopters_is_given_up(
    start: Start, client: Client, redis: Redis
) -> None:
    """server.attempts.limit: whatever their names, there are four deaths and no other job is lost."""
    jobs = client.run_many([("die", None), *[("echo", n) for n in range(20)]])
    for number in range(4):
        assert start(f"random-{number}", 0.7).wait(DEADLINE_S) == -signal.SIGKILL
    start("last", 0.7)

    with pytest.raises(JobError) as raised:
        jobs[0].result(DEADLINE_S)
    assert raised.value.code == "too-many-attempts"
    assert [each.result(DEADLINE_S) for each in jobs[1:]] == list(range(20))
    until(lambda: redis.llen("job-queue:dead") == 1, "one dead message")


def test_a_job_longer_than_the_lease_keeps_it(
    serve: Serve, client: Client, redis: Redis, kind: str
) -> None:
    """server.takeover.renews: while the handler lets other threads or tasks run."""
    opened = threading.Event()

    async def wait_async(_: Any) -> Any:
        return await asyncio.to_thread(opened.wait, DEADLINE_S)

    handler = wait_async if kind.startswith("asyncio") else lambda _: opened.wait(DEADLINE_S)
    serve({"wait": handler}, **SHORT)
    running = client.run("wait")
    until(lambda: redis.llen(LIST) == 1, "the job to run")
    token = redis.get(LEASE)

    seen = [redis.pttl(LEASE)]
    while len(seen) < 400 and sum(b > a for a, b in itertools.pairwise(seen)) < 8:
        seen.append(redis.pttl(LEASE))
        threading.Event().wait(0.01)
    opened.set()

    assert running.result(DEADLINE_S) is True
    assert min(seen) > 0, "expected a lease at every moment"
    assert redis.get(LEASE) == token


def test_a_clean_life_leaves_nothing(serve: Serve, client: Client, redis: Redis) -> None:
    """server.takeover.releases, server.takeover.unregisters: no lease, no registration, no list."""
    running = serve({"echo": echo}, **SHORT)
    assert client.run("echo", 1).result(DEADLINE_S) == 1
    assert redis.hgetall("job-queue:processors") == {LIST.encode(): b"0"}

    running.stop()

    assert [key for key in redis.scan_iter() if key != b"job-queue:scanned"] == []


def test_an_earlier_lifes_lease_is_waited_for(serve: Serve, client: Client, redis: Redis) -> None:
    """server.takeover.waits: neither the list nor the queue is touched; then it serves."""
    redis.set(LEASE, "theirs")
    redis.lpush(LIST, job("1"))
    result = client.run("echo", 1)
    until(lambda: redis.llen("job-queue"), "the push")
    serve({"echo": echo}, **SHORT)
    until(lambda: redis.hexists("job-queue:processors", LIST), "the attempt to acquire")
    assert (redis.get(LEASE), redis.llen(LIST), redis.llen("job-queue")) == (b"theirs", 1, 1)

    redis.delete(LEASE)

    assert result.result(DEADLINE_S) == 1


def test_a_server_that_waits_for_a_lease_can_be_stopped(serve: Serve, redis: Redis) -> None:
    """server.stop.exit: it has nothing to drain."""
    redis.set(LEASE, "theirs")
    running = serve({"echo": echo}, **SHORT)
    until(lambda: redis.hexists("job-queue:processors", LIST), "the attempt to acquire")

    running.stop()

    assert redis.get(LEASE) == b"theirs"


@pytest.mark.parametrize("busy", [True, False])
def test_a_server_whose_name_is_lost_ends(
    redis_url: str,
    redis: Redis,
    client: Client,
    kind: str,
    caplog: pytest.LogCaptureFixture,
    *,
    busy: bool,
) -> None:
    """server.takeover.lost-name: what it runs is answered; nothing else is claimed; it raises."""
    make = aio.Server if kind.startswith("asyncio") else Server
    server = make(redis_url, processor="test", concurrency=4 if kind.endswith("4") else 1, **SHORT)
    entered, opened = threading.Event(), threading.Event()

    async def wait_async(_: Any) -> Any:
        entered.set()
        return await asyncio.to_thread(opened.wait, DEADLINE_S)

    def wait(_: Any) -> Any:
        entered.set()
        return opened.wait(DEADLINE_S)

    server.on("wait", wait_async if kind.startswith("asyncio") else wait)
    server.on("echo", echo)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            run_here(server)
        except ProcessorLost as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    running = client.run("wait") if busy else None
    if busy:
        assert entered.wait(DEADLINE_S)
    until(lambda: redis.exists(LEASE), "the lease")

    redis.set(LEASE, "another's")
    # By a renewal that is answered by 0; where the machine is busy, it can notice by its clock before.
    until(lambda: "has lapsed" in caplog.text or "or its lease" in caplog.text, "the loss")
    if not busy:
        thread.join(DEADLINE_S)
    elif kind.endswith("4"):
        until(lambda: _claims_ended(redis), "the end of its claims")
    client.run("echo", 1)
    until(lambda: redis.llen("job-queue"), "the push")
    opened.set()
    thread.join(DEADLINE_S)

    assert [type(error) for error in raised] == [ProcessorLost]
    assert redis.get(LEASE) == b"another's"
    if running is not None:
        assert running.result(DEADLINE_S) is True
    assert redis.llen("job-queue") == 1, "expected the new job to stay in the queue"


def test_takeover_costs_a_job_nothing(serve: Serve, redis: Redis, kind: str) -> None:
    """In steady state Redis executes the same commands for each job, with takeover and without it."""
    entered, opened = threading.Semaphore(0), threading.Semaphore(0)

    def hold(_: Any) -> None:
        entered.release()
        assert opened.acquire(timeout=DEADLINE_S)

    async def hold_async(_: Any) -> None:
        entered.release()
        assert await asyncio.to_thread(opened.acquire, timeout=DEADLINE_S)

    handlers = {"echo": echo, "hold": hold_async if kind.startswith("asyncio") else hold}
    hands, counts = 4 if kind.endswith("4") else 1, []
    for takeover in (False, True):
        settings = {**SHORT, "takeover": takeover, "lease_timeout": 600.0}
        running = serve(handlers, **settings)
        redis.lpush("job-queue", *[job(str(n), "hold") for n in range(hands)])
        for _ in range(hands):
            assert entered.acquire(timeout=DEADLINE_S)
        redis.config_resetstat()
        jobs = [job(str(n), "echo" if n < 100 else "hold") for n in range(101)]
        redis.lpush("job-queue", *jobs)
        opened.release(hands)
        assert entered.acquire(timeout=DEADLINE_S)
        counts.append(_calls(redis))
        opened.release()
        running.stop()

    without, with_takeover = counts
    if hands > 1:  # how many are claimed and confirmed in one step depends on the moment
        assert set(with_takeover) == set(without)
    else:
        assert with_takeover == without


def test_a_server_without_takeover_leaves_a_registered_list_alone(
    kind: str, redis_url: str, redis: Redis
) -> None:
    """Others would adopt from it while it serves; `jobqueue unregister` is the way out."""
    plant(redis, job("1"))
    make = aio.Server if kind.startswith("asyncio") else Server
    server = make(redis_url, processor="gone", takeover=False)

    with pytest.raises(ProcessorInUse, match=f"jobqueue unregister --in-process {GONE}"):
        run_here(server)
    assert redis.llen(GONE) == 1

    redis.delete(GONE)
    assert admin.unregister(redis, GONE)
    running = Running(server)
    until(lambda: any(each["cmd"] == "blmove" for each in redis.client_list()), "a claim")
    running.stop()


@pytest.mark.parametrize("refusal", ["no permission", "another type"])
def test_a_server_without_takeover_serves_where_it_may_not_ask(
    serve: Serve, redis: Redis, redis_url: str, client: Client, refusal: str
) -> None:
    """A user whose ACL was made for version 1.0 has no right to read the registry."""
    url = redis_url
    if refusal == "no permission":
        rules = "on >secret allchannels allkeys +@all -hget"
        redis.execute_command("ACL", "SETUSER", "old", *rules.split())  # type: ignore[no-untyped-call]
        url = redis_url.replace("//", "//old:secret@")
        redis.hset("job-queue:processors", LIST, "0")
    else:
        redis.set("job-queue:processors", "no hash")

    serve({"echo": echo}, url, takeover=False)

    assert client.run("echo", 1).result(DEADLINE_S) == 1


def _calls(redis: Redis) -> dict[str, int]:
    """How often Redis has executed each command; but not the looks, which come by the clock."""
    asked = {"cmdstat_config|resetstat", "cmdstat_info", "cmdstat_lpush", "cmdstat_llen"}
    stats: dict[str, Any] = redis.info("commandstats")
    calls = {name: each["calls"] for name, each in stats.items()}
    return {name: n for name, n in calls.items() if name not in {*asked, "cmdstat_lrange"}}


def _registered(redis: Redis, number: int) -> bool:
    return int(redis.hlen("job-queue:processors")) == number


def _claims_ended(redis: Redis) -> bool:
    """Tell whether the connection that claimed has found another's token, and waits."""
    last = [each["cmd"] for each in redis.client_list()]
    return "hset" in last and "blmove" not in last


def test_two_lives_of_one_list_never_serve_together(
    redis_url: str, redis: Redis, kind: str, serve: Serve, client: Client
) -> None:
    """server.takeover.lease-first: a second server of one list, as on another host, waits."""
    first = serve({"echo": lambda _: "first"}, processor="one", in_process=LIST, **SHORT)
    assert client.run("echo").result(DEADLINE_S) == "first"
    make = aio.Server if kind.startswith("asyncio") else Server
    url = redis_url.replace("127.0.0.1", "localhost")  # by another lock, as on another host
    second = make(url, in_process=LIST, **SHORT)
    second.on("echo", lambda _: "second")
    waiting = Running(second)
    assert [client.run("echo").result(DEADLINE_S) for _ in range(20)] == ["first"] * 20

    first.stop()

    assert client.run("echo").result(DEADLINE_S) == "second"
    waiting.stop()
    assert not redis.exists(LEASE)


def test_a_fleet_with_random_names_empties_the_lists_of_its_dead(
    start: Start, client: Client, redis: Redis
) -> None:
    """server.takeover.scans: whoever starts, each job is answered, and no list is left with entries."""
    jobs = client.run_many([("echo", n) for n in range(200)])
    for number in range(3):
        program = start(f"dies-{number}", 0.7)
        until(partial(_registered, redis, number + 1), "its registration")
        program.kill()
        program.wait()
    start("lives", 0.7)

    assert [each.result(DEADLINE_S) for each in jobs] == list(range(200))
    until(lambda: not redis.keys("job-queue:in-process:*"), "empty lists")
