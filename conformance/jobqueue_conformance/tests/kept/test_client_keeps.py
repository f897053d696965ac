"""Results that a client has missed: how it has them kept, and how it finds them after a loss."""

import json
import time
from typing import Any

import pytest
from redis import Redis

from jobqueue_conformance.peer.calls import run_after_a_loss, slowly
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.client import ClientProcess
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import COMMAND, OPENED, REPLY, Event
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Budget
from jobqueue_conformance.redis_servers.acl import EVERYTHING, PASSWORD, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.messages import Job, equal
from jobqueue_conformance.spec.verdicts import require
from jobqueue_conformance.sweep.client import AMPLE_MS, ClientSweep

USER = "somebody"
HOUR_MS = 3_600_000
LONGEST = (2**31, 2**32 + 1)
LONG_MS = 60_000  # a timeout that is never how a job is settled
SHORT_MS = 1500  # for how long a result is kept that never comes
LOST_MS = 1000  # the timeout of a call whose push is lost
CONNECTS = 3  # in vain
LOOKED_S = 0.3  # a client that looks too early has done so by then
BACK_S = 10.0
SUBSCRIBE = {b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE"}


@pytest.mark.requirement("client.kept.member", "client.job.form")
@pytest.mark.dimensions(
    size=("2³¹", "below 1"),
    occasion=("again", "reconnect"),
    connection=("all", "cut"),
    caller=("timeout", "no timeout"),
)
def test_a_job_says_for_how_long_its_result_is_kept(
    client: StartClient, peer: Peer, proxy: Proxy
) -> None:
    """Each job has the `keep_ms` that its caller asked for, an integer, and none where he didn't, after a loss, too."""
    driver = client()
    for _ in range(2):
        for asked in (1, None, HOUR_MS, 60_000.5, None, 2**31 + 1):
            for timeout_ms in (None, HOUR_MS):
                driver.submit("echo", asked, timeout_ms=timeout_ms, keep_ms=asked)
                job = peer.claim()
                said = json.loads(job.message).get("keep_ms")
                peer.answer(job, result=asked)
                require(
                    said == asked if asked is None else is_integer_near(said, asked),
                    "client.kept.member",
                    expected=f"`keep_ms` as it was asked for: {asked}",
                    got=said,
                )
        proxy.drop("client")
        run_after_a_loss(driver, peer, proxy.notifier, "behind")


@pytest.mark.requirement(
    "client.kept.looks", "client.settle.value", "client.settle.error", "client.concurrent.in-flight"
)
@pytest.mark.dimensions(
    size=("8", "65,536 bytes"),
    occasion=("reconnect", "again"),
    connection=("all", "cut", "refused"),
    answer="error",
    caller=("timeout", "no timeout"),
    repetition="faults",
)
def test_what_was_missed_is_found(
    client: StartClient, peer: Peer, proxy: Proxy, implementation: Implementation
) -> None:
    """Three times over, what was only stored while the client was away settles its jobs, whatever it is."""
    driver = client()
    expires_in_ms = (None, HOUR_MS)["expiry-client" in implementation.features]
    rounds: list[list[Any]] = [["missed"], [None, "\u2028 ключ", {"é": [0, False]}], [*range(12)]]
    early = [
        run(driver, peer, proxy, "early", timeout_ms, expires_in_ms=expires_in_ms)
        for timeout_ms in (LONG_MS, None)
    ]
    for values in rounds:
        called = [
            run(driver, peer, proxy, value, (LONG_MS, None)[number % 2])
            for number, value in enumerate([*values, "x" * 900_000])
        ]
        failing = run(driver, peer, proxy, "failing", LONG_MS)

        proxy.refuse("client")
        proxy.drop("client")
        for _, job in called:
            peer.keep(job, result=job.parameters)
        peer.keep(failing[1], error={"code": "shop.closed", "message": "sorry", "data": [1]})
        proxy.accept_again("client")

        for seq, job in called:
            require_value(driver, seq, job)
        outcome = driver.outcome(failing[0], requirement="client.kept.looks")
        require(
            (outcome.code, outcome.message, outcome.data) == ("shop.closed", "sorry", [1]),
            "client.kept.looks",
            expected="the stored error",
            got=outcome,
        )
    proxy.refuse("client")
    proxy.drop("client")
    for _, job in early:
        peer.keep(job, result=job.parameters)
    proxy.accept_again("client")
    for seq, job in early:  # it has looked for them in vain before
        require_value(driver, seq, job)


@pytest.mark.requirement("client.kept.looks")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("subscription", "held"),
    caller=("timeout", "no timeout"),
)
@pytest.mark.parametrize("timed", [True, False], ids=["timed", "untimed"])
def test_a_client_looks_once_it_is_subscribed(
    client: StartClient, peer: Peer, keys: Keys, proxy: Proxy, *, timed: bool
) -> None:
    """What is stored and published while the next SUBSCRIBE is on its way is found by a look behind it."""
    driver = client()
    seq, job = run(driver, peer, proxy, "missed", LONG_MS if timed else None)
    hold = proxy.hold(subscribes, "client")
    proxy.drop("client")
    hold.wait("the client to subscribe again")
    proxy.notifier.happens_while_held(lambda: answered(proxy, keys.result(job.message)), LOOKED_S)

    peer.keep(job, result=job.parameters)
    peer.answer(job, result=job.parameters)
    hold.release()

    require_value(driver, seq, job)


@pytest.mark.requirement("client.kept.looks", "client.kept.waits")
@pytest.mark.dimensions(
    occasion="reconnect", moment="outstanding", connection=("held", "cut"), repetition="faults"
)
def test_a_look_that_is_lost_is_repeated(
    client: StartClient, peer: Peer, keys: Keys, proxy: Proxy
) -> None:
    """Before what a look has found arrives, all is lost again: the next one finds it; or the result is published."""
    driver = client()
    seq, job = run(driver, peer, proxy, "missed", None)
    hold = proxy.hold(lambda each: each.kind == REPLY and job.id.encode() in each.frame, "client")
    proxy.refuse("client")
    proxy.drop("client")
    peer.keep(job, result=job.parameters)
    proxy.accept_again("client")
    hold.wait("the client to look")

    hold.drop()
    proxy.drop("client")

    require_value(driver, seq, job)

    seq, job = run(driver, peer, proxy, "published", None)
    hold = proxy.hold(matches.reply_naming(keys.result(job.message)), "client")
    proxy.drop("client")
    hold.wait("the client to look")
    peer.answer(job, result=job.parameters)
    heard = matches.message(job)
    proxy.notifier.happens_while_held(lambda: any(map(heard, list(proxy.events))), LOOKED_S)
    hold.release()

    require_value(driver, seq, job, "client.kept.waits")


@pytest.mark.requirement("client.kept.looks", "client.kept.waits")
@pytest.mark.dimensions(
    occasion=("again", "reconnect"),
    connection=("all", "cut"),
    answer="error",
    settings="rights",
    repetition="faults",
)
def test_a_look_that_was_forbidden_is_repeated(
    client: StartClient, peer: Peer, redis_server: RedisServer, keys: Keys, proxy: Proxy
) -> None:
    """A client that may not look after a loss waits on, and looks after the next one, when it may."""
    set_user(redis_server, USER, PASSWORD, *EVERYTHING, "resetkeys", f"~{keys.queue}")
    driver = client(user=USER, password=PASSWORD)
    seq, job = run(driver, peer, proxy, "missed", LONG_MS)
    peer.keep(job, result=job.parameters)

    proxy.drop("client")
    proxy.notifier.wait(lambda: answered(proxy, keys.result(job.message)), "the client to look")
    require(
        not driver.outcomes(seq),
        "client.kept.waits",
        expected="a job with a timeout that waits on",
        got=driver.outcomes(seq),
    )
    set_user(redis_server, USER, PASSWORD, "allkeys")
    proxy.drop("client")

    require_value(driver, seq, job)


@pytest.mark.requirement(
    "client.kept.looks",
    "client.ignore.malformed",
    "client.ignore.unknown",
    "client.concurrent.in-flight",
)
@pytest.mark.dimensions(size="8", occasion="reconnect", answer="another type")
def test_what_is_stored_and_no_result_is_ignored(
    client: StartClient, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """What isn't a valid result of the job settles nothing, wherever it is stored, and what is published then does."""
    driver = client()
    odd = [b"", b"no JSON", b"null", b"[]", b'{"id":"another","result":1}', b'{"result":1}']
    called = [run(driver, peer, proxy, number, LONG_MS) for number in range(2 * len(odd) + 1)]
    found = run(driver, peer, proxy, "behind what isn't a text", None)

    proxy.refuse("client")
    proxy.drop("client")
    for (_, job), message in zip(called, odd * 2, strict=False):
        peer.keep_message(job, message)
    redis.rpush(keys.result(called[-1][1].message), "a list")
    peer.keep(found[1], result=found[1].parameters)
    proxy.accept_again("client")
    run_after_a_loss(driver, peer, proxy.notifier, "behind")
    require_value(driver, *found)

    for seq, job in called:
        peer.answer(job, result=job.parameters)
        require_value(driver, seq, job)


@pytest.mark.requirement("client.kept.looks", "client.lost.settles", "client.push.once")
@pytest.mark.dimensions(
    occasion=("reconnect", "again"),
    moment="outstanding",
    connection=("pushes", "subscription", "cut"),
    caller=("timeout", "no timeout"),
    repetition="faults",
)
@pytest.mark.parametrize("timed", [True, False], ids=["timed", "untimed"])
def test_a_kept_result_survives_a_loss_at_any_boundary(
    client_sweep: ClientSweep, *, timed: bool
) -> None:
    """A job that Redis has is settled by its result, published once, whichever boundary the connections are lost at."""
    client_sweep.start()
    client_sweep.keep_ms = HOUR_MS
    for attempt in client_sweep.attempts("client.settle.result"):
        ample_ms = AMPLE_MS if attempt.number > 1 else LOST_MS
        call = client_sweep.call(ample_ms if timed else None, attempt)

        if client_sweep.reached(attempt, call):
            attempt.drop()
            client_sweep.proxy.drop("client")
            client_sweep.check_kept(attempt, call)
            client_sweep.check_goes_on()
    client_sweep.check_once()


@pytest.mark.requirement("client.kept.waits", "client.kept.looks", "client.concurrent.in-flight")
@pytest.mark.dimensions(
    occasion="reconnect",
    connection=("all", "cut"),
    caller="no timeout",
    moment="outstanding",
    repetition="faults",
)
def test_a_kept_job_without_a_timeout_waits(client: StartClient, peer: Peer, proxy: Proxy) -> None:
    """While connections end as soon as they are made, a job is lost, and the kept one waits for its result."""
    driver = client()
    lost, _ = run(driver, peer, proxy, "lost", None, keep_ms=None)
    kept, job = run(driver, peer, proxy, "kept", None)
    proxy.hang_up_at_once("client")
    seen = len(proxy.events)
    proxy.drop("client")

    outcome = driver.outcome(lost)
    proxy.notifier.wait(
        lambda: (
            driver.outcomes(kept)
            or sum(each.kind == OPENED for each in proxy.events[seen:]) >= CONNECTS
        ),
        "more connects",
    )
    early = driver.outcomes(kept)
    peer.keep(job, result=job.parameters)
    proxy.hang_up_at_once("client", over=True)

    require(
        outcome.code == "connection-lost",
        "client.lost.settles",
        expected="the error connection-lost",
        got=outcome,
    )
    require(not early, "client.kept.waits", expected="a job that waits", got=early)
    require_value(driver, kept, job, "client.kept.waits")


@pytest.mark.requirement(
    "client.kept.lost", "client.kept.waits", "client.lost.waits", "client.concurrent.in-flight"
)
@pytest.mark.dimensions(
    occasion="reconnect",
    connection=("all", "cut"),
    caller=("timeout", "no timeout"),
    size=("below 1", "2³¹"),
)
def test_a_kept_job_is_lost_when_its_result_would_be_gone(
    client: StartClient, peer: Peer, proxy: Proxy
) -> None:
    """A job without a timeout is lost `keep_ms` after the loss, not before, and neither are others."""
    driver = client()
    brief, brief_job = run(driver, peer, proxy, "no loss", None, keep_ms=1)
    run_after_a_loss(driver, peer, proxy.notifier, "behind")
    peer.answer(brief_job, result=brief_job.parameters)
    require_value(driver, brief, brief_job, "client.kept.waits")
    lost, _ = run(driver, peer, proxy, "lost", None, keep_ms=SHORT_MS)
    others = [
        run(driver, peer, proxy, "timed", LONG_MS, keep_ms=SHORT_MS),
        run(driver, peer, proxy, "kept for longer", None),
        *(run(driver, peer, proxy, f"kept for {ms} ms", None, keep_ms=ms) for ms in LONGEST),
    ]

    cut_s = time.monotonic()
    proxy.drop("client")
    outcome = driver.outcome(lost, requirement="client.kept.lost")
    took_s = time.monotonic() - cut_s

    require(
        outcome.code == "connection-lost",
        "client.kept.lost",
        expected="the error connection-lost",
        got=outcome,
    )
    require(
        took_s >= SHORT_MS / 1000,
        "client.kept.waits",
        expected=f"a job that waits for {SHORT_MS} ms after the loss",
        got=f"{took_s * 1000:.0f} ms",
    )
    for seq, job in others:
        peer.keep(job, result=job.parameters)
        peer.answer(job, result=job.parameters)
        require_value(driver, seq, job, "client.kept.waits")


@pytest.mark.requirement("client.kept.lost")
@pytest.mark.dimensions(
    occasion=("reconnect", "again"),
    connection=("all", "cut"),
    caller="no timeout",
    repetition="faults",
    moment="outstanding",
)
def test_later_losses_do_not_put_that_off(client: StartClient, peer: Peer, proxy: Proxy) -> None:
    """A kept job without a timeout is lost in time although its connections are lost again and again."""
    driver = client()
    seq, _ = run(driver, peer, proxy, "lost", None, keep_ms=SHORT_MS)

    budget = Budget(BACK_S)
    while not driver.outcomes(seq) and budget.left_s() > 0:
        times = subscriptions(proxy)
        proxy.drop("client")
        proxy.notifier.happens(
            lambda: driver.outcomes(seq) or subscriptions(proxy) > times,  # noqa: B023 - asked in this turn only
            BACK_S,
        )
    outcomes = driver.outcomes(seq)

    require(
        [each.code for each in outcomes] == ["connection-lost"],
        "client.kept.lost",
        expected="the error connection-lost",
        got=outcomes,
    )


def run(
    driver: ClientProcess,
    peer: Peer,
    proxy: Proxy,
    parameters: object,
    timeout_ms: int | None,
    keep_ms: int | None = HOUR_MS,
    expires_in_ms: int | None = None,
) -> tuple[int, Job]:
    """Run a job whose result is kept; claim it, and have the client read the reply to its push."""
    timeout_ms = timeout_ms and slowly(timeout_ms)
    seq = driver.submit("echo", parameters, timeout_ms, expires_in_ms, keep_ms)
    job = peer.claim()
    proxy.wait_pushed(job.id)
    if timeout_ms is None:
        driver.wait_asleep()  # a loss before it has read the reply would settle this job
    return seq, job


def subscribes(event: Event) -> bool:
    """A SUBSCRIBE that has arrived and isn't forwarded."""
    return event.kind == COMMAND and event.arguments[0].upper() in SUBSCRIBE


def subscriptions(proxy: Proxy) -> int:
    """How often the client has subscribed."""
    return sum(matches.subscribed(each) for each in list(proxy.events))


def answered(proxy: Proxy, key: str) -> bool:
    """Whether a command with this key was answered."""
    return any(each.kind == REPLY and each.carries(key) for each in list(proxy.events))


def is_integer_near(said: object, asked: float) -> bool:
    """Whether this is an integer of at least 1, and less than 1 away from what was asked for."""
    number = isinstance(said, int | float) and not isinstance(said, bool)
    return number and said == int(said) and said >= 1 and abs(said - asked) < 1  # type: ignore[operator, call-overload] # a number


def require_value(
    driver: ClientProcess, seq: int, job: Job, requirement: str = "client.kept.looks"
) -> None:
    """The job is settled by its value."""
    outcome = driver.outcome(seq, requirement=requirement)
    require(
        outcome.kind == "result" and equal(outcome.value, job.parameters),
        requirement,
        expected=f"the value {job.parameters!r:.100}",
        got=outcome,
    )
