"""What a partition costs, with the primary, servers and clients on either side of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from tests.deployments.failovers import CLIENTS, QUEUE, SERVERS, SLOT, Sides, storm_on
from tests.deployments.network import Network
from tests.deployments.nodes import WHOLE_S, Cluster, Sentinels
from tests.server.test_server import job

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.deployment

UNREACHABLE_S = 30  # server.stop.unreachable; a busy machine gets three times as much


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """A switch, to which each node is connected by a cable of its own."""
    if missing := Network.missing():
        pytest.skip(missing)
    with closing(Network()) as network:
        yield network


@pytest.mark.parametrize(
    "cut_off, adopted",
    [
        ({"threads server", "asyncio client"}, True),
        ({"asyncio server", "threads client"}, True),
        (SERVERS, False),
        (CLIENTS, False),
    ],
    ids=["threads-server", "asyncio-server", "servers", "clients"],
)
def test_what_the_replica_has_is_not_lost(
    network: Network,
    deployment: Cluster | Sentinels,
    cut_off: set[str],
    tmp_path: Path,
    *,
    adopted: bool,
) -> None:
    """The primary is cut off with some of us; jobs that only it has may be lost, and no others."""
    sides = Sides(network, cut_off, adopted=adopted)

    account = storm_on(
        deployment, tmp_path, rounds=1, every_s=2, rate=100, timeout_s=10, sides=sides
    )

    print(account)  # noqa: T201 - how many were lost, with WAIT and without it
    assert (account.lost, account.wrong, account.left) == (0, 0, 0), str(account)
    assert account.statuses == [0, 0], str(account)
    assert len(account.kept) > 10, str(account)
    assert account.faults["primary cut off"] == 1, str(account)
    if cut_off == CLIENTS:  # nobody was there to run what the primary had accepted
        assert account.pushed - account.ran, str(account)


@pytest.mark.parametrize("server", ["server", "aio_server"])
def test_a_server_that_is_cut_off_ends(
    network: Network, deployment: Cluster | Sentinels, server: str
) -> None:
    """server.stop.unreachable: SIGTERM ends it, although nothing that it sends arrives."""
    host, environment = network.host(), {"REDIS_URL": deployment.url(), "JOBQUEUE_QUEUE": QUEUE}
    node = deployment.primary(SLOT) if isinstance(deployment, Cluster) else deployment.primary()
    node.ask("LPUSH", QUEUE, job("1"))
    with subprocess.Popen(
        host.command(sys.executable, "-m", "jobqueue", "serve", f"served:{server}"),
        env=os.environ | environment,
        cwd=Path(__file__).parent,
        stderr=subprocess.PIPE,
        text=True,
    ) as serving:
        until(lambda: not node.ask("EXISTS", QUEUE), "it to claim", within_s=WHOLE_S)
        with network.cut(host):
            serving.send_signal(signal.SIGTERM)
            _, said = serving.communicate(timeout=3 * UNREACHABLE_S)

    sentences = [line for line in said.splitlines() if line.startswith("jobqueue: ")]
    assert (serving.returncode, len(sentences)) == (4, 1), said
    assert "Traceback" not in said
