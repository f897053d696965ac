"""The first look at an implementation: can it be tested at all, and if not, what is wrong with its adapter."""

import pytest

from jobqueue_conformance.peer import Peer
from jobqueue_conformance.pytest_fixtures import StartClient, StartServer
from jobqueue_conformance.verdicts import require


@pytest.mark.requirement("server.run.handler")
def test_server_answers_one_job(server: StartServer, peer: Peer) -> None:
    """The server claims a job, runs its handler, publishes the result and removes the job."""
    server()
    job = peer.push("echo", {"request": "hello"})

    result = peer.result(job)

    require(
        result.get("result") == {"request": "hello"},
        "server.run.handler",
        expected='the result {"request": "hello"}',
        got=result,
    )


@pytest.mark.requirement("client.settle.result")
def test_client_settles_one_job(client: StartClient, peer: Peer) -> None:
    """The client pushes a job, and settles it by the result."""
    driver = client()
    seq = driver.submit("echo", {"request": "hello"}, timeout_ms=10_000)

    peer.answer(peer.claim(), result={"request": "hello"})
    outcome = driver.outcome(seq)

    require(
        outcome.value == {"request": "hello"},
        "client.settle.result",
        expected='the result {"request": "hello"}',
        got=outcome,
    )
