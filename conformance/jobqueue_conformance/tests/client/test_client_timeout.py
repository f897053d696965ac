"""When a client gives up on a job: once its timeout has passed, counted from the call, and not before."""

import time
from functools import partial

import pytest

from jobqueue_conformance.peer.calls import let_time_out, pushed_or_settled, run_after_a_loss
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.client import Outcome
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.running.fixtures import Pace
from jobqueue_conformance.spec import handles
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.messages import Job, written
from jobqueue_conformance.spec.verdicts import fail, require

ROUNDING_MS = 10  # timers fire early by a tick
NOISE_EVERY_S, NOISE_S = 0.02, 6.0
PATIENT_S = 1.5
HELD_MS = 1000
HUGE_MS = (1 << 31, (1 << 32) + 1, 10**11)  # beyond 31 and 32 bits of ms; years
AT_ONCE_S = 0.3
LATE_S = 1.0  # for a timeout on an idle machine
MANY_TIMEOUTS, LONG_MS = 130, 600_000


@pytest.mark.requirement("client.timeout.local", "client.timeout.settles")
@pytest.mark.dimensions(size="below 1", occasion="again", caller="timeout")
def test_a_job_is_timed_out_when_its_timeout_has_passed(
    client: StartClient, notifier: Notifier, pace: Pace
) -> None:
    """Each of several jobs without a result is timed out soon, none before its own timeout has passed."""
    driver = client()
    late_s = []

    for timeout_ms in (150, 400, 50, 0.5, 1200):
        called_s = time.monotonic()
        seq = driver.submit("echo", timeout_ms, timeout_ms=timeout_ms)
        notifier.happens(partial(driver.outcomes, seq), notifier.deadline_s)
        elapsed_ms = (time.monotonic() - called_s) * 1000

        require(
            [outcome.kind for outcome in driver.outcomes(seq)] == ["timeout"],
            "client.timeout.settles",
            expected=f"a timeout after {timeout_ms} ms",
            got=driver.outcomes(seq),
        )
        require(
            elapsed_ms >= timeout_ms - ROUNDING_MS,
            "client.timeout.local",
            expected=f"nothing before {timeout_ms} ms have passed",
            got=f"a timeout after {elapsed_ms:.0f} ms",
        )
        late_s.append(elapsed_ms / 1000 - timeout_ms / 1000)

    # The first waits for the client's start, and a busy machine can make each of the others late, but not all.
    soonest_s = min(late_s[1:])
    require(
        soonest_s <= LATE_S * pace.deadline_s / Pace().deadline_s,
        "client.timeout.settles",
        expected=f"timeouts within {LATE_S:g} s",
        got=f"all are late, by {soonest_s:.1f} s at least",
    )


@pytest.mark.requirement("client.timeout.settles")
@pytest.mark.dimensions(
    occasion=("unconnected", "reconnect"),
    moment="outstanding",
    connection=("subscription", "pushes", "held"),
    caller="timeout",
)
@pytest.mark.parametrize("lost", [False, True], ids=["", "after-a-loss"])
@pytest.mark.parametrize("what", ["subscription", "push"])
def test_a_timeout_passes_whatever_isnt_answered(
    client: StartClient, peer: Peer, keys: Keys, proxy: Proxy, what: str, *, lost: bool
) -> None:
    """A job is timed out while the reply to SUBSCRIBE, or to its push, is held, at first or after a loss."""
    proxy.endpoint("client", keys.queue)
    held = matches.subscribed if what == "subscription" else matches.reply_naming(keys.queue)
    if lost:
        driver = client()
        run_after_a_loss(driver, peer, proxy.notifier, "before")
        hold = proxy.hold(held)
        proxy.drop()
    else:
        hold = proxy.hold(held)
        driver = client()
    seq = driver.submit("echo", "held", timeout_ms=HELD_MS)
    proxy.notifier.happens(lambda: driver.outcomes(seq), proxy.notifier.deadline_s)

    require(
        [outcome.kind for outcome in driver.outcomes(seq)] == ["timeout"],
        "client.timeout.settles",
        expected=f"a timeout after {HELD_MS} ms",
        got=f"{driver.outcomes(seq)}, while {hold.event or 'nothing'} is held",
    )


@pytest.mark.requirement("client.timeout.local")
@pytest.mark.dimensions(occasion="again", caller="timeout")
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


@pytest.mark.requirement("client.timeout.local")
@pytest.mark.dimensions(size="100", occasion="again", caller="timeout")
def test_many_timeouts_that_never_pass_settle_nothing(
    client: StartClient, peer: Peer, notifier: Notifier, implementation: Implementation
) -> None:
    """Each of 130 jobs, one after another, is settled by its result, and so is one that was called before them all."""
    driver = client()
    first = kept = None
    if "concurrent-client" in implementation.features:
        first = driver.submit(
            "echo", "first", timeout_ms=LONG_MS
        )  # its timeout is the next to pass
        kept = peer.claim()

    for number in range(MANY_TIMEOUTS):
        seq = driver.submit("echo", number, timeout_ms=LONG_MS)
        job = notifier.wait(pushed_or_settled(driver, peer, seq), f"job {seq} to be pushed")
        if isinstance(job, Job):
            peer.answer(job, result=number)
        _before_its_timeout([driver.outcome(seq)], number)
    if first is not None and kept is not None:
        peer.answer(kept, result="first")
        notifier.happens(partial(driver.outcomes, first), notifier.deadline_s)
        _before_its_timeout(driver.outcomes(first), "first")


def _before_its_timeout(outcomes: list[Outcome], value: object) -> None:
    require(
        [outcome.value for outcome in outcomes] == [value],
        "client.timeout.local",
        expected=f"the result {value!r}, with {LONG_MS / 1000:g} s left",
        got=outcomes,
    )


@pytest.mark.requirement("client.settle.result")
@pytest.mark.dimensions(caller="no timeout")
@pytest.mark.waits(3)
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
@pytest.mark.dimensions(connection=("pushes", "held"), caller="timeout")
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
@pytest.mark.dimensions(occasion="again", answer="another type", caller="timeout")
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
@pytest.mark.dimensions(moment="outstanding", caller=("timeout", "no timeout"))
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


@pytest.mark.requirement("client.timeout.local", "client.timeout.settles", "client.lost.waits")
@pytest.mark.dimensions(
    size="2³¹", occasion="reconnect", connection=("all", "cut"), caller="timeout"
)
@pytest.mark.parametrize("timeout_ms", HUGE_MS)
def test_a_timeout_of_weeks_is_a_timeout(
    client: StartClient, peer: Peer, proxy: Proxy, timeout_ms: int
) -> None:
    """A timeout beyond what timers take neither passes at once, nor means none, nor stops a later one."""
    driver = client()
    seq = driver.submit("echo", "weeks", timeout_ms=timeout_ms)
    job = proxy.notifier.wait(pushed_or_settled(driver, peer, seq), "a push")
    proxy.notifier.happens(lambda: driver.outcomes(seq), AT_ONCE_S)
    if not isinstance(job, Job) or driver.outcomes(seq):
        fail("client.timeout.local", expected="a job that waits", got=driver.outcomes(seq))

    times = sum(map(matches.subscribed, proxy.events))
    proxy.drop()
    proxy.notifier.happens(
        lambda: sum(map(matches.subscribed, proxy.events)) > times or driver.outcomes(seq),
        proxy.notifier.deadline_s,
    )
    peer.answer(job, result="after a loss")
    outcome = driver.outcome(seq)
    require(
        outcome.value == "after a loss",
        "client.lost.waits",
        expected="the result that was published after the client had subscribed again",
        got=outcome,
    )

    later = driver.submit("echo", "later", timeout_ms=100)
    proxy.notifier.happens(lambda: driver.outcomes(later), proxy.notifier.deadline_s)
    require(
        [each.kind for each in driver.outcomes(later)] == ["timeout"],
        "client.timeout.settles",
        expected="a timeout of a later job, after 100 ms",
        got=driver.outcomes(later),
    )


@pytest.mark.requirement("client.timeout.settles", "client.timeout.local")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "cut", "refused"),
    caller="timeout",
)
@pytest.mark.waits(3)
def test_a_loss_neither_restarts_nor_stops_a_timeout(
    client: StartClient, peer: Peer, proxy: Proxy, pace: Pace, implementation: Implementation
) -> None:
    """A job, also one that is kept or collected, is timed out in time where the client was cut off in between."""
    slowness = pace.deadline_s / Pace().deadline_s
    timeout_s, cut_off_s = 2.5 * slowness, 2.0 * slowness
    driver = client()
    run_after_a_loss(driver, peer, proxy.notifier, "before")
    timeout_ms = int(timeout_s * 1000)
    called_s = time.monotonic()
    seqs = [driver.submit("echo", "cut off", timeout_ms)]
    if {"kept-results-client", "concurrent-client"} <= implementation.features:
        seqs += [
            driver.submit("echo", "kept", timeout_ms, keep_ms=LONG_MS),
            driver.submit("echo", "detached", timeout_ms, keep_ms=LONG_MS, detached=True),
            driver.collect(handles.written(peer.job("echo", "collected")), timeout_ms),
        ]
    for _ in seqs[:3]:
        job = peer.claim()
        proxy.wait_pushed(job.id)

    proxy.refuse()
    proxy.drop()
    proxy.notifier.happens(lambda: any(map(driver.outcomes, seqs)), cut_off_s)
    proxy.accept_again()
    for seq in seqs:
        outcome = driver.outcome(seq)
        after_s = time.monotonic() - called_s
        require(
            after_s >= timeout_s - ROUNDING_MS / 1000,
            "client.timeout.local",
            expected=f"nothing before {timeout_s:g} s have passed",
            got=f"{outcome} after {after_s:.1f} s",
        )
        require(
            outcome.kind == "timeout" and after_s < timeout_s + cut_off_s * 0.75,
            "client.timeout.settles",
            expected=f"a timeout {timeout_s:g} s after the call",
            got=f"{outcome} after {after_s:.1f} s",
        )
