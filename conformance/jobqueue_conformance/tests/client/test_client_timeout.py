"""When a client gives up on a job: once its timeout has passed, counted from the call, and not before."""

import time

import pytest

from jobqueue_conformance.peer.calls import let_time_out
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.running.fixtures import Pace
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import written
from jobqueue_conformance.spec.verdicts import require

ROUNDING_MS = 10  # timers fire early by a tick
NOISE_EVERY_S, NOISE_S = 0.02, 6.0
PATIENT_S = 1.5


@pytest.mark.requirement("client.timeout.local", "client.timeout.settles")
def test_a_job_is_timed_out_when_its_timeout_has_passed(client: StartClient) -> None:
    """Each of several jobs without a result is timed out, none before its own timeout has passed."""
    driver = client()

    for timeout_ms in (150, 400, 50, 1200):
        called_s = time.monotonic()
        outcome = driver.outcome(driver.submit("echo", timeout_ms, timeout_ms=timeout_ms))
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
def test_a_result_in_time_settles(client: StartClient, peer: Peer, notifier: Notifier) -> None:
    """A job that follows one that was timed out is settled by its result, within a timeout of its own."""
    driver = client()
    let_time_out(driver, peer, notifier, "gives up")

    seq = driver.submit("echo", "waits", timeout_ms=60_000)
    peer.answer(peer.claim(), result="in time")
    outcome = driver.outcome(seq)

    require(
        outcome.value == "in time",
        "client.timeout.local",
        expected="the result",
        got=outcome,
    )


@pytest.mark.requirement("client.settle.result")
def test_a_job_without_a_timeout_waits(client: StartClient, peer: Peer, notifier: Notifier) -> None:
    """A job without a timeout is settled by a result that takes its time."""
    driver = client()
    seq = driver.submit("echo", "patient")
    job = peer.claim()

    notifier.happens(lambda: driver.outcomes(seq), PATIENT_S)
    peer.answer(job, result="at last")
    outcome = driver.outcome(seq)

    require(
        outcome.value == "at last",
        "client.settle.result",
        expected=f"the result, after {PATIENT_S:g} s",
        got=outcome,
    )


@pytest.mark.requirement("client.timeout.settles")
def test_a_timeout_is_counted_from_the_call(
    client: StartClient, keys: Keys, proxy: Proxy, pace: Pace
) -> None:
    """A job whose push is answered late is timed out sooner than its timeout after that answer."""
    slowness = pace.deadline_s / Pace().deadline_s
    timeout_s, held_s = 2.0 * slowness, 1.5 * slowness
    driver = client()
    hold = proxy.hold(matches.reply_naming(keys.queue))
    seq = driver.submit("echo", "from the call", timeout_ms=int(timeout_s * 1000))
    hold.wait()

    proxy.notifier.happens(lambda: driver.outcomes(seq), held_s)
    hold.release()
    answered_s = time.monotonic()
    outcome = driver.outcome(seq)
    after_s = time.monotonic() - answered_s

    require(
        outcome.kind == "timeout" and after_s < timeout_s - held_s / 2,
        "client.timeout.settles",
        expected=f"a timeout about {timeout_s - held_s:g} s after the push was answered",
        got=f"{outcome} after {after_s:.1f} s",
    )


@pytest.mark.requirement("client.timeout.settles")
def test_noise_on_the_channel_puts_off_no_timeout(
    client: StartClient, peer: Peer, notifier: Notifier
) -> None:
    """A job is timed out although messages for nobody keep arriving."""
    driver = client()
    _, earlier, _ = let_time_out(driver, peer, notifier, "earlier")
    seq = driver.submit("echo", "noise", timeout_ms=300)
    end_s = time.monotonic() + NOISE_S

    while not driver.outcomes(seq) and time.monotonic() < end_s:
        peer.publish(earlier.channel, written(id="nobody's", result=None))
        notifier.happens(lambda: driver.outcomes(seq), NOISE_EVERY_S)

    require(
        [outcome.kind for outcome in driver.outcomes(seq)] == ["timeout"],
        "client.timeout.settles",
        expected=f"a timeout within {NOISE_S:g} s",
        got=driver.outcomes(seq),
    )


@pytest.mark.requirement("client.timeout.local", "client.concurrent.in-flight")
def test_each_timeout_is_its_jobs_own(client: StartClient, peer: Peer, notifier: Notifier) -> None:
    """When a quick job in flight is timed out, a slow one and one without a timeout wait on."""
    driver = client()
    seqs = [driver.submit("echo", "patient"), driver.submit("echo", "slow", timeout_ms=60_000)]
    jobs = [peer.claim(), peer.claim()]

    let_time_out(driver, peer, notifier, "quick")
    early = [outcome for seq in seqs for outcome in driver.outcomes(seq)]
    for job in jobs:
        peer.answer(job, result=job.parameters)
    got = [driver.outcome(seq).value for seq in seqs]

    require(
        not early and got == ["patient", "slow"],
        "client.timeout.local",
        expected="the others settled by their results",
        got=f"{early}, {got}",
    )
