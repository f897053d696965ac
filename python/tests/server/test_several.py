"""Servers of all four kinds that serve two queues of a real Redis."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from jobqueue import Client, ConnectionLost, ProcessorInUse, Server, aio
from redis import Redis

from tests.conftest import DEADLINE_S, run_here, until
from tests.server.test_server import Serve, echo, job

QUEUES = ["one", "two"]
Connect = Callable[..., Client]


def lists(redis: Redis) -> list[bytes | str]:
    """What the in-process lists of both queues hold."""
    return [each for queue in QUEUES for each in redis.lrange(f"{queue}:in-process:test", 0, -1)]


class Gate:
    """Handlers that note their start, and end one by one when they are let go."""

    def __init__(self, kind: str) -> None:
        self.started: list[Any] = []
        self.hands = 4 if kind.endswith("4") else 1
        self.handler: Any = self._await if kind.startswith("asyncio") else self._stand
        self._permits = threading.Semaphore(0)

    def let_go(self, count: int = 1) -> None:
        """Let handlers end."""
        self._permits.release(count)

    def full(self) -> None:
        """Wait until no hand is free, and until no claim waits that was sent before."""
        until(lambda: len(self.started) >= self.hands, "a busy server")

    def _stand(self, parameters: Any) -> Any:
        self.started.append(parameters)
        assert self._permits.acquire(timeout=DEADLINE_S), "expected to be let go"
        return parameters

    async def _await(self, parameters: Any) -> Any:
        return await asyncio.to_thread(self._stand, parameters)


@pytest.fixture
def gate(kind: str) -> Gate:
    """A closed gate."""
    return Gate(kind)


def test_both_queues_are_served(serve: Serve, connect: Connect, redis: Redis) -> None:
    """Each answers its own clients, over lists of its own; nothing is left."""
    serve({"echo": echo}, queue=QUEUES)
    clients = [connect(queue=queue) for queue in QUEUES]

    jobs = [client.run("echo", n) for n in range(200) for client in clients]

    assert [job.result(DEADLINE_S) for job in jobs] == [n for n in range(200) for _ in clients]
    until(lambda: lists(redis) == [], "empty lists")


def test_fair_means_level(kind: str, serve: Serve, redis: Redis) -> None:
    """Of 1,000 jobs on each, the numbers that are finished differ by the hands and one at most."""
    hands = 4 if kind.endswith("4") else 1
    finished: list[str] = []
    with redis.pipeline() as together:
        for queue in QUEUES:
            jobs = [job(str(n), "count", parameters=queue) for n in range(1_000)]
            together.lpush(queue, *jobs)
        together.execute()

    serve({"count": finished.append}, queue=QUEUES)
    for count in range(100, 2_001, 100):  # so that a busy machine has the deadline for each hundred
        until(partial(lambda least: len(finished) >= least, count), f"{count} jobs to be finished")

    ahead = worst = 0
    for queue in finished:
        ahead += 1 if queue == "one" else -1
        worst = max(worst, abs(ahead))
    assert ahead == 0
    assert worst <= hands + 1


def test_priority_means_next_but_one(gate: Gate, serve: Serve, redis: Redis) -> None:
    """Behind 10,000 low jobs, a high one is overtaken by one that was claimed already, at most."""
    redis.lpush("two", *[job(str(n), "low", parameters=n) for n in range(10_000)])
    gate.let_go(100)
    serve({"low": gate.handler, "high": gate.handler}, queue=QUEUES, order="priority")
    for count in (25, 50, 75, 100 + gate.hands):
        until(partial(lambda least: len(gate.started) >= least, count), "a busy server")

    redis.lpush("one", job("1", "high", parameters="high"))
    for _ in range(2):
        # No hand is free: what waits in Redis has come back, or has run into its timeout.
        until(lambda: not redis.info("clients")["blocked_clients"], "no claim that waits")
        until(lambda: redis.llen("one") or "high" in gate.started, "the job back on its queue")
        before = len(gate.started)
        gate.let_go()
        until(lambda: len(gate.started) > before, "the next job")  # noqa: B023 - called at once
    started = gate.started[100 + gate.hands :]
    gate.let_go(20_000)

    assert "high" in started


def test_a_job_that_is_claimed_while_no_hand_is_free_is_returned(
    gate: Gate, serve: Serve, redis: Redis
) -> None:
    """It's at the right end of its queue at once, where an idle server finds it."""
    serve({"gate": gate.handler}, queue=QUEUES)
    until(lambda: redis.info("clients")["blocked_clients"] == len(QUEUES), "claims that wait")
    redis.lpush("one", *[job(str(n), "gate", parameters=n) for n in range(gate.hands)])
    gate.full()

    redis.lpush("two", job("1", "gate", parameters="returned"), job("2", "gate", parameters="next"))

    until(lambda: redis.llen("two") == 2, "both jobs on the queue")
    until(lambda: not redis.info("clients")["blocked_clients"], "no claim that waits")
    assert redis.lrange("two", -1, -1) == [job("1", "gate", parameters="returned")]
    assert redis.lrange("two:in-process:test", 0, -1) == []
    idle = serve({"gate": echo}, queue=["two"], processor="idle")
    until(lambda: not redis.llen("two"), "the idle server to run them")
    idle.stop()
    assert "returned" not in gate.started
    gate.let_go(gate.hands)


def test_whatever_connection_is_lost_each_job_is_answered(
    serve: Serve, connect: Connect, redis: Redis
) -> None:
    """server.connection.survives, server.recovery.reconnect: for each queue by itself."""
    serve({"echo": echo}, queue=QUEUES)
    clients = [connect(queue=queue) for queue in QUEUES]
    for round_ in range(5):
        jobs = [client.run("echo", n) for n in range(20) for client in clients]
        theirs = [
            each for each in redis.client_list() if each["cmd"] in {"blmove", "lmove", "exec"}
        ]
        for each in theirs[round_ % 2 :: 2]:
            redis.client_kill_filter(_id=each["id"])
        assert [job.result(DEADLINE_S) for job in jobs] == [n for n in range(20) for _ in clients]
    until(lambda: lists(redis) == [], "empty lists")


def test_each_queue_recovers_its_own_list(serve: Serve, redis: Redis) -> None:
    """server.recovery.first, server.attempts.counts: what a former life has left on either list is run."""
    ran: list[str] = []
    for queue in QUEUES:
        redis.lpush(f"{queue}:in-process:test", job("1", "note", parameters=queue))

    serve({"note": ran.append}, queue=QUEUES)

    until(lambda: sorted(ran) == QUEUES, "both jobs to be run")
    until(lambda: lists(redis) == [], "empty lists")
    assert len(redis.keys("*:attempts:*")) == len(QUEUES)


def test_a_stop_answers_what_runs_of_each_queue(gate: Gate, serve: Serve, redis: Redis) -> None:
    """server.stop.drains: what isn't started stays on its queue."""
    for queue in QUEUES:
        redis.lpush(queue, *[job(str(n), "gate", parameters=n) for n in range(10)])
    running = serve({"gate": gate.handler}, queue=QUEUES)
    gate.full()

    running.server.stop()
    gate.let_go(20)
    running.stop()

    assert lists(redis) == []
    assert sum(redis.llen(queue) for queue in QUEUES) == 20 - len(gate.started)
    assert len(gate.started) <= 2 * gate.hands


def test_each_queue_has_a_lease_and_adopts(serve: Serve, redis: Redis) -> None:
    """server.takeover.adopts, server.takeover.releases: there is a registry and a scan for each."""
    ran: list[str] = []
    for queue in QUEUES:
        redis.hset(f"{queue}:processors", f"{queue}:in-process:gone", "1000")
        redis.lpush(f"{queue}:in-process:gone", job("1", "note", parameters=queue))

    running = serve({"note": ran.append}, queue=QUEUES, takeover=True, lease_timeout=0.8)

    until(lambda: sorted(ran) == QUEUES, "both jobs to be run")
    assert all(redis.exists(f"{queue}:lease:{queue}:in-process:test") for queue in QUEUES)
    running.stop()
    assert not any(redis.exists(f"{queue}:lease:{queue}:in-process:test") for queue in QUEUES)
    assert lists(redis) == []


def test_a_queue_that_cant_be_served_holds_up_no_other(
    kind: str, redis_url: str, redis: Redis
) -> None:
    """server.stop.unreachable: the other one is served, and after a stop the reason is raised."""
    make = aio.Server if kind.startswith("asyncio") else Server
    hands = 4 if kind.endswith("4") else 1
    server = make(redis_url, queue=QUEUES, processor="test", concurrency=hands, block_timeout=0.2)
    redis.set("two:in-process:test", "no list")
    ended: list[BaseException] = []

    def run() -> None:
        try:
            run_here(server)
        except ConnectionLost as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    redis.lpush("one", job("1"))
    until(lambda: not redis.exists("one", "one:in-process:test"), "the other queue to be served")
    server.stop()
    thread.join(DEADLINE_S)

    assert not thread.is_alive()
    assert "WRONGTYPE" in str(ended[0])


def test_jobs_that_cant_be_confirmed_keep_no_hand(
    gate: Gate, serve: Serve, connect: Connect, redis: Redis
) -> None:
    """server.publish.again: the other queue is served meanwhile, and no handler runs twice."""
    serve({"gate": gate.handler, "echo": echo}, queue=QUEUES)
    one, two = [connect(queue=queue) for queue in QUEUES]
    jobs = [one.run("gate", number) for number in range(gate.hands)]
    gate.full()
    redis.rename("one:in-process:test", "aside")
    redis.set("one:in-process:test", "no list")
    gate.let_go(gate.hands)

    others = [two.run("echo", number) for number in range(2 * gate.hands)]

    assert [job.result(DEADLINE_S) for job in others] == [*range(2 * gate.hands)]
    redis.rename("aside", "one:in-process:test")
    assert [job.result(DEADLINE_S) for job in jobs] == [*range(gate.hands)]
    until(lambda: lists(redis) == [], "empty lists")
    assert sorted(gate.started) == [*range(gate.hands)]


@pytest.mark.usefixtures("redis")
def test_without_redis_it_ends_at_once(kind: str) -> None:
    """server.connection.start: all queues end with the first error."""
    make = aio.Server if kind.startswith("asyncio") else Server

    with pytest.raises(ConnectionLost):
        run_here(make("redis://127.0.0.1:1", queue=QUEUES, processor="test"))


def test_a_list_is_of_one_server(kind: str, serve: Serve, redis: Redis, redis_url: str) -> None:
    """server.list.own: one of the lists is in use, so none of them is served."""
    serve({}, queue=["two"])
    until(lambda: redis.info("clients")["blocked_clients"], "a claim that waits")
    make = aio.Server if kind.startswith("asyncio") else Server

    with pytest.raises(ProcessorInUse, match="two:in-process:test"):
        run_here(make(redis_url, queue=QUEUES, processor="test"))


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"queue": []}, "queue, processor and in_process must be non-empty strings"),
        ({"queue": ["one", ""]}, "queue, processor and in_process must be non-empty strings"),
        ({"queue": ["one", "one"]}, "a queue must be given once"),
        ({"order": "random"}, "order must be one of fair, priority"),
        (
            {"in_process": "x"},
            "in_process is the list of one queue: give several queues a processor",
        ),
        ({"prefetch": 2}, "prefetch must be 1 for several queues"),
    ],
)
@pytest.mark.parametrize("make", [Server, aio.Server], ids=["threads", "asyncio"])
def test_wrong_settings_are_refused(make: Any, settings: dict[str, Any], sentence: str) -> None:
    """Each is refused at once, in one sentence."""
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        make(**{"queue": QUEUES, **settings})


def test_its_settings_can_be_replaced() -> None:
    """A copy serves other queues in another order; a list is named by its queue and the processor."""
    server = Server(queue=QUEUES, processor="p")

    copy = server.with_settings(queue=["two", "three"], order="priority")

    assert (server.queues, server.processor) == (("one", "two"), "p")
    assert (copy.queues, copy.in_process) == (("two", "three"), "two:in-process:p")
