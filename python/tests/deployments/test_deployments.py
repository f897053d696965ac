"""Servers, clients and commands on a real cluster of six nodes, and on real sentinels."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis as redis_py
import trustme
from jobqueue import Client, ConnectionLost, NotQueued, Server, aio

from tests.client.calling import Caller
from tests.conftest import DEADLINE_S, Running, run_here, until
from tests.deployments.failovers import QUEUE, SLOT, storm_on
from tests.deployments.nodes import Cluster, Sentinels, binary, has_tls
from tests.server.test_server import echo

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.deployment


def _serves(kind: str, server_source: Any, client_source: Any) -> None:
    asynchronous = kind.startswith("asyncio")
    make = aio.Server if asynchronous else Server
    options: dict[str, Any] = {
        "queue": QUEUE,
        "processor": "test",
        "concurrency": 4 if "4" in kind else 1,
    }
    server = make(server_source, block_timeout=0.2, **options)
    server.on("echo", echo)
    running = Running(server)
    caller = Caller(client_source, asynchronous=asynchronous, queue=QUEUE)

    answers = [caller.run("echo", number) for number in range(50)]

    assert answers == list(range(50))
    caller.close()
    running.stop()


def test_jobs_run_by_url(kind: str, deployment: Cluster | Sentinels) -> None:
    """A URL is all that servers and clients of both colours need."""
    _serves(kind, deployment.url(), deployment.url())


def test_jobs_run_by_a_client_of_a_cluster(kind: str, cluster: Cluster) -> None:
    """A `RedisCluster` with its defaults is taken: the connections are made from its settings."""
    ports = [node.port for node in cluster.nodes]

    def source(number: int) -> Any:
        if kind.startswith("asyncio"):
            return redis_py.asyncio.RedisCluster("127.0.0.1", ports[number])
        return redis_py.RedisCluster("127.0.0.1", ports[number], decode_responses=True)

    _serves(kind, source(0), source(5))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, str]]:
    """Three primaries that ask for certificates, and the options of a URL that has one."""
    if not has_tls():
        pytest.skip(f"{binary()} was built without TLS: install redis-server of Debian")
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    ca, own = folder / "ca.pem", folder / "own.pem"
    authority.cert_pem.write_to_path(str(ca))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(own))
    files = ["--tls-cert-file", str(own), "--tls-key-file", str(own), "--tls-ca-cert-file", str(ca)]
    with Cluster(folder / "nodes", *files, replicas=0) as cluster:
        yield cluster, f"ssl_ca_certs={ca}&ssl_certfile={own}&ssl_keyfile={own}"


def test_jobs_run_over_tls(kind: str, tls: tuple[Cluster, str]) -> None:
    """Every node is asked and used with TLS and our certificate; without it, nobody is served."""
    cluster, options = tls

    _serves(kind, cluster.tls_url(options), cluster.tls_url(options))

    caller = Caller(
        cluster.tls_url(options.partition("&")[0]), asynchronous="async" in kind, queue=QUEUE
    )
    with pytest.raises(
        NotQueued, match=r"127\.0\.0\.1:\d+: .*ssl_certfile and ssl_keyfile name ours"
    ):
        caller.run("echo", timeout=DEADLINE_S)
    caller.close()


def _command(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobqueue", *arguments],
        env=os.environ | {"REDIS_URL": url, "JOBQUEUE_QUEUE": QUEUE},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_commands_need_the_url_alone(deployment: Cluster | Sentinels) -> None:
    """`serve`, `run`, `status`, `requeue` and `dead list`, by $REDIS_URL."""
    command = [sys.executable, "-m", "jobqueue", "serve", "served:server"]
    environment = os.environ | {"REDIS_URL": deployment.url(), "JOBQUEUE_QUEUE": QUEUE}
    with subprocess.Popen(
        command, env=environment, cwd=Path(__file__).parent, stderr=subprocess.DEVNULL
    ) as serving:
        try:
            ran = _command("run", "echo", "[1]", "--timeout", "20", url=deployment.url())
            status = _command("status", url=deployment.url())
            requeued = _command("requeue", "nobody", url=deployment.url())
            dead = _command("dead", "list", url=deployment.url())
        finally:
            serving.send_signal(signal.SIGTERM)

    assert (ran.returncode, ran.stdout) == (0, "[1]\n"), ran.stderr
    assert status.returncode == 0, status.stderr
    assert f"queue\t{QUEUE}\t0\t\n" in status.stdout
    assert "\talive\n" in status.stdout
    assert (requeued.returncode, dead.returncode) == (0, 0), requeued.stderr + dead.stderr
    assert serving.returncode == 0


def test_the_doctor_knows_a_cluster(cluster: Cluster) -> None:
    """By its URL all is in order; by that of one node the right kind of URL is named."""
    node = cluster.primary(SLOT)

    whole = json.loads(_command("doctor", "--json", url=cluster.url()).stdout)
    alone = json.loads(_command("doctor", "--json", url=f"redis://127.0.0.1:{node.port}").stdout)

    assert [each["level"] for each in whole if each["check"] == "cluster"] == ["ok"]
    (other, _) = [each for each in alone if each["check"] == "cluster"]
    assert other["level"] == "mend"
    assert "redis+cluster://" in other["sentence"]


@pytest.mark.parametrize("arguments", [["status"], ["run", "echo"], ["requeue", "nobody"]])
def test_a_url_of_one_node_is_one_sentence(cluster: Cluster, arguments: list[str]) -> None:
    """Where that node hasn't the queue, status 4, and how the URL of a cluster begins."""
    owner = cluster.primary(SLOT)
    other = next(n for n in cluster.nodes if n is not owner and n.ask("ROLE")[0] == b"master")

    ended = _command(*arguments, url=f"redis://127.0.0.1:{other.port}")

    assert (ended.returncode, ended.stdout) == (4, "")
    assert re.fullmatch(r"jobqueue: .*MOVED .*redis\+cluster://.*\n", ended.stderr), ended.stderr


@pytest.mark.parametrize("server", ["server", "aio_server"])
def test_a_server_with_the_url_of_one_node_says_how_it_begins(
    cluster: Cluster, server: str
) -> None:
    """In each line of the log, since the slot may come, and at SIGTERM, which ends it."""
    owner = cluster.primary(SLOT)
    other = next(n for n in cluster.nodes if n is not owner and n.ask("ROLE")[0] == b"master")
    url = f"redis://127.0.0.1:{other.port}"
    with subprocess.Popen(
        [sys.executable, "-m", "jobqueue", "serve", f"served:{server}"],
        env=os.environ | {"REDIS_URL": url, "JOBQUEUE_QUEUE": QUEUE},
        cwd=Path(__file__).parent,
        stderr=subprocess.PIPE,
        text=True,
    ) as serving:
        assert serving.stderr is not None
        refused = next(line for line in serving.stderr if "MOVED" in line)
        serving.send_signal(signal.SIGTERM)
        *_, said = serving.stderr

    assert "redis+cluster://" in refused
    assert said.startswith("jobqueue: ")
    assert "redis+cluster://" in said
    assert serving.returncode == 4


@pytest.mark.parametrize("arguments", [["status"], ["run", "echo"], ["serve", "served:server"]])
def test_a_master_that_is_not_known_is_one_sentence(
    sentinels: Sentinels, arguments: list[str]
) -> None:
    """Status 4, with what each sentinel says."""
    ended = _command(*arguments, url=sentinels.url("other"))

    errors = [line for line in ended.stderr.splitlines() if line.startswith("jobqueue: ")]
    assert (ended.returncode, len(errors)) == (4, 1), ended.stderr
    assert "Traceback" not in ended.stderr
    assert errors[0].count("doesn't know the master 'other'") == 3


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "asyncio"])
@pytest.mark.parametrize(
    "scheme", ["redis+cluster://127.0.0.1:1,127.0.0.1:2", "redis+sentinel://127.0.0.1:1/main"]
)
def test_nobody_to_ask_is_one_sentence(scheme: str, *, asynchronous: bool) -> None:
    """A server ends at its first attempt, a job isn't queued."""
    server = (aio.Server if asynchronous else Server)(scheme, queue=QUEUE)
    with pytest.raises(ConnectionLost, match=r"can't connect to Redis: 127\.0\.0\.1:") as refused:
        run_here(server)
    caller = Caller(scheme, asynchronous=asynchronous, queue=QUEUE)
    with pytest.raises(NotQueued, match=r"127\.0\.0\.1:1: Connection refused"):
        caller.run("echo", timeout=DEADLINE_S)
    caller.close()

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "asyncio"])
def test_a_server_stops_while_a_slot_is_on_its_way(cluster: Cluster, *, asynchronous: bool) -> None:
    """Redis refuses all of its commands (TRYAGAIN, ASK); a stop ends it all the same; nothing is lost."""
    source = cluster.primary(SLOT)
    target = next(n for n in cluster.nodes if n is not source and n.ask("ROLE")[0] == b"master")
    server = (aio.Server if asynchronous else Server)(
        cluster.url(), queue=QUEUE, processor="test", block_timeout=0.2
    )
    server.on("echo", echo)
    running = Running(server)
    with Client(cluster.url(), queue=QUEUE) as client:
        assert client.run("echo", 1).result(DEADLINE_S) == 1
        cluster.begin_moving(SLOT, source, target)
        try:
            with pytest.raises(NotQueued, match="ASK"):
                client.run("echo", 2).result(DEADLINE_S)
            running.server.stop()
            running.thread.join(DEADLINE_S)
            assert not running.thread.is_alive(), "expected the server to stop"
        finally:
            cluster.end_moving(SLOT, source, target)
            until(cluster.is_whole, "a cluster that agrees")


def test_a_server_ends_while_all_nodes_are_away(deployment: Cluster | Sentinels) -> None:
    """SIGTERM ends it with one sentence and status 4, although nobody can be asked."""
    asked = deployment.sentinels if isinstance(deployment, Sentinels) else []
    command = [sys.executable, "-m", "jobqueue", "serve", "served:server"]
    environment = os.environ | {"REDIS_URL": deployment.url(), "JOBQUEUE_QUEUE": QUEUE}
    with subprocess.Popen(
        command, env=environment, cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True
    ) as serving:
        with Client(deployment.url(), queue=QUEUE) as client:
            assert client.run("echo", 1, timeout=DEADLINE_S).result() == 1
        with ExitStack() as frozen:
            for node in (*deployment.nodes, *asked):
                frozen.enter_context(node.frozen())
            serving.send_signal(signal.SIGTERM)
            _, said = serving.communicate(timeout=2 * DEADLINE_S)
    until(deployment.is_whole, "all nodes")

    sentences = [line for line in said.splitlines() if line.startswith("jobqueue: ")]
    assert (serving.returncode, len(sentences)) == (4, 1), said
    assert "Traceback" not in said


def test_no_job_is_lost_in_a_storm(deployment: Cluster | Sentinels, tmp_path: Path) -> None:
    """The primary is killed and frozen, and the slot moves, under 200 calls a second."""
    account = storm_on(deployment, tmp_path, rounds=2, every_s=3, rate=200)

    assert (account.lost, account.wrong, account.left) == (0, 0, 0), str(account)
    assert account.statuses == [0, 0], str(account)
    assert len(account.kept) > 20, str(account)
    assert {"primary killed", "primary frozen"} <= set(account.faults), str(account)
