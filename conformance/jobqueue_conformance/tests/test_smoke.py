"""The first look at an implementation: can it be tested at all, and if not, what is wrong with its adapter.

Where this fails, nothing else is run.
"""

import pytest
import redis as redis_py

from jobqueue_conformance import smoke, wire
from jobqueue_conformance.bell import Bell
from jobqueue_conformance.keys import Keys
from jobqueue_conformance.peer import Peer
from jobqueue_conformance.pytest_fixtures import StartClient, StartServer
from jobqueue_conformance.tap import Tap
from jobqueue_conformance.verdicts import require

HELLO = {"request": "hello"}


@pytest.mark.requirement("server.run.handler")
def test_a_server_answers_a_job(
    server: StartServer, peer: Peer, keys: Keys, redis: redis_py.Redis, tap: Tap, bell: Bell
) -> None:
    """The server answers one job, and the signals that are sent to it reach it."""
    process = server()
    job = peer.push("echo", HELLO)

    result = smoke.first_result(peer, job, keys, redis)

    require(
        wire.equal(result.get("result"), HELLO),
        "server.run.handler",
        expected=f"the result {HELLO}",
        got=result,
    )
    smoke.check_signals_arrive(process, tap, bell)


@pytest.mark.requirement("client.settle.result", "client.settle.value")
def test_a_client_settles_a_job(client: StartClient, peer: Peer) -> None:
    """The client pushes one job, settles it by its result, and exits when its input ends."""
    driver = client()
    seq = driver.submit("echo", HELLO, timeout_ms=30_000)

    peer.answer(smoke.first_job(peer), result=HELLO)
    outcome = smoke.first_outcome(driver, seq)

    require(
        wire.equal(outcome.value, HELLO),
        "client.settle.value",
        expected=f"the result {HELLO}",
        got=outcome,
    )
    smoke.check_ends_with_input(driver)
