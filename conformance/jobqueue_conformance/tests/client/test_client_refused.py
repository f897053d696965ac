"""What a client does while its connections, or its subscription, are refused, and that it goes on afterwards."""

import json
from collections.abc import Callable
from functools import partial

import pytest
from redis import Redis

from jobqueue_conformance.peer.calls import AFTER_A_LOSS_S, run_after_a_loss
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.client import ClientProcess
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import OPENED, Event
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Budget, Notifier
from jobqueue_conformance.redis_servers.acl import EVERYTHING, PASSWORD, execute, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.messages import Job, written
from jobqueue_conformance.spec.verdicts import require

USER = "somebody"
LONG_MS = 60_000
ATTEMPTS, ATTEMPTS_S = 6, 3.0  # refused in a row, or as many as come in this time
SOME = 3  # connections that a client may have more at one moment than at another, and fewer than it was refused
REFUSED_S = 1.0  # time for many attempts of a client that hardly waits between them
TRY_MS = 1500
AGAIN_S = 0.1
IN_A_ROW, IN_A_ROW_S = 25, 3.0  # or as many as come: a new job's attempt waits for little
NOTICES_S = 0.5  # from the loss to the next attempt, where one is made without a job


@pytest.mark.requirement("client.lost.waits", "client.lost.resubscribes")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "refused"),
    caller="timeout",
    repetition="faults",
)
@pytest.mark.waits(4)
def test_refused_connects_are_survived(client: StartClient, peer: Peer, proxy: Proxy) -> None:
    """A client that nobody listens to, twice over, keeps a job with a timeout waiting, and runs new ones later."""
    driver = client()

    for number in range(2):
        seq = driver.submit("echo", number, timeout_ms=60_000)
        job = peer.claim()
        proxy.wait_pushed(job.id)
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


@pytest.mark.requirement(
    "client.settle.result",
    "client.lost.waits",
    "client.lost.settles",
    "client.push.settled",
    "client.push.left",
    "client.concurrent.in-flight",
)
@pytest.mark.dimensions(
    moment="outstanding",
    connection=("pushes", "held"),
    answer="another error",
    caller=("timeout", "no timeout"),
)
def test_a_refusal_that_ends_a_connection_costs_no_result(
    client: StartClient,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
) -> None:
    """Results in the same packet as READONLY settle their jobs; later ones, and a later loss, settle the others."""
    driver = client()
    timeouts = {"behind": None, "behind, timed": LONG_MS, "later": LONG_MS, "never": None}
    seqs = {each: driver.submit("echo", each, timeouts[each]) for each in timeouts}
    jobs = {job.parameters: job for job in (peer.claim() for _ in timeouts)}
    proxy.notifier.wait(
        lambda: not any(proxy.under_way(job.id) for job in jobs.values()), "replies to the pushes"
    )

    execute(redis_server, "REPLICAOF", "127.0.0.1", "1")
    hold = proxy.hold(matches.reply_naming(keys.queue))
    refused = driver.submit("echo", "refused")
    hold.wait()
    behind = ("behind", "behind, timed")
    for each in behind:
        peer.publish(jobs[each].channel, written(id=jobs[each].id, result=each))
    redis.ping()  # until this is answered, the results were sent
    hold.release()
    driver.outcome(refused)
    proxy.notifier.happens(
        lambda: all(driver.outcomes(seqs[each]) for each in behind), proxy.notifier.deadline_s
    )
    got = [outcome.value for each in behind for outcome in driver.outcomes(seqs[each])]
    require(
        got == list(behind),
        "client.settle.result",
        expected="both results that came with the refusal",
        got=[driver.outcomes(seqs[each]) for each in behind],
    )

    execute(redis_server, "REPLICAOF", "NO", "ONE")
    publish_until_settled(driver, peer, proxy.notifier, jobs["later"], seqs["later"])
    require(
        [outcome.value for outcome in driver.outcomes(seqs["later"])] == ["later"],
        "client.lost.waits",
        expected="the result that was published after the refusal",
        got=driver.outcomes(seqs["later"]),
    )
    new = [driver.submit("echo", each, LONG_MS) for each in ("one", "two")]
    proxy.notifier.happens(lambda: redis.llen(keys.queue) >= len(new), proxy.notifier.deadline_s)
    queued = [json.loads(each)["parameters"] for each in redis.lrange(keys.queue, 0, -1)]
    require(
        "refused" not in queued,
        "client.push.settled",
        expected="no job that was settled as refused",
        got=queued,
    )
    require(
        queued == ["two", "one"],
        "client.push.left",
        expected="['two', 'one'], the first job on the right",
        got=queued,
    )

    proxy.drop(driver.name)
    proxy.notifier.happens(lambda: driver.outcomes(seqs["never"]), proxy.notifier.deadline_s)
    require(
        [outcome.code for outcome in driver.outcomes(seqs["never"])] == ["connection-lost"],
        "client.lost.settles",
        expected="the job without a timeout settled as connection-lost",
        got=driver.outcomes(seqs["never"]),
    )


@pytest.mark.requirement(
    "client.lost.resubscribes", "client.lost.waits", "client.settle.not-queued"
)
@pytest.mark.dimensions(
    size="8",
    occasion="reconnect",
    connection=("all", "subscription", "pushes", "cut", "refused"),
    answer=("error", "another error"),
    caller=("timeout", "no timeout"),
    repetition="faults",
)
@pytest.mark.waits(3)
def test_many_failures_in_a_row_are_survived(
    client: StartClient,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
    implementation: Implementation,
) -> None:
    """Pushes, subscriptions, then connects fail, 25 in a row: a client runs new jobs, and a waiting one waits on."""
    set_user(redis_server, USER, PASSWORD, *EVERYTHING)
    driver = client(user=USER, password=PASSWORD)
    waits = None
    if "concurrent-client" in implementation.features:
        waits = driver.submit("echo", "waits", timeout_ms=LONG_MS)
        waiting = peer.claim()
        proxy.wait_pushed(waiting.id)

    redis.set(keys.queue, "no list")
    fail_in_a_row(driver, proxy, lambda event: event.frame[:1] == b"-")
    redis.delete(keys.queue)
    require_runs(driver, peer, proxy, "client.settle.not-queued")

    set_user(redis_server, USER, PASSWORD, "resetchannels")  # which ends subscriptions, too
    fail_in_a_row(driver, proxy, lambda event: event.frame[:1] == b"-")
    set_user(redis_server, USER, PASSWORD, "allchannels")
    require_runs(driver, peer, proxy, "client.lost.resubscribes")

    proxy.hang_up_at_once(driver.name)
    proxy.drop(driver.name)
    fail_in_a_row(driver, proxy, lambda event: event.kind == OPENED)
    proxy.hang_up_at_once(driver.name, over=True)
    require_runs(driver, peer, proxy, "client.lost.resubscribes")

    if waits is not None:
        publish_until_settled(driver, peer, proxy.notifier, waiting, waits)
        require(
            [outcome.value for outcome in driver.outcomes(waits)] == ["waits"],
            "client.lost.waits",
            expected="the result that was published when all failures were over",
            got=driver.outcomes(waits),
        )


def fail_in_a_row(driver: ClientProcess, proxy: Proxy, failed: Callable[[Event], bool]) -> None:
    """Run one job after another, for which a client tries at once, until it has failed often or some time is over."""
    seen = len(proxy.events)
    budget = Budget(IN_A_ROW_S)

    def enough() -> bool:
        return sum(map(failed, proxy.events[seen:])) >= IN_A_ROW or not driver.running

    while not enough() and budget.left_s() > 0:
        seq = driver.submit("echo", "in vain")
        proxy.notifier.happens(
            lambda each=seq: driver.outcomes(each) or enough(),  # type: ignore[misc] # a default's type
            budget.left_s(),
        )


def require_runs(driver: ClientProcess, peer: Peer, proxy: Proxy, requirement: str) -> None:
    """The client is still there, and a new job has its result."""
    require(
        driver.running, requirement, expected="a client that goes on", got=driver.explain_exit()
    )
    outcome, _ = run_after_a_loss(driver, peer, proxy.notifier, "behind", TRY_MS)
    require(
        outcome.kind == "result",
        requirement,
        expected=f"a new job's result within {AFTER_A_LOSS_S:g} s after {IN_A_ROW} failures",
        got=outcome,
    )


def publish_until_settled(
    driver: ClientProcess, peer: Peer, notifier: Notifier, job: Job, seq: int
) -> None:
    """Publish a result, and again while nobody listens to it, as a client that connects anew doesn't."""
    budget = Budget(AFTER_A_LOSS_S)
    while not driver.outcomes(seq) and budget.left_s() > 0:
        peer.publish(job.channel, written(id=job.id, result=job.parameters))
        notifier.happens(lambda: driver.outcomes(seq), AGAIN_S)


@pytest.mark.requirement("client.subscribe.before-push", "client.lost.resubscribes")
@pytest.mark.dimensions(
    occasion="reconnect",
    connection="subscription",
    answer="error",
    settings="rights",
    caller="timeout",
    repetition="faults",
)
@pytest.mark.waits(3)
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
    proxy.wait_pushed(job.id)
    before, seen = proxy.open_connections(driver.name), len(proxy.events)

    def refusals() -> int:
        return sum(each.frame[:1] == b"-" for each in proxy.events[seen:])

    set_user(redis_server, USER, PASSWORD, "resetchannels")  # which ends subscriptions, too
    proxy.notifier.happens(lambda: refusals() >= ATTEMPTS or driver.outcomes(seq), ATTEMPTS_S)
    more = max(SOME, refusals() // 2)
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
    proxy.notifier.happens(
        lambda: proxy.open_connections(driver.name) < before + more, proxy.notifier.deadline_s
    )
    after = proxy.open_connections(driver.name)
    require(
        after < before + more,
        "client.connection.closes",
        expected=f"about {before} open connections after {refusals()} refusals",
        got=after,
    )
