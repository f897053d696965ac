"""Which of a client's connections are lost, and in which order: the subscription, the one that pushes, or both.

Where one connection does both, it is lost twice in a row.
"""

import pytest
from redis import Redis

from jobqueue_conformance.peer.calls import run_after_a_loss
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import COMMAND
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import require

LONG_MS, TRY_MS = 60_000, 1000
APART_S = 0.3  # a client that sees both losses as one has done so by then


def subscriptions(proxy: Proxy) -> list[int]:
    """The connections on which the client has subscribed, the last one last."""
    return [event.connection for event in list(proxy.events) if matches.subscribed(event)]


def pushed_on(proxy: Proxy, job: Job) -> int:
    """The connection on which the client has pushed the job."""
    return next(
        event.connection
        for event in list(proxy.events)
        if event.kind == COMMAND and event.carries(job.message)
    )


@pytest.mark.requirement("client.lost.settles")
@pytest.mark.dimensions(
    moment="outstanding", connection=("subscription", "cut", "half-open"), caller="no timeout"
)
@pytest.mark.parametrize("how", ["fin", "rst", "half-open"])
def test_a_lost_subscription_is_noticed_by_itself(
    client: StartClient, peer: Peer, proxy: Proxy, how: str
) -> None:
    """A job without a timeout is settled as lost with the subscription alone, and nobody runs another one."""
    driver = client()
    seq = driver.submit("echo", "lost")
    job = peer.claim()
    proxy.wait_pushed(job.id)

    end = subscriptions(proxy)[-1]
    proxy.drop(number=end, how="rst" if how == "rst" else "fin", half_open=how == "half-open")
    proxy.notifier.happens(lambda: driver.outcomes(seq), proxy.notifier.deadline_s)
    outcomes = driver.outcomes(seq)
    proxy.hang_up()

    require(
        [outcome.code for outcome in outcomes] == ["connection-lost"],
        "client.lost.settles",
        expected="the error connection-lost",
        got=outcomes,
    )


@pytest.mark.requirement("client.lost.waits")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("subscription", "cut", "half-open"),
    caller="timeout",
)
@pytest.mark.parametrize("how", ["fin", "rst", "half-open"])
def test_a_lost_subscription_is_renewed_by_itself(
    client: StartClient, peer: Peer, proxy: Proxy, how: str
) -> None:
    """A job with a timeout has its result, which is published after the subscription alone was lost and renewed."""
    driver = client()
    seq = driver.submit("echo", "waits on", timeout_ms=LONG_MS)
    job = peer.claim()
    proxy.wait_pushed(job.id)
    times = len(subscriptions(proxy))

    end = subscriptions(proxy)[-1]
    proxy.drop(number=end, how="rst" if how == "rst" else "fin", half_open=how == "half-open")
    proxy.notifier.happens(
        lambda: len(subscriptions(proxy)) > times or driver.outcomes(seq), proxy.notifier.deadline_s
    )
    peer.answer(job, result="after the loss")
    proxy.notifier.happens(lambda: driver.outcomes(seq), proxy.notifier.deadline_s)
    proxy.hang_up()

    require(
        [outcome.value for outcome in driver.outcomes(seq)] == ["after the loss"],
        "client.lost.waits",
        expected="the result that was published after the client had subscribed again",
        got=driver.outcomes(seq),
    )


@pytest.mark.requirement("client.lost.settles")
@pytest.mark.dimensions(
    moment="outstanding",
    connection=("pushes", "subscription", "cut"),
    caller="no timeout",
    repetition="faults",
)
@pytest.mark.parametrize("first", ["pushes", "subscription"])
def test_two_losses_in_a_row_are_two(
    client: StartClient, peer: Peer, proxy: Proxy, first: str
) -> None:
    """A job without a timeout is settled as lost when both connections are lost, one after the other."""
    driver = client()
    seq = driver.submit("echo", "lost")
    job = peer.claim()
    proxy.wait_pushed(job.id)
    ends = [pushed_on(proxy, job), subscriptions(proxy)[-1]]

    for number in ends if first == "pushes" else reversed(ends):
        proxy.drop(number=number)
        proxy.notifier.happens(lambda: driver.outcomes(seq), APART_S)
    proxy.notifier.happens(lambda: driver.outcomes(seq), proxy.notifier.deadline_s)

    require(
        [outcome.code for outcome in driver.outcomes(seq)] == ["connection-lost"],
        "client.lost.settles",
        expected="the error connection-lost",
        got=driver.outcomes(seq),
    )


@pytest.mark.requirement("client.subscribe.before-push")
@pytest.mark.dimensions(
    occasion="reconnect", connection=("all", "cut"), caller="timeout", repetition="faults"
)
@pytest.mark.waits(5)
def test_nothing_is_pushed_after_a_loss_before_the_subscription_stands(
    client: StartClient, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """After each of three losses of all its connections, a client pushes only once it is subscribed again."""
    driver = client()
    run_after_a_loss(driver, peer, proxy.notifier, "before")

    for number in range(3):
        hold = proxy.hold(matches.subscribed)
        proxy.drop()
        proxy.notifier.happens(lambda each=hold: each.event, APART_S)  # type: ignore[misc] # it has noticed
        seq = driver.submit("echo", number, timeout_ms=TRY_MS)
        proxy.notifier.wait(
            lambda each=seq: driver.outcomes(each) or redis.exists(keys.queue),  # type: ignore[misc] # a default's type
            "the job to be timed out",
        )
        pushed = redis.lrange(keys.queue, 0, -1)
        require(
            not pushed,
            "client.subscribe.before-push",
            expected="no push while the reply to SUBSCRIBE is held",
            got=pushed,
        )
        hold.release()
        outcome, later = run_after_a_loss(driver, peer, proxy.notifier, "behind")
        require(
            bool(later),
            "client.subscribe.before-push",
            expected="a push once the subscription stands",
            got=outcome,
        )
