"""Several jobs of one client in flight at once."""

import random

import pytest

from jobqueue_conformance.peer.calls import let_time_out
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.spec.messages import written
from jobqueue_conformance.spec.verdicts import require

IN_FLIGHT = 32


@pytest.mark.requirement("client.concurrent.in-flight")
@pytest.mark.dimensions(size="8", moment="outstanding")
def test_jobs_in_flight_are_settled_by_their_own_results(client: StartClient, peer: Peer) -> None:
    """Jobs that are all pushed before the first is answered are each settled by their own result, in any order."""
    driver = client()
    seqs = {driver.submit("echo", number): number for number in range(IN_FLIGHT)}
    jobs = [peer.claim() for _ in seqs]

    random.Random(2).shuffle(jobs)
    for job in jobs:
        peer.publish(job.channel, written(id="nobody's", result=-1))
        peer.answer(job, result=job.parameters)
    got = {seq: driver.outcome(seq).value for seq in seqs}

    require(
        got == seqs,
        "client.concurrent.in-flight",
        expected="each job settled by its own result",
        got={seq: value for seq, value in got.items() if value != seqs[seq]},
    )


@pytest.mark.requirement("client.concurrent.in-flight")
@pytest.mark.dimensions(
    size="8", moment="outstanding", answer="error", caller=("timeout", "no timeout")
)
def test_one_jobs_fate_leaves_the_others_alone(
    client: StartClient, peer: Peer, notifier: Notifier
) -> None:
    """An error, a second result and a timeout of some jobs in flight change nothing for the others."""
    driver = client()
    seqs = [driver.submit("echo", number) for number in range(12)]
    jobs = sorted((peer.claim() for _ in seqs), key=lambda job: int(job.parameters))

    for job in jobs[::3]:
        peer.answer(job, error={"code": "a.b", "message": f"{job.parameters}"})
    for job in jobs[1::3]:
        peer.answer(job, result=job.parameters)
        peer.answer(job, result="twice")
    let_time_out(driver, peer, notifier, "gives up")
    for job in reversed(jobs[2::3]):
        peer.answer(job, result=job.parameters)
    got = [(outcome.value, outcome.message) for outcome in map(driver.outcome, seqs)]

    require(
        got == [(n, None) if n % 3 else (None, f"{n}") for n in range(len(seqs))],
        "client.concurrent.in-flight",
        expected="an error for every third job, and its own value for each other one",
        got=got,
    )
