"""The first look at an implementation: can it be tested at all, and if not, what is wrong with its adapter.

Where this fails, nothing else is run.
"""

import pytest
import redis as redis_py

from jobqueue_conformance.peer import diagnosis
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient, StartServer
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.spec import messages
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.verdicts import require

HELLO = {"request": "hello"}


@pytest.mark.requirement("server.run.handler")
def test_a_server_answers_a_job(
    server: StartServer,
    peer: Peer,
    keys: Keys,
    redis: redis_py.Redis,
    proxy: Proxy,
    notifier: Notifier,
) -> None:
    """The server answers one job, and the signals that are sent to it reach it."""
    process = server()
    job = peer.push("echo", HELLO)

    result = diagnosis.first_result(peer, job, keys, redis)

    require(
        messages.equal(result.get("result"), HELLO),
        "server.run.handler",
        expected=f"the result {HELLO}",
        got=result,
    )
    diagnosis.check_signals_arrive(process, proxy, notifier)


@pytest.mark.requirement("client.settle.result", "client.settle.value")
def test_a_client_settles_a_job(client: StartClient, peer: Peer) -> None:
    """The client pushes one job, settles it by its result, and exits when its input ends."""
    driver = client()
    seq = driver.submit("echo", HELLO, timeout_ms=30_000)

    peer.answer(diagnosis.first_job(peer), result=HELLO)
    outcome = diagnosis.first_outcome(driver, seq)

    require(
        messages.equal(outcome.value, HELLO),
        "client.settle.value",
        expected=f"the result {HELLO}",
        got=outcome,
    )
    diagnosis.check_ends_with_input(driver)
