"""What a client does while its connections, or its subscription, are refused, and that it goes on afterwards."""

from functools import partial

import pytest
from redis import Redis

from jobqueue_conformance.peer.calls import AFTER_A_LOSS_S, run_after_a_loss
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.redis_servers.acl import EVERYTHING, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.verdicts import require

USER, PASSWORD = "somebody", "pass"
LONG_MS = 60_000
ATTEMPTS, ATTEMPTS_S = 4, 3.0  # refused in a row, or as many as come in this time
REFUSED_S = 1.0  # time for many attempts of a client that hardly waits between them
TRY_MS = 1500
NOTICES_S = 0.5  # from the loss to the next attempt, where one is made without a job


@pytest.mark.requirement("client.lost.waits", "client.lost.resubscribes")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "refused"),
    caller="timeout",
    repetition="faults",
)
def test_refused_connects_are_survived(client: StartClient, peer: Peer, proxy: Proxy) -> None:
    """A client that nobody listens to, twice over, keeps a job with a timeout waiting, and runs new ones later."""
    driver = client()

    for number in range(2):
        seq = driver.submit("echo", number, timeout_ms=60_000)
        job = peer.claim()
        proxy.notifier.wait(lambda each=job: not proxy.under_way(each.id), "the reply to the push")  # type: ignore[misc] # a default's type
        times = sum(map(matches.subscribed, proxy.events))

        proxy.refuse()
        proxy.drop()
        proxy.notifier.happens(lambda: not driver.running, REFUSED_S)
        proxy.accept_again()
        proxy.notifier.happens(
            lambda before=times, each=seq: (  # type: ignore[misc] # a default's type
                sum(map(matches.subscribed, proxy.events)) > before or driver.outcomes(each)
            ),
            AFTER_A_LOSS_S,
        )
        require(
            driver.running,
            "client.lost.resubscribes",
            expected="a client that goes on",
            got=driver.explain_exit(),
        )
        peer.answer(job, result=number)
        proxy.notifier.happens(partial(driver.outcomes, seq), proxy.notifier.deadline_s)
        require(
            [outcome.value for outcome in driver.outcomes(seq)] == [number],
            "client.lost.waits",
            expected="the result that was published once somebody listened again",
            got=driver.outcomes(seq),
        )
        outcome, _ = run_after_a_loss(driver, peer, proxy.notifier, "behind", TRY_MS)
        require(
            outcome.kind == "result",
            "client.lost.resubscribes",
            expected=f"a new job's result within {AFTER_A_LOSS_S:g} s",
            got=outcome,
        )


@pytest.mark.requirement("client.subscribe.before-push", "client.lost.resubscribes")
@pytest.mark.dimensions(
    occasion="reconnect",
    connection="subscription",
    answer="error",
    settings="rights",
    caller="timeout",
    repetition="faults",
)
def test_a_refused_subscription_is_none(
    client: StartClient,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
) -> None:
    """While Redis refuses its subscription, at first or after a loss, a client pushes nothing; later it runs jobs."""
    set_user(redis_server, USER, PASSWORD, *EVERYTHING, "resetchannels")
    driver = client(user=USER, password=PASSWORD)

    for occasion in ("first", "again"):
        seq = driver.submit("echo", occasion, timeout_ms=TRY_MS)
        proxy.notifier.wait(
            lambda each=seq: driver.outcomes(each) or redis.exists(keys.queue),  # type: ignore[misc] # a default's type
            "the job to be settled",
        )
        pushed = redis.lrange(keys.queue, 0, -1)
        require(
            not pushed,
            "client.subscribe.before-push",
            expected="an empty queue while SUBSCRIBE is refused",
            got=pushed,
        )

        set_user(redis_server, USER, PASSWORD, "allchannels")
        outcome, pushed_then = run_after_a_loss(driver, peer, proxy.notifier, "allowed", TRY_MS)
        require(
            bool(pushed_then) and outcome.value == "allowed",
            "client.lost.resubscribes",
            expected=f"a new job's result within {AFTER_A_LOSS_S:g} s after SUBSCRIBE was allowed",
            got=outcome,
        )
        seen = len(proxy.events)
        set_user(redis_server, USER, PASSWORD, "resetchannels")  # which ends subscriptions, too
        proxy.notifier.happens(
            lambda since=seen: any(each.frame[:1] == b"-" for each in proxy.events[since:]),  # type: ignore[misc] # a default's type
            NOTICES_S,
        )


@pytest.mark.requirement("client.lost.waits", "client.connection.closes")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("subscription", "refused"),
    answer="error",
    settings="rights",
    caller="timeout",
    repetition="faults",
)
def test_a_job_outlives_refused_subscriptions(
    client: StartClient, peer: Peer, redis_server: RedisServer, proxy: Proxy
) -> None:
    """A job with a timeout waits while its client's SUBSCRIBE is refused, several times; what is refused is closed."""
    set_user(redis_server, USER, PASSWORD, *EVERYTHING)
    driver = client(user=USER, password=PASSWORD)
    seq = driver.submit("echo", "waits", timeout_ms=LONG_MS)
    job = peer.claim()
    proxy.notifier.wait(lambda: not proxy.under_way(job.id), "the reply to the push")
    before, seen = proxy.open_connections(driver.name), len(proxy.events)

    def refusals() -> int:
        return sum(each.frame[:1] == b"-" for each in proxy.events[seen:])

    set_user(redis_server, USER, PASSWORD, "resetchannels")  # which ends subscriptions, too
    proxy.notifier.happens(lambda: refusals() > ATTEMPTS or driver.outcomes(seq), ATTEMPTS_S)
    more = max(2, refusals() // 2)
    set_user(redis_server, USER, PASSWORD, "allchannels")
    proxy.notifier.happens(
        lambda: any(map(matches.subscribed, proxy.events[seen:])) or driver.outcomes(seq),
        AFTER_A_LOSS_S,
    )
    peer.answer(job, result="waited")
    proxy.notifier.happens(lambda: driver.outcomes(seq), proxy.notifier.deadline_s)

    require(
        [outcome.value for outcome in driver.outcomes(seq)] == ["waited"],
        "client.lost.waits",
        expected="the result that was published once SUBSCRIBE was allowed again",
        got=driver.outcomes(seq),
    )
    proxy.notifier.happens(lambda: proxy.open_connections(driver.name) < before + more, NOTICES_S)
    after = proxy.open_connections(driver.name)
    require(
        after < before + more,
        "client.connection.closes",
        expected=f"about {before} open connections after {refusals()} refusals",
        got=after,
    )
