"""When a client gives up on a job: once its timeout has passed, counted from the call, and not before."""

import time

import pytest

from jobqueue_conformance.peer import Peer
from jobqueue_conformance.pytest_fixtures import StartClient
from jobqueue_conformance.tap import Tap
from jobqueue_conformance.verdicts import require
from jobqueue_conformance.wire import written

ROUNDING_MS = 10  # timers fire early by a tick
NOISE_EVERY_S, NOISE_S = 0.02, 3.0


@pytest.mark.requirement("client.timeout.local", "client.timeout.settles")
@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "waiting"])
def test_a_job_is_timed_out_when_its_timeout_has_passed(
    client: StartClient, peer: Peer, claimed: bool
) -> None:
    """Each of several jobs without a result is timed out, none before its own timeout has passed."""
    driver = client()
    for timeout_ms in (150, 300, 50):
        called_s = time.monotonic()
        seq = driver.submit("echo", timeout_ms, timeout_ms=timeout_ms)
        if claimed:
            peer.claim()
        outcome = driver.outcome(seq)
        elapsed_ms = (time.monotonic() - called_s) * 1000

        require(
            outcome.kind == "timeout",
            "client.timeout.settles",
            expected="a timeout",
            got=outcome,
        )
        require(
            elapsed_ms >= timeout_ms - ROUNDING_MS,
            "client.timeout.local",
            expected=f"nothing before {timeout_ms} ms have passed",
            got=f"a timeout after {elapsed_ms:.0f} ms",
        )


@pytest.mark.requirement("client.timeout.local")
def test_a_result_in_time_settles(client: StartClient, peer: Peer) -> None:
    """A job that follows one that was timed out is settled by its result, within a timeout of its own."""
    driver = client()
    driver.outcome(driver.submit("echo", "gives up", timeout_ms=100))
    peer.claim()

    seq = driver.submit("echo", "waits", timeout_ms=60_000)
    peer.answer(peer.claim(), result="in time")
    outcome = driver.outcome(seq)

    require(
        outcome.value == "in time",
        "client.timeout.local",
        expected="the result",
        got=outcome,
    )


@pytest.mark.requirement("client.timeout.settles")
def test_noise_on_the_channel_puts_off_no_timeout(
    client: StartClient, peer: Peer, tap: Tap
) -> None:
    """A job is timed out although messages for nobody keep arriving."""
    driver = client()
    seq = driver.submit("echo", "noise", timeout_ms=300)
    job = peer.claim()
    end_s = time.monotonic() + NOISE_S

    while not driver.outcomes(seq) and time.monotonic() < end_s:
        peer.publish(job.channel, written(id="nobody's", result=None))
        tap.bell.happens(lambda: driver.outcomes(seq), NOISE_EVERY_S)

    require(
        [outcome.kind for outcome in driver.outcomes(seq)] == ["timeout"],
        "client.timeout.settles",
        expected=f"a timeout within {NOISE_S:g} s",
        got=driver.outcomes(seq),
    )


@pytest.mark.requirement("client.timeout.settles", "client.concurrent.in-flight")
def test_each_timeout_is_its_jobs_own(client: StartClient, peer: Peer) -> None:
    """Of several jobs in flight, each is timed out by its own timeout, and one without any waits on."""
    driver = client()
    patient = driver.submit("echo", "patient")
    slow = driver.submit("echo", "slow", timeout_ms=5000)
    called_s = time.monotonic()
    quick = driver.submit("echo", "quick", timeout_ms=150)
    jobs = {job.parameters: job for job in (peer.claim(), peer.claim(), peer.claim())}

    driver.outcome(quick)
    require(
        not driver.outcomes(slow) and not driver.outcomes(patient),
        "client.timeout.local",
        expected="the quick job alone timed out",
        got=driver.lines,
    )
    peer.answer(jobs["slow"], result="slow")
    peer.answer(jobs["patient"], result="patient")
    got = [driver.outcome(seq).value for seq in (slow, patient)]

    require(
        got == ["slow", "patient"],
        "client.timeout.local",
        expected="the results of the others",
        got=f"{got} after {time.monotonic() - called_s:.1f} s",
    )
