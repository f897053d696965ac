"""What becomes of a job whose client loses its connections while it is pushed, or waits for its result."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.calls import (
    AFTER_A_LOSS_S,
    let_time_out,
    pushed_or_settled,
    run_after_a_loss,
)
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.proxy import How, Proxy
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import require

HOWS: tuple[How, ...] = ("fin", "rst") * 6
PATIENCE_S = 0.4
LOSSES = 6


@pytest.mark.requirement("client.lost.settles")
@pytest.mark.dimensions(moment="outstanding", connection=("all", "cut"), caller="no timeout")
def test_a_job_without_a_timeout_is_settled_as_lost(
    client: StartClient, peer: Peer, proxy: Proxy
) -> None:
    """A job without a timeout is settled as connection-lost when the connections end while it waits."""
    driver = client()
    seq = driver.submit("echo", "lost")
    job = peer.claim()
    proxy.wait_pushed(job.id)

    proxy.drop()
    outcome = driver.outcome(seq)

    require(
        (outcome.kind, outcome.code) == ("error", "connection-lost"),
        "client.lost.settles",
        expected="the error connection-lost",
        got=outcome,
    )


@pytest.mark.requirement("client.lost.settles")
@pytest.mark.dimensions(connection=("pushes", "held", "cut"), caller="no timeout")
def test_a_lost_push_without_a_timeout_is_settled(
    client: StartClient, keys: Keys, proxy: Proxy
) -> None:
    """A job without a timeout whose push was never answered is settled as connection-lost."""
    driver = client()
    hold = proxy.hold(matches.reply_naming(keys.queue))
    seq = driver.submit("echo", "lost push")
    hold.wait()

    hold.drop()
    outcome = driver.outcome(seq)

    require(
        (outcome.kind, outcome.code) == ("error", "connection-lost"),
        "client.lost.settles",
        expected="the error connection-lost",
        got=outcome,
    )


@pytest.mark.requirement("client.lost.waits")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "cut"),
    caller="timeout",
    repetition="faults",
)
def test_a_job_with_a_timeout_goes_on_waiting(
    client: StartClient, peer: Peer, redis: Redis, proxy: Proxy
) -> None:
    """A job with a timeout is settled by a result that comes after the client has subscribed again, several times."""
    driver = client()
    seq = driver.submit("echo", "waits on", timeout_ms=20_000)
    job = peer.claim()
    proxy.wait_pushed(job.id)

    for _ in range(LOSSES):
        proxy.drop()
        proxy.notifier.wait(
            lambda: redis.pubsub_numsub(job.channel)[0][1] or driver.outcomes(seq),
            "a new subscription",
        )
    peer.answer(job, result="after the loss")
    outcome = driver.outcome(seq)

    require(
        outcome.value == "after the loss",
        "client.lost.waits",
        expected="the result that was published after the client had subscribed again",
        got=outcome,
    )


@pytest.mark.requirement("client.lost.waits")
@pytest.mark.dimensions(
    occasion="reconnect", connection=("pushes", "held", "cut"), caller="timeout"
)
def test_a_job_with_a_timeout_outlives_a_lost_push(
    client: StartClient, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """A job with a timeout whose push was executed, but never answered, is settled by its result."""
    driver = client()
    hold = proxy.hold(matches.reply_naming(keys.queue))
    seq = driver.submit("echo", "lost push", timeout_ms=20_000)
    hold.wait()

    hold.drop()
    job = peer.claim()
    proxy.notifier.happens(
        lambda: driver.outcomes(seq), PATIENCE_S
    )  # what gives up does so before the result
    proxy.notifier.wait(
        lambda: redis.pubsub_numsub(job.channel)[0][1] or driver.outcomes(seq),
        "a subscription",
    )
    peer.answer(job, result="after the loss")
    outcome = driver.outcome(seq)

    require(
        outcome.value == "after the loss",
        "client.lost.waits",
        expected="the result of the job whose push was never answered",
        got=outcome,
    )


@pytest.mark.requirement("client.timeout.settles", "client.timeout.local")
@pytest.mark.dimensions(
    occasion=("reconnect", "again"), connection=("all", "cut"), caller="timeout"
)
def test_a_job_whose_result_was_missed_is_timed_out(
    client: StartClient, peer: Peer, proxy: Proxy
) -> None:
    """A job whose result was published while the client was cut off is settled by its timeout."""
    driver = client()
    let_time_out(driver, peer, proxy.notifier, "before")
    seq = driver.submit("echo", "missed", timeout_ms=1000)
    job = proxy.notifier.wait(pushed_or_settled(driver, peer, seq), "a push")

    proxy.stop_accepting()
    proxy.drop()
    if isinstance(job, Job):
        peer.answer(job, result="missed")
    proxy.accept_again()
    outcome = driver.outcome(seq)

    require(
        outcome.kind == "timeout",
        "client.timeout.settles",
        expected="a timeout",
        got=outcome,
    )


@pytest.mark.requirement("client.lost.resubscribes", "client.settle.value", "client.job.id")
@pytest.mark.dimensions(
    size="8",
    occasion="reconnect",
    connection=("all", "cut"),
    repetition="faults",
)
def test_new_jobs_run_after_a_loss(client: StartClient, peer: Peer, proxy: Proxy) -> None:
    """A client whose connections end, again and again, runs new jobs in the same process, under ids of their own."""
    driver = client()
    used: list[tuple[str, str]] = []

    for number, how in enumerate(HOWS):
        for value in (f"first {number}", f"second {number}"):
            outcome, pushed = run_after_a_loss(driver, peer, proxy.notifier, value)
            require(
                pushed and outcome.kind == "result",
                "client.lost.resubscribes",
                expected=f"a new job's result within {AFTER_A_LOSS_S:g} s",
                got=outcome if pushed else "no job",
            )
            require(
                outcome.value == value,
                "client.settle.value",
                expected=f"the value {value!r}",
                got=outcome,
            )
            used += [(job.channel, job.id) for job in pushed]
        proxy.drop(how=how)

    require(
        len(used) == len(set(used)),
        "client.job.id",
        expected="another pair of channel and id for each job",
        got=used,
    )


@pytest.mark.requirement("client.push.once")
@pytest.mark.dimensions(
    occasion=("again", "reconnect"),
    connection=("pushes", "held", "cut"),
    caller=("timeout", "no timeout"),
)
@pytest.mark.parametrize("timeout_ms", [None, 400])
def test_a_push_whose_reply_is_lost_is_not_repeated(
    client: StartClient, peer: Peer, keys: Keys, proxy: Proxy, timeout_ms: int | None
) -> None:
    """A job whose push was executed, but whose reply was lost with the connection, is on the queue once."""
    driver = client()
    _, pushed = run_after_a_loss(driver, peer, proxy.notifier, "before the loss")
    require(pushed, "client.push.once", expected="a job on the queue", got="none")
    hold = proxy.hold(matches.reply_naming(keys.queue))
    seq = driver.submit("echo", "lost reply", timeout_ms=timeout_ms)
    proxy.notifier.wait(lambda: hold.event or driver.outcomes(seq), "the reply to the push")

    proxy.drop()
    driver.outcome(seq)
    outcome, pushed = run_after_a_loss(driver, peer, proxy.notifier, "behind")
    times = [job.parameters for job in pushed].count("lost reply")

    require(
        times == 1 or hold.event is None,
        "client.push.once",
        expected="the job once on the queue",
        got=f"{times} times, until {outcome}",
    )
