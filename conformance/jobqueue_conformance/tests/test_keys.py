"""The names of lists and channels, for the queues and processors of the fixtures."""

from typing import Any

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient, StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec.keys import PROCESSOR, Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.vectors import vectors
from jobqueue_conformance.spec.verdicts import Unsupported, require

UNUSUAL = {"case", "cluster", "space", "glob", "unicode", "backslash"}  # where careless names break
NAMES = [
    pytest.param(vector, id=vector["id"])
    for vector in vectors("keys")
    if vector["id"] in UNUSUAL or "configured" in vector or ":" in vector.get("processor", "")
]
QUEUES = [
    pytest.param(vector, id=vector["id"]) for vector in vectors("keys") if vector["id"] in UNUSUAL
]


@pytest.fixture
def names(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The vector that a test is about."""
    vector: dict[str, Any] = request.param
    return vector


@pytest.fixture
def keys(names: dict[str, Any], implementation: Implementation) -> Keys:
    """The queue of the vector, in place of a fresh one."""
    if implementation.keys:
        raise Unsupported("its keys are hard-coded")
    return Keys(names["queue"])


@pytest.mark.requirement("server.list.name")
@pytest.mark.dimensions(settings="names")
@pytest.mark.parametrize("names", NAMES, indirect=True)
def test_a_servers_lists_are_named_after_queue_and_processor(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    proxy: Proxy,
    names: dict[str, Any],
    implementation: Implementation,
) -> None:
    """A claimed job is on the list of the vector, and a dead message on its dead list."""
    dead, job = b"no JSON", peer.job("echo", "named")
    hold = proxy.hold(matches.command(job))
    peer.push_message(dead)
    peer.push_job(job)
    configured = names.get("configured", "")
    # With takeover, a server may refuse a list that doesn't begin with the queue's name.
    lease_ms = None if configured.startswith(f"{names['queue']}:") or not configured else 0
    server(names.get("processor", PROCESSOR), in_process=configured, lease_ms=lease_ms)

    hold.wait()
    listed = redis.lrange(names["in_process"], 0, -1)
    lists = sorted(redis.scan_iter(_type="list"))
    hold.release()

    require(
        job.message in listed,
        "server.list.name",
        expected=f"the claimed job on {names['in_process']}",
        got=f"{listed} there; the lists are {lists}",
    )
    peer.wait_settled(job)
    peer.wait_gone(dead, requirement="server.dead.removed")
    kept = redis.lrange(names["dead"], 0, -1)
    require(
        kept == [dead] or "dead-list" not in implementation.features,
        "server.dead-list.keeps",
        expected=f"the dead message on {names['dead']}",
        got=f"{kept} there",
    )


@pytest.mark.requirement("client.channel.name")
@pytest.mark.dimensions(settings="names")
@pytest.mark.parametrize("names", QUEUES, indirect=True)
def test_a_clients_channel_is_named_after_its_queue(
    client: StartClient, peer: Peer, names: dict[str, Any]
) -> None:
    """A client pushes onto the queue of the vector, and names a channel that begins with its name."""
    driver = client()
    seq = driver.submit("echo", "named")
    job = peer.claim()
    peer.answer(job, result="named")
    driver.outcome(seq)

    require(
        job.channel.startswith(names["channel_prefix"]),
        "client.channel.name",
        expected=f"a channel that begins with {names['channel_prefix']!r}",
        got=job.channel,
    )
