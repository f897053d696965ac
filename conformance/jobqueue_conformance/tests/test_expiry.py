"""Jobs that expire: what a server doesn't start any more, and what a client asks for."""

import json
from typing import Any

import pytest
from redis import Redis

from jobqueue_conformance.peer.calls import run_after_a_loss
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.registry import GONE, SCAN_S, Registry
from jobqueue_conformance.programs.client import ClientProcess
from jobqueue_conformance.programs.starting import StartClient, StartServer
from jobqueue_conformance.proxy.events import COMMAND, Event
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.redis_servers.acl import PASSWORD, least_rights, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec import messages
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import require

HOUR_MS = 3_600_000
SOON_MS = 5_000  # in which an idle server starts a job, however slow the machine is
LONG_MS = 6_500
MIDDLE_MS, SECOND_S = range(300, 500), 2.0
LATE_MS = 60_000  # how late or early a time may be on a slow machine


def redis_ms(redis: Redis) -> int:
    """Redis's clock."""
    seconds, microseconds = redis.time()
    return int(seconds) * 1_000 + int(microseconds) // 1_000


@pytest.mark.requirement("server.expiry.refuses", "server.remove.finished")
@pytest.mark.dimensions(occasion="again", size="8")
@pytest.mark.parametrize("concurrency", [1, 2])
def test_expired_jobs_are_answered_and_not_run(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    implementation: Implementation,
    proxy: Proxy,
    concurrency: int,
) -> None:
    """Of thirteen jobs, those that have expired are answered `expired`, whatever their time, and the others run."""
    now_ms = redis_ms(redis)
    past: list[Any] = [now_ms - 1, now_ms - 0.5, 1, 0, -1, -0.5, -1e300, 1.5, now_ms - HOUR_MS]
    jobs = [peer.push("echo", at_ms, expires_at_ms=at_ms) for at_ms in past]
    others = [peer.push("echo", number) for number in range(3)]

    server(concurrency=concurrency if "concurrency" in implementation.features else 1)
    results = [peer.result(job, "server.expiry.refuses") for job in jobs]
    peer.wait_settled(*others)
    peer.wait_gone(*(job.message for job in jobs), requirement="server.remove.finished")
    # Whoever counts in whole seconds is nearly half a second behind.
    proxy.notifier.happens_by_the_clock(lambda: redis_ms(redis) % 1_000 in MIDDLE_MS, SECOND_S)
    just = peer.push("echo", "just over", expires_at_ms=redis_ms(redis) - 1)
    results.append(peer.result(just, "server.expiry.refuses"))

    require(
        [result.get("error", {}).get("code") for result in results] == ["expired"] * len(results),
        "server.expiry.refuses",
        expected="the error `expired` for each",
        got=results,
    )


@pytest.mark.requirement("server.expiry.refuses", "server.recovery.first")
@pytest.mark.dimensions(occasion="recovery")
def test_a_recovered_job_expires_too(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    registry: Registry,
    implementation: Implementation,
) -> None:
    """A job on the list of an earlier life that has expired meanwhile isn't run again, nor is an adopted one."""
    jobs = [peer.job("echo", n, expires_at_ms=redis_ms(redis) - HOUR_MS) for n in range(2)]
    if "takeover" in implementation.features:
        registry.lapsed(GONE, jobs[1])
    else:
        del jobs[1]
    peer.place(jobs[0])

    server()
    results = [
        peer.wait(
            lambda each=job: peer.received(each),  # type: ignore[misc] # a default's type
            "server.expiry.refuses",
            "the result of a job that was found",
            job,
            patience_s=SCAN_S,
        )[0]
        for job in jobs
    ]

    require(
        [result.get("error", {}).get("code") for result in results] == ["expired"] * len(jobs),
        "server.expiry.refuses",
        expected="the error `expired` for each",
        got=results,
    )


@pytest.mark.requirement("server.expiry.refuses", "server.remove.finished")
@pytest.mark.dimensions(
    occasion=("again", "reconnect"), connection="cut", moment="outstanding", repetition="faults"
)
def test_a_time_that_is_lost_is_asked_for_again(
    server: StartServer, peer: Peer, proxy: Proxy
) -> None:
    """Twice over, a job whose server has lost the connection on which it asked for the time isn't run."""
    started = server()  # takeover asks for the time at the start, and next after half a minute
    for number in range(2):
        started.wait_idle()
        hold = proxy.hold(asks_for_the_time, "server")
        job = peer.push("echo", number, expires_at_ms=1)
        peer.wait(lambda: hold.event or peer.received(job), "server.expiry.refuses", "an answer")  # noqa: B023 - asked in this turn only
        if hold.event:
            hold.drop()
        proxy.forget(hold)  # a script may have asked

        result = peer.result(job, "server.expiry.refuses")
        require(
            result.get("error", {}).get("code") == "expired",
            "server.expiry.refuses",
            expected="the error `expired`",
            got=result,
        )
        peer.wait_gone(job.message, requirement="server.remove.finished")


def asks_for_the_time(event: Event) -> bool:
    """A TIME that has arrived and isn't forwarded, by itself or in a transaction."""
    asked = (event, *event.transaction)
    return event.kind == COMMAND and any(each.arguments[:1] == (b"TIME",) for each in asked)


@pytest.mark.requirement("server.expiry.refuses", "server.recovery.reconnect")
@pytest.mark.dimensions(occasion="reconnect", moment="outstanding", handler="late")
@pytest.mark.waits(7)
def test_a_job_expires_behind_another(
    server: StartServer, peer: Peer, redis: Redis, proxy: Proxy
) -> None:
    """A job that a server has already, and that expires while the one before it runs, isn't started."""
    started = server()
    started.wait_idle()
    first = peer.job("wait", {"ms": LONG_MS})
    late = peer.job("echo", "too late", expires_at_ms=redis_ms(redis) + SOON_MS)
    peer.place(first, late)

    proxy.drop()
    peer.wait_settled(first)  # which is known to take its time
    result = peer.result(late, "server.expiry.refuses")

    require(
        result.get("error", {}).get("code") == "expired",
        "server.expiry.refuses",
        expected="the error `expired`",
        got=result,
    )


@pytest.mark.requirement("server.expiry.runs")
@pytest.mark.dimensions(size=("8", "2³¹"), occasion="recovery")
def test_jobs_that_have_not_expired_run(server: StartServer, peer: Peer, redis: Redis) -> None:
    """Twelve jobs whose time is to come, soon or never, are run, recovered ones, too."""
    now_ms = redis_ms(redis)
    future: list[Any] = [now_ms + HOUR_MS, now_ms + HOUR_MS + 0.5, 2**53 - 1, 1e16, 1e300, 2e15]
    found = [peer.job("echo", at_ms, expires_at_ms=at_ms) for at_ms in future]
    peer.place(*found)
    jobs = [peer.push("echo", at_ms, expires_at_ms=at_ms) for at_ms in future]

    server()
    results = [peer.result(job, "server.expiry.runs") for job in (*found, *jobs)]

    require(
        [result.get("result") for result in results] == future * 2,
        "server.expiry.runs",
        expected="the values of all",
        got=results,
    )


@pytest.mark.requirement("server.expiry.runs")
@pytest.mark.dimensions(handler="late", moment="outstanding")
@pytest.mark.waits(7)
def test_a_started_job_comes_to_its_end(server: StartServer, peer: Peer, redis: Redis) -> None:
    """A job that expires while its handler runs is answered by the handler's value."""
    started = server()
    started.wait_idle()

    job = peer.push("wait", {"ms": LONG_MS}, expires_at_ms=redis_ms(redis) + SOON_MS)
    result = peer.wait(
        lambda: peer.received(job), "server.expiry.runs", "the value of the job", job
    )[0]

    require(
        result.get("result") == job.parameters,
        "server.expiry.runs",
        expected="the value",
        got=result,
    )


@pytest.mark.requirement("server.run.method-not-found", "server.run.invalid-job")
def test_a_job_without_a_handler_does_not_expire(server: StartServer, peer: Peer) -> None:
    """A job that nobody can run is answered so, even where its time has passed."""
    unknown, invalid = (peer.push(name, 1, expires_at_ms=1) for name in ("unknown", ""))

    server()
    for job, code in ((unknown, "method-not-found"), (invalid, "invalid-job")):
        result = peer.result(job, f"server.run.{code}")
        require(
            result.get("error", {}).get("code") == code,
            f"server.run.{code}",
            expected=f"the error `{code}`",
            got=result,
        )


@pytest.mark.requirement("server.expiry.value")
@pytest.mark.dimensions(size="8", answer="another type")
def test_what_is_not_a_number_is_ignored(server: StartServer, peer: Peer) -> None:
    """A job whose time is a string, a list or the like is run, as one without a time."""
    values: list[Any] = ["1", "", "-1", "1e3", True, False, None, [], [1], {}, {"1": 1}, "soon"]
    jobs = [peer.push("echo", value, expires_at_ms=value) for value in values]

    server()
    results = [peer.result(job, "server.expiry.value") for job in jobs]

    require(
        messages.equal([result.get("result", "none") for result in results], values),
        "server.expiry.value",
        expected="the value of each",
        got=results,
    )


@pytest.mark.requirement("server.expiry.forbidden", "server.expiry.refuses")
@pytest.mark.dimensions(settings="rights", answer="error", occasion="again")
def test_without_the_right_to_ask_every_job_runs(
    server: StartServer,
    peer: Peer,
    keys: Keys,
    redis_server: RedisServer,
    implementation: Implementation,
) -> None:
    """A server whose rights are those of one without the feature runs jobs, expired or not, until it has the right."""
    older = set(implementation.features) - {"expiry"}
    set_user(redis_server, "older", PASSWORD, *least_rights("server", keys, older))
    jobs = [peer.job("echo", at_ms, expires_at_ms=at_ms) for at_ms in (1, 2e15)]
    first = peer.job("echo", "first")
    peer.push_job(first)

    # Takeover needs TIME at the start, before the first claim, and is next due after half a minute.
    server(user="older", password=PASSWORD)
    peer.result(first, "server.expiry.forbidden")
    set_user(redis_server, "older", PASSWORD, "-time")
    peer.push_job(*jobs)
    results = [peer.result(job, "server.expiry.forbidden") for job in jobs]

    require(
        [result.get("result") for result in results] == [1, 2e15],
        "server.expiry.forbidden",
        expected="the values of both",
        got=results,
    )
    peer.wait_settled(*jobs)
    set_user(redis_server, "older", PASSWORD, "+time")
    result = peer.result(peer.push("echo", "late", expires_at_ms=1), "server.expiry.refuses")
    require(
        result.get("error", {}).get("code") == "expired",
        "server.expiry.refuses",
        expected="the error `expired` once it may ask",
        got=result,
    )


def expires_of(job: Job) -> Any:
    """What a job says of it; None where it says nothing."""
    return json.loads(job.message).get("expires_at_ms")


def push(driver: ClientProcess, peer: Peer, expires_in_ms: float) -> Job:
    """Run a job that expires, and claim it."""
    driver.submit("echo", expires_in_ms, expires_in_ms=expires_in_ms)
    return peer.claim()


def require_time(job: Job, from_ms: float, to_ms: float) -> None:
    """The job expires between two times of Redis's clock, give or take what a slow machine needs."""
    at_ms = expires_of(job)
    number = isinstance(at_ms, int | float) and not isinstance(at_ms, bool)
    require(
        number and from_ms - LATE_MS <= at_ms <= to_ms + LATE_MS,
        "client.expiry.member",
        expected=f"`expires_at_ms` from {from_ms} to {to_ms}, give or take {LATE_MS} ms",
        got=at_ms,
    )


@pytest.mark.requirement("client.expiry.member", "client.job.form")
@pytest.mark.dimensions(occasion="again", size=("below 1", "2³¹"), caller=("timeout", "no timeout"))
def test_a_job_says_when_it_expires(client: StartClient, peer: Peer, redis: Redis) -> None:
    """A job that its caller lets expire has the time on Redis's clock, and is settled as any other."""
    driver = client()
    for number, in_ms in enumerate((HOUR_MS, 0, 10 * HOUR_MS, 2.0**31, HOUR_MS + 0.5)):
        from_ms = redis_ms(redis)
        seq = driver.submit(
            "echo", number, expires_in_ms=in_ms, timeout_ms=HOUR_MS if number % 2 else None
        )
        job = peer.claim()
        require_time(job, from_ms + in_ms, redis_ms(redis) + in_ms)
        peer.answer(job, result=number)
        outcome = driver.outcome(seq)
        require(
            outcome.value == number,
            "client.expiry.member",
            expected=f"the result {number}",
            got=outcome,
        )


@pytest.mark.requirement("client.expiry.member")
@pytest.mark.dimensions(occasion="again", moment="outstanding")
def test_other_jobs_say_nothing(client: StartClient, peer: Peer) -> None:
    """A job without it has no `expires_at_ms`, before and behind one that has, with a timeout, too."""
    driver = client()
    for timeout_ms in (None, HOUR_MS):
        for _ in range(2):
            driver.submit("echo", "never", timeout_ms=timeout_ms)
            job = peer.claim()
            require(
                expires_of(job) is None,
                "client.expiry.member",
                expected="no `expires_at_ms`",
                got=expires_of(job),
            )
            peer.answer(job, result="never")
            peer.answer(push(driver, peer, HOUR_MS), result=HOUR_MS)


@pytest.mark.requirement("client.expiry.member", "client.lost.resubscribes")
@pytest.mark.dimensions(occasion="reconnect", connection=("all", "cut"))
def test_jobs_expire_after_a_lost_connection(
    client: StartClient, peer: Peer, redis: Redis, proxy: Proxy
) -> None:
    """On the next connection jobs say when they expire, as before."""
    driver = client()
    push(driver, peer, HOUR_MS)
    proxy.drop()
    run_after_a_loss(driver, peer, proxy.notifier, "behind")

    from_ms = redis_ms(redis)
    job = push(driver, peer, HOUR_MS)

    require_time(job, from_ms + HOUR_MS, redis_ms(redis) + HOUR_MS)


@pytest.mark.requirement("client.settle.error", "client.expiry.member")
def test_the_caller_of_an_expired_job_learns_it(client: StartClient, peer: Peer) -> None:
    """The error `expired` settles a job that expires, as any error does."""
    driver = client()
    seq = driver.submit("echo", 1, expires_in_ms=HOUR_MS)
    job = peer.claim()
    require(expires_of(job) is not None, "client.expiry.member", expected="a time", got=None)

    peer.answer(job, error={"code": "expired", "message": "too late"})
    outcome = driver.outcome(seq)

    require(
        (outcome.code, outcome.message) == ("expired", "too late"),
        "client.settle.error",
        expected="the error `expired`",
        got=outcome,
    )
