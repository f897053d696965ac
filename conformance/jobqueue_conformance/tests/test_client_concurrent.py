"""Several jobs of one client in flight at once."""

import random

import pytest

from jobqueue_conformance.peer import Peer
from jobqueue_conformance.pytest_fixtures import StartClient
from jobqueue_conformance.verdicts import require
from jobqueue_conformance.wire import written

IN_FLIGHT = 32


@pytest.mark.requirement("client.concurrent.in-flight")
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
def test_one_jobs_fate_leaves_the_others_alone(client: StartClient, peer: Peer) -> None:
    """Errors, timeouts and duplicates of some jobs in flight change nothing for the others."""
    driver = client()
    seqs = [driver.submit("echo", n, timeout_ms=200 if n % 4 == 0 else None) for n in range(16)]
    jobs = sorted((peer.claim() for _ in seqs), key=lambda job: int(job.parameters))

    for job in jobs[1::4]:
        peer.answer(job, error={"code": "a.b", "message": f"{job.parameters}"})
    for job in jobs[2::4]:
        peer.answer(job, result=job.parameters)
        peer.answer(job, result="twice")
    timed_out = [driver.outcome(seq).kind for seq in seqs[::4]]
    for job in reversed(jobs[3::4]):
        peer.answer(job, result=job.parameters)
    got = [driver.outcome(seq) for seq in seqs]

    told = [
        ("timeout", None, None),
        ("error", None, "{}"),
        ("result", "{}", None),
        ("result", "{}", None),
    ]
    wrong = {
        number: outcome
        for number, outcome in enumerate(got)
        if [outcome.kind, outcome.value, outcome.message]
        != [
            told[number % 4][0],
            number if told[number % 4][1] else None,
            f"{number}" if told[number % 4][2] else None,
        ]
    }
    require(
        timed_out == ["timeout"] * 4 and not wrong,
        "client.concurrent.in-flight",
        expected="four timeouts, four errors and eight values, each of its own job",
        got=wrong,
    )
