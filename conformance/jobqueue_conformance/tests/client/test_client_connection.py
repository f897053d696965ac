"""What becomes of jobs when a client's connections are lost, and that the client goes on."""

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
from jobqueue_conformance.proxy.events import COMMAND, MESSAGE
from jobqueue_conformance.proxy.proxy import How, Proxy
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import require

HOWS: tuple[How, ...] = ("fin", "rst", "fin", "rst")
PATIENCE_S = 0.4


@pytest.mark.requirement("client.lost.settles")
def test_a_job_without_a_timeout_is_settled_as_lost(
    client: StartClient, peer: Peer, proxy: Proxy
) -> None:
    """A job without a timeout is settled as connection-lost when the connections end while it waits."""
    driver = client()
    seq = driver.submit("echo", "lost")
    job = peer.claim()
    proxy.notifier.wait(lambda: not proxy.under_way(job.id), "the reply to the push")

    proxy.drop()
    outcome = driver.outcome(seq)

    require(
        (outcome.kind, outcome.code) == ("error", "connection-lost"),
        "client.lost.settles",
        expected="the error connection-lost",
        got=outcome,
    )


@pytest.mark.requirement("client.lost.settles")
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
def test_a_job_with_a_timeout_goes_on_waiting(
    client: StartClient, peer: Peer, redis: Redis, proxy: Proxy
) -> None:
    """A job with a timeout is settled by a result that comes after the client has subscribed again."""
    driver = client()
    seq = driver.submit("echo", "waits on", timeout_ms=20_000)
    job = peer.claim()
    proxy.notifier.wait(lambda: not proxy.under_way(job.id), "the reply to the push")

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


@pytest.mark.requirement("client.lost.resubscribes")
def test_new_jobs_run_after_a_loss(client: StartClient, peer: Peer, proxy: Proxy) -> None:
    """A client whose connections end, three times over, runs new jobs in the same process."""
    driver = client()

    for how in HOWS:
        outcome, pushed = run_after_a_loss(driver, peer, proxy.notifier, how)
        require(
            pushed and outcome.value == how,
            "client.lost.resubscribes",
            expected=f"a new job's result within {AFTER_A_LOSS_S:g} s",
            got=outcome if pushed else "no job",
        )
        proxy.drop(how=how)


@pytest.mark.requirement("client.push.once")
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


@pytest.mark.requirement("client.subscribe.before-push")
def test_nothing_is_pushed_before_the_next_subscription_stands(
    client: StartClient, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """When a subscription was lost, or given up, a job is pushed only once the next one stands."""
    driver = client()
    seq = driver.submit("echo", "before")
    job = peer.claim()
    noise = proxy.hold(lambda event: event.kind == MESSAGE and event.carries("noise"))
    subscribed = proxy.hold(matches.subscribed)
    peer.answer(job, result=None)
    driver.outcome(seq)
    given_up = proxy.notifier.happens(lambda: subscribed.event, PATIENCE_S)
    if not given_up:
        peer.publish(job.channel, b"noise")
    heard = proxy.notifier.happens(lambda: noise.event, PATIENCE_S)
    if lost := heard is not None:
        noise.drop()  # the subscription alone
    proxy.notifier.happens(lambda: subscribed.event, PATIENCE_S)

    driver.submit("echo", "behind")
    proxy.notifier.happens(lambda: redis.exists(keys.queue), PATIENCE_S)
    sent = [each for each in proxy.events if each.kind == COMMAND and each.carries("behind")]
    renewed = subscribed.event.answers if subscribed.event is not None else None
    early = [each for each in sent if lost or (renewed is not None and each.at_s > renewed.at_s)]

    require(
        not early,
        "client.subscribe.before-push",
        expected="no push while the reply to the next SUBSCRIBE is held",
        got=[each.arguments for each in early],
    )
