"""One server for several queues, each on a node of its own: what happens to one holds up no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import Client, ConnectionLost, JobTimeout, NotQueued, Server, aio
from redis.crc import key_slot

from tests.client.calling import Caller
from tests.conftest import DEADLINE_S, Running, until
from tests.deployments.failovers import Account, kill_primary
from tests.deployments.nodes import WHOLE_S, Cluster, Node, Sentinels
from tests.server.test_server import echo, job

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.deployment

QUEUES = ["{job-queue.2}", "{job-queue.3}"]  # their slots begin on two nodes of three


@pytest.fixture(params=["threads", "asyncio"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    """Both colours."""
    return bool(request.param == "asyncio")


def primary(deployment: Cluster | Sentinels, queue: str) -> Node:
    """Return the node that has a queue."""
    if isinstance(deployment, Sentinels):
        return deployment.primary()
    return deployment.primary(key_slot(queue.encode()))


@contextmanager
def served(
    deployment: Cluster | Sentinels, handlers: dict[str, Any], *, asynchronous: bool
) -> Iterator[list[Caller]]:
    """Run one server, and return a client of each queue, inside the `with` block."""
    make = aio.Server if asynchronous else Server
    server = make(deployment.url(), queue=QUEUES, processor="test", block_timeout=0.2)
    for method, handler in handlers.items():
        server.on(method, handler)
    callers = [Caller(deployment.url(), asynchronous=asynchronous, queue=each) for each in QUEUES]
    running = Running(server)
    try:
        for caller in callers:
            until(partial(answers, caller), "an answer", within_s=WHOLE_S)
        yield callers
    finally:
        running.stop()
        for caller in callers:
            caller.close()


def answers(caller: Caller) -> bool:
    """Tell whether a job is answered, where others are refused, or lost on their way."""
    try:
        return bool(caller.run("echo", 1, timeout=DEADLINE_S / 4) == 1)
    except (NotQueued, ConnectionLost, JobTimeout):
        return False


@pytest.mark.parametrize("server", ["server", "aio_server"])
def test_the_command_serves_them_by_url(deployment: Cluster | Sentinels, server: str) -> None:
    """`serve --queue A --queue B`; `run --queue` chooses one, and so does `status`."""
    environment = os.environ | {"REDIS_URL": deployment.url()}
    flags = [flag for queue in QUEUES for flag in ("--queue", queue)]

    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "jobqueue", *arguments]

    def said(*arguments: str) -> str:
        return subprocess.check_output(command(*arguments), env=environment, text=True)

    with subprocess.Popen(
        command("serve", f"served:{server}", *flags), env=environment, cwd=Path(__file__).parent
    ) as serving:
        try:
            for number, queue in enumerate(QUEUES):
                ran = said("run", "echo", f"{number}", "--timeout", "60", "--queue", queue)
                assert ran == f"{number}\n"
                assert f"queue\t{queue}\t0\t\n" in said("status", "--queue", queue)
        finally:
            serving.send_signal(signal.SIGTERM)

    assert serving.returncode == 0


def test_both_go_on_after_a_failover(
    deployment: Cluster | Sentinels, *, asynchronous: bool
) -> None:
    """The primary of one is killed: what replicas have of either is run, and new jobs are answered."""
    ran: set[str] = set()
    kept: set[str] = set()
    handlers = {"echo": echo, "note": ran.add}
    with served(deployment, handlers, asynchronous=asynchronous) as callers:
        for queue in QUEUES:
            jobs = [f"{queue} {number}" for number in range(500)]
            with primary(deployment, queue).client() as redis:
                redis.lpush(queue, *[job(name, "note", parameters=name) for name in jobs])
                if redis.wait(1, 10_000):
                    kept.update(jobs)
        assert kept, "expected a replica to confirm jobs"

        kill_primary(deployment, lambda: primary(deployment, QUEUES[0]), Account())

        until(lambda: kept <= ran, "all jobs that a replica had", within_s=WHOLE_S)
        for caller in callers:
            until(partial(answers, caller), "an answer after the failover", within_s=WHOLE_S)


@pytest.fixture
def partly(cluster: Cluster) -> Iterator[None]:
    """The cluster serves what it can; by default, all nodes refuse where one is away."""
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    yield
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "yes")


@pytest.mark.usefixtures("partly")
def test_a_queue_whose_node_is_away_holds_up_no_other(
    cluster: Cluster, *, asynchronous: bool
) -> None:
    """Its primary and its replica stand still, whether the other nodes miss them or not."""
    first = primary(cluster, QUEUES[0])
    gone = [first, cluster.replica(first)]
    with served(cluster, {"echo": echo}, asynchronous=asynchronous) as callers, ExitStack() as away:
        for node in gone:
            away.enter_context(node.frozen())
        for number in range(20):
            assert callers[1].run("echo", number, timeout=DEADLINE_S) == number
        others = [node for node in cluster.nodes if node not in gone]
        until(
            lambda: all(b"slots_fail:0" not in node.ask("CLUSTER", "INFO") for node in others),
            "the others to miss them",
            within_s=WHOLE_S,
        )
        for number in range(20):
            assert callers[1].run("echo", number, timeout=DEADLINE_S) == number

        away.close()

        until(cluster.is_whole, "all nodes", within_s=WHOLE_S)
        until(partial(answers, callers[0]), "the other queue", within_s=WHOLE_S)


@pytest.mark.usefixtures("partly")
def test_a_job_whose_node_is_away_keeps_no_hand(cluster: Cluster, *, asynchronous: bool) -> None:
    """server.publish.again: its handler ends meanwhile, the other queue has the only hand, and it is answered."""
    first = primary(cluster, QUEUES[0])
    gone = [first, cluster.replica(first)]
    started, permit = threading.Event(), threading.Event()
    runs: list[str] = []

    def gate(parameters: str) -> str:
        runs.append(parameters)
        started.set()
        assert permit.wait(WHOLE_S), "expected to be let go"
        return parameters

    handlers = {"echo": echo, "gate": gate}
    with (
        served(cluster, handlers, asynchronous=asynchronous) as callers,
        ExitStack() as away,
        Client(cluster.url(), queue=QUEUES[0]) as client,
    ):
        # Kept, since on a busy machine the client, too, finds Redis silent for long enough to connect again.
        gated = client.run("gate", "once", timeout=WHOLE_S, keep=WHOLE_S)
        until(started.is_set, "the handler")
        for node in gone:
            away.enter_context(node.frozen())
        permit.set()

        for number in range(5):
            assert callers[1].run("echo", number, timeout=WHOLE_S) == number

        away.close()
        until(cluster.is_whole, "all nodes", within_s=WHOLE_S)
        assert gated.result(WHOLE_S) == "once"
        until(partial(answers, callers[0]), "the other queue", within_s=WHOLE_S)
        assert runs == ["once"]
