"""Several jobs of one client in flight at once."""

import random

import pytest
from redis import Redis

from jobqueue_conformance.peer.calls import let_time_out, run_after_a_loss
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import written
from jobqueue_conformance.spec.verdicts import require

IN_FLIGHT = 32
TIMEOUTS, LEAST_MS = 1100, 1000
LOSSES = 3


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


@pytest.mark.requirement("client.concurrent.in-flight", "client.timeout.settles")
@pytest.mark.dimensions(size="1,024", moment="outstanding", caller="timeout", repetition="faults")
def test_every_timeout_in_flight_passes(client: StartClient, notifier: Notifier) -> None:
    """Of 1,100 jobs at once, pairs with one timeout and the later pairs with a shorter one, each is timed out."""
    driver = client()
    timeouts_ms = [LEAST_MS + number // 2 for number in reversed(range(TIMEOUTS))]
    seqs = [driver.submit("echo", ms, timeout_ms=ms) for ms in timeouts_ms]

    notifier.happens(lambda: len(driver.lines) >= TIMEOUTS, notifier.deadline_s)
    kinds = [each.kind for each in driver.lines]

    require(
        kinds == ["timeout"] * TIMEOUTS and {each.seq for each in driver.lines} == {*seqs},
        "client.timeout.settles",
        expected=f"{TIMEOUTS} timeouts",
        got=f"{len(kinds)} outcomes, of which {kinds.count('timeout')} are timeouts",
    )


@pytest.mark.requirement("client.concurrent.in-flight", "client.lost.settles")
@pytest.mark.dimensions(
    size="8",
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "cut"),
    caller="no timeout",
    repetition="faults",
)
def test_every_job_in_flight_is_lost(client: StartClient, peer: Peer, proxy: Proxy) -> None:
    """Of many jobs in flight without a timeout, each is settled as connection-lost, at each of several losses."""
    driver = client()
    for number in range(LOSSES):
        run_after_a_loss(driver, peer, proxy.notifier, f"before the loss {number}")
        seqs = [driver.submit("echo", each) for each in range(IN_FLIGHT)]
        jobs = [peer.claim() for _ in seqs]
        proxy.notifier.wait(
            lambda: not any(proxy.under_way(job.id) for job in jobs),  # noqa: B023 - asked in this turn only
            "the replies to the pushes",
        )

        proxy.drop()
        proxy.notifier.happens(
            lambda: all(driver.outcomes(seq) for seq in seqs),  # noqa: B023 - asked in this turn only
            proxy.notifier.deadline_s,
        )
        codes = [each.code for seq in seqs for each in driver.outcomes(seq)]
        require(
            codes == ["connection-lost"] * IN_FLIGHT,
            "client.lost.settles",
            expected=f"{IN_FLIGHT} times the error connection-lost, at the loss {number}",
            got=f"{len(codes)} outcomes: {codes}",
        )


@pytest.mark.requirement("client.concurrent.in-flight", "client.settle.not-queued")
@pytest.mark.dimensions(moment="outstanding", answer="error", caller=("timeout", "no timeout"))
def test_a_refused_push_is_its_jobs_own(
    client: StartClient, peer: Peer, redis: Redis, keys: Keys
) -> None:
    """When the push of one job is refused, those in flight wait on, with a timeout and without."""
    driver = client()
    seqs = [driver.submit("echo", ms, timeout_ms=ms) for ms in (None, 60_000)]
    jobs = [peer.claim() for _ in seqs]

    redis.set(keys.queue, "no list")
    refused = driver.outcome(driver.submit("echo", "refused"))
    redis.delete(keys.queue)
    for job in jobs:
        peer.answer(job, result=job.parameters)
    got = [driver.outcome(seq).value for seq in seqs]

    require(
        refused.code == "not-queued",
        "client.settle.not-queued",
        expected="the error not-queued",
        got=refused,
    )
    require(
        got == [None, 60_000],
        "client.concurrent.in-flight",
        expected="the others settled by their results",
        got=[driver.outcomes(seq) for seq in seqs],
    )
