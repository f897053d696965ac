"""Handles: what a client gives its caller for a job that is detached, and what it does with one that it is given."""

import re
from typing import Any

import pytest
from redis import Redis

from jobqueue_conformance.peer.calls import guard_ms, run_after_a_loss, slowly
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.client import ClientProcess
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import COMMAND, REPLY, Event
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.redis_servers.acl import EVERYTHING, PASSWORD, execute, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec import handles
from jobqueue_conformance.spec.keys import Keys, digest
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.messages import Job, equal, written
from jobqueue_conformance.spec.vectors import message, vectors
from jobqueue_conformance.spec.verdicts import require

HOUR_MS = 3_600_000
LONG_MS = 60_000  # a timeout that is never how something is settled
BRIEF_MS = 500
LONGEST = (2**31, 2**32 + 1)
MOMENT_S = 0.3  # a client that is too early has been so by then
USER = "somebody"
UUID_4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.mark.requirement(
    "client.kept.handle",
    "client.kept.own-channel",
    "client.kept.member",
    "client.settle.result",
    "client.concurrent.in-flight",
)
@pytest.mark.dimensions(
    size="8",
    occasion=("again", "reconnect"),
    moment="outstanding",
    answer="another type",
    connection=("all", "cut"),
    caller=("timeout", "no timeout"),
    repetition="faults",
)
def test_a_handle_names_its_job(
    client: StartClient, peer: Peer, keys: Keys, proxy: Proxy, implementation: Implementation
) -> None:
    """Each of ten detached jobs, of which some expire, has a channel of its own and a handle to its result."""
    driver = client()
    own: list[str] = []
    expires_in_ms = (None, HOUR_MS)["expiry-client" in implementation.features]
    for _ in range(2):
        _, pushed = run_after_a_loss(driver, peer, proxy.notifier, "plain")
        plain = driver.submit("echo", "plain again")
        pushed.append(peer.claim())
        timeouts = (None, slowly(LONG_MS))
        called = [
            detach(driver, peer, n, timeouts[n % 2], expires_in_ms if n % 4 > 1 else None)
            for n in range(10)
        ]
        for seq, job in called:
            require_handle(driver, seq, job)
            if job.channel != pushed[-1].channel:
                peer.publish(pushed[-1].channel, written(id=job.id, result="elsewhere"))
                peer.publish(job.channel, written(id=pushed[-1].id, result="elsewhere"))
            peer.answer(job, result=job.parameters)
            require_value(driver, seq, job, "client.settle.result")
        peer.answer(pushed[-1], result=pushed[-1].parameters)
        require_value(driver, plain, pushed[-1], "client.settle.result")
        own += [job.channel for _, job in called]
        require(
            len({*own, pushed[-1].channel}) == len(own) + 1,
            "client.kept.own-channel",
            expected="a channel for each detached job alone",
            got=own,
        )
        proxy.drop("client")

    named = re.compile(re.escape(f"{keys.queue}:results:") + UUID_4, re.IGNORECASE)
    require(
        all(map(named.fullmatch, own)),
        "client.kept.own-channel",
        expected=f"{keys.queue}:results: and a random UUID",
        got=own,
    )


@pytest.mark.requirement("client.kept.handle", "client.settle.not-queued", "client.lost.settles")
@pytest.mark.dimensions(
    moment="outstanding",
    connection=("pushes", "held", "all", "cut"),
    answer="error",
    caller="no timeout",
)
def test_a_handle_follows_the_reply_to_the_push(
    client: StartClient, peer: Peer, redis_server: RedisServer, keys: Keys, proxy: Proxy
) -> None:
    """There is no handle while the push is unanswered, and none where Redis refuses it, or its reply is lost."""
    driver = client()
    run_after_a_loss(driver, peer, proxy.notifier, "before")
    hold = proxy.hold(matches.reply_naming(keys.queue), "client")
    seq, job = detach(driver, peer, "held", None)
    hold.wait("the reply to the push")
    early = proxy.notifier.happens_while_held(lambda: driver.handles.get(seq), MOMENT_S)
    hold.release()

    require(early is None, "client.kept.handle", expected="no handle yet", got=early)
    require_handle(driver, seq, job)
    peer.answer(job, result=job.parameters)

    execute(redis_server, "CONFIG", "SET", "maxmemory", "1")
    refused = driver.submit("echo", "refused", keep_ms=HOUR_MS, detached=True)
    outcome = driver.outcome(refused)
    execute(redis_server, "CONFIG", "SET", "maxmemory", "0")
    require(
        outcome.code == "not-queued",
        "client.settle.not-queued",
        expected="the error not-queued",
        got=outcome,
    )
    require(
        refused not in driver.handles,
        "client.kept.handle",
        expected="no handle of a job that was refused",
        got=driver.handles.get(refused),
    )

    hold = proxy.hold(matches.reply_naming(keys.queue), "client")
    seq, _ = detach(driver, peer, "unanswered", None)
    hold.wait("the reply to the push")
    proxy.drop("client")
    outcome = driver.outcome(seq, requirement="client.lost.settles")
    require(
        outcome.code == "connection-lost" and seq not in driver.handles,
        "client.lost.settles",
        expected="the error connection-lost, and no handle",
        got=(outcome, driver.handles.get(seq)),
    )


@pytest.mark.requirement("client.subscribe.before-push", "client.kept.own-channel")
@pytest.mark.dimensions(
    occasion="again",
    connection="subscription",
    answer="error",
    settings="rights",
    caller="timeout",
)
def test_a_detached_job_is_not_pushed_without_its_subscription(
    client: StartClient,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
) -> None:
    """Where Redis refuses the subscription to the channel of a detached job alone, the job is not pushed."""
    set_user(redis_server, USER, PASSWORD, *EVERYTHING)
    driver = client(user=USER, password=PASSWORD)
    _, pushed = run_after_a_loss(driver, peer, proxy.notifier, "before")
    set_user(redis_server, USER, PASSWORD, "resetchannels", f"&{pushed[-1].channel}")

    seq = driver.submit("echo", "detached", slowly(BRIEF_MS), keep_ms=HOUR_MS, detached=True)
    driver.outcome(seq)
    waiting = redis.lrange(keys.queue, 0, -1)

    require(
        not waiting,
        "client.subscribe.before-push",
        expected="an empty queue while SUBSCRIBE is refused",
        got=waiting,
    )


@pytest.mark.requirement(
    "client.kept.looks",
    "client.kept.waits",
    "client.kept.own-channel",
    "client.concurrent.in-flight",
)
@pytest.mark.dimensions(
    size="8",
    occasion="reconnect",
    connection=("all", "refused"),
    caller=("timeout", "no timeout"),
)
def test_a_detached_job_survives_a_loss(client: StartClient, peer: Peer, proxy: Proxy) -> None:
    """Two dozen detached jobs have their results after a loss: what was only stored, and what is published to them."""
    driver = client()
    called = [
        detach(driver, peer, number, (None, slowly(LONG_MS))[number % 2]) for number in range(24)
    ]
    for seq, job in called:
        require_handle(driver, seq, job)

    proxy.refuse("client")
    proxy.drop("client")
    for _, job in called[:12]:
        peer.keep(job, result=job.parameters)
    proxy.accept_again("client")
    for seq, job in called[:12]:
        require_value(driver, seq, job, "client.kept.looks")
    for seq, job in called[12:]:
        proxy.notifier.wait(lambda each=job: peer.listens(each.channel), "a subscription")  # type: ignore[misc] # a default's type
        peer.answer(job, result=job.parameters)
        require_value(driver, seq, job, "client.kept.waits")


@pytest.mark.requirement(
    "client.kept.collects",
    "client.timeout.settles",
    "client.timeout.local",
    "client.concurrent.in-flight",
)
@pytest.mark.dimensions(
    size=("8", "65,536 bytes", "2³¹"),
    occasion="again",
    moment="outstanding",
    answer=("error", "another type", "nothing"),
    caller="timeout",
    repetition="messages",
)
def test_results_are_collected(
    client: StartClient, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """By handles that it never saw, a client collects what is stored and what is published, of many jobs at once."""
    driver = client()
    values: list[Any] = [None, "\u2028 ключ", "x" * 900_000, {"é": [0, False]}, *range(8)]
    stored = [peer.job("echo", value, channel=keys.channel()) for value in values]
    awaited = [peer.job("echo", number, channel=keys.channel()) for number in range(12)]
    patient = {ms: peer.job("echo", ms, channel=keys.channel()) for ms in LONGEST}
    failing, unknown = (peer.job("echo", name, channel=keys.channel()) for name in ("f", "u"))
    for job in stored:
        peer.keep(job, result=job.parameters)
    peer.keep(failing, error={"code": "shop.closed", "message": "sorry", "data": [1]})
    odd = [b"", b"no JSON", b'{"id":"another","result":1}', b'{"result":1}']
    for job, each in zip(awaited, odd, strict=False):
        peer.keep_message(job, each)

    waits = [(collect(driver, job), job) for job in awaited]
    finds = [(collect(driver, job), job) for job in (*stored, *stored[:2])]
    failed = collect(driver, failing)
    late = driver.collect(handles.written(unknown), BRIEF_MS)
    waits += [(driver.collect(handles.written(job), ms), job) for ms, job in patient.items()]
    again = collect(driver, unknown)

    for seq, job in finds:
        require_value(driver, seq, job, "client.kept.collects")
    outcome = driver.outcome(failed, requirement="client.kept.collects")
    require(
        (outcome.code, outcome.message, outcome.data) == ("shop.closed", "sorry", [1]),
        "client.kept.collects",
        expected="the stored error",
        got=outcome,
    )
    for seq, job in waits:
        key = keys.result(job.message)
        proxy.notifier.wait(
            lambda each=key, call=seq: looked(proxy, each) or driver.outcomes(call),  # type: ignore[misc] # a default's type
            "the client to look",
        )
        require(
            not driver.outcomes(seq),
            "client.timeout.local",
            expected="a collection that waits for its timeout",
            got=driver.outcomes(seq),
        )
        for each in (b"no JSON", written(id="another", result="another's")):
            peer.publish(job.channel, each)
        peer.publish(job.channel, written(id=job.id, result=job.parameters))
        require_value(driver, seq, job, "client.kept.collects")
    require(
        driver.outcome(late).kind == "timeout",
        "client.timeout.settles",
        expected="a timeout where nothing comes",
        got=driver.outcome(late),
    )
    require(
        peer.listens(unknown.channel),
        "client.kept.collects",
        expected="a subscription for the other collection by the handle",
        got="none, since the first was timed out",
    )
    peer.publish(unknown.channel, written(id=unknown.id, result=unknown.parameters))
    require_value(driver, again, unknown, "client.kept.collects")
    left = [redis.exists(keys.result(job.message)) for job in stored]
    require(all(left), "client.kept.collects", expected="all that was stored", got=left)


@pytest.mark.requirement(
    "client.kept.collects", "client.timeout.settles", "client.concurrent.in-flight"
)
@pytest.mark.dimensions(
    occasion=("unconnected", "reconnect"),
    moment="outstanding",
    connection=("subscription", "held", "all", "refused", "cut"),
    caller="timeout",
    repetition="faults",
)
@pytest.mark.waits(3)
def test_a_collection_survives_losses(
    client: StartClient, peer: Peer, keys: Keys, proxy: Proxy
) -> None:
    """What is stored and published while a client subscribes to collect it is found, at first and after two losses.

    What isn't is timed out in its turn: before a collection that is called after the losses and has longer time.
    """
    driver = client()
    run_after_a_loss(driver, peer, proxy.notifier, "before")
    first, second, third, never = (peer.job("echo", n, channel=keys.channel()) for n in range(4))
    hold = proxy.hold(
        lambda each: each.kind == COMMAND and first.channel.encode() in each.arguments
    )
    seqs = [collect(driver, first)]
    hold.wait("the client to subscribe")
    proxy.notifier.happens_while_held(lambda: looked(proxy, keys.result(first.message)), MOMENT_S)
    peer.keep(first, result=first.parameters)
    peer.publish(first.channel, written(id=first.id, result=first.parameters))
    hold.release()
    require_value(driver, seqs[0], first, "client.kept.collects")

    brief = driver.collect(handles.written(never), 3 * BRIEF_MS)
    seqs += [collect(driver, second), collect(driver, third)]
    for seq, job in zip(seqs[1:], (second, third), strict=True):
        for each in (second, third) if job is second else (third,):
            key = keys.result(each.message)
            proxy.notifier.wait(lambda known=key: looked(proxy, known), "the client to look")  # type: ignore[misc] # a default's type
        proxy.refuse("client")
        proxy.drop("client")
        peer.keep(job, result=job.parameters)
        proxy.accept_again("client")
        require_value(driver, seq, job, "client.kept.collects")

    behind = driver.collect(handles.written(never), 5 * BRIEF_MS)
    driver.outcome(behind, requirement="client.timeout.settles")
    order = [outcome.seq for outcome in driver.lines if outcome.seq in {brief, behind}]
    require(
        order == [brief, behind],
        "client.timeout.settles",
        expected="a collection timed out before the one that was called after the losses, with a longer timeout",
        got=[outcome for outcome in driver.lines if outcome.seq in {brief, behind}],
    )


@pytest.mark.requirement(
    "client.kept.collects", "client.kept.handle", "client.concurrent.in-flight"
)
@pytest.mark.dimensions(occasion="restart", caller="gone")
def test_another_process_collects(client: StartClient, peer: Peer, proxy: Proxy) -> None:
    """By the handles of a client that was killed, another one collects a stored result and a later one."""
    first = client()
    called = [detach(first, peer, name, None) for name in ("stored", "published")]
    given = [first.handle(seq) for seq, _ in called]
    first.kill()
    stored, published = (job for _, job in called)
    peer.keep(stored, result=stored.parameters)

    second = client()
    seqs = [second.collect(each, slowly(LONG_MS)) for each in given]

    require_value(second, seqs[0], stored, "client.kept.collects")
    proxy.notifier.wait(lambda: peer.listens(published.channel), "a subscription")
    peer.publish(published.channel, written(id=published.id, result=published.parameters))
    require_value(second, seqs[1], published, "client.kept.collects")


@pytest.mark.requirement("client.timeout.settles", "client.kept.collects")
@pytest.mark.dimensions(answer="error", settings="rights", caller="timeout")
def test_a_collection_that_may_not_look_comes_to_its_end(
    client: StartClient, peer: Peer, redis_server: RedisServer, keys: Keys, proxy: Proxy
) -> None:
    """Where Redis forbids a client to look, its collections are settled in time, and it goes on."""
    set_user(redis_server, USER, PASSWORD, *EVERYTHING, "resetkeys", f"~{keys.queue}")
    driver = client(user=USER, password=PASSWORD)
    run_after_a_loss(driver, peer, proxy.notifier, "before")
    jobs = [peer.job("echo", number, channel=keys.channel()) for number in range(2)]

    for job in jobs:
        outcome = driver.outcome(driver.collect(handles.written(job), slowly(BRIEF_MS)))
        require(
            outcome.kind in {"timeout", "error"},
            "client.timeout.settles",
            expected="a timeout, or an error that says what is forbidden",
            got=outcome,
        )
    outcome, _ = run_after_a_loss(driver, peer, proxy.notifier, "behind")
    require(
        outcome.value == "behind",
        "client.timeout.settles",
        expected="the value of the next job",
        got=outcome,
    )


@pytest.mark.requirement("client.kept.malformed", "client.kept.collects")
@pytest.mark.dimensions(size="8", occasion="again", answer="another type", settings="names")
def test_handles_are_read_exactly(
    client: StartClient, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """Every malformed handle of the fixtures is refused without a word to Redis, and every other one collects."""
    driver = client()
    run_after_a_loss(driver, peer, proxy.notifier, "before")
    seen = len(proxy.events)
    refused = vectors("handles", "malformed")
    for vector in refused:
        seq = driver.collect(vector["handle"], guard_ms())
        outcome = driver.outcome(seq, requirement="client.kept.malformed")
        require(
            outcome.code == "invalid-handle",
            "client.kept.malformed",
            expected=f"the error invalid-handle for {vector['handle']!r}",
            got=outcome,
        )
    sent = [each for each in proxy.events[seen:] if concerns_results(each)]
    require(not sent, "client.kept.malformed", expected="nothing sent to Redis", got=sent)

    given = {}
    for vector in vectors("handles", "handle"):
        result = written(id=vector["job_id"], result=vector["id"])
        redis.set(f"{keys.queue}:result:{digest(message(vector))}", result)
        given[vector["id"]] = driver.collect(vector["handle"], slowly(LONG_MS))
    for name, seq in given.items():
        outcome = driver.outcome(seq, requirement="client.kept.collects")
        require(
            outcome.value == name,
            "client.kept.collects",
            expected=f"the result of the handle {name}",
            got=outcome,
        )


def detach(
    driver: ClientProcess,
    peer: Peer,
    parameters: object,
    timeout_ms: int | None,
    expires_in_ms: int | None = None,
) -> tuple[int, Job]:
    """Run a detached job, and claim it."""
    seq = driver.submit(
        "echo", parameters, timeout_ms, expires_in_ms, keep_ms=HOUR_MS, detached=True
    )
    return seq, peer.claim()


def collect(driver: ClientProcess, job: Job) -> int:
    """Collect the result of a job, by the handle that the suite itself has made."""
    return driver.collect(handles.written(job), slowly(LONG_MS))


def looked(proxy: Proxy, key: str) -> bool:
    """Whether the client has looked under this key, and was answered."""
    return any(each.kind == REPLY and key.encode() in each.arguments for each in list(proxy.events))


def concerns_results(event: Event) -> bool:
    """Whether the client subscribes or looks."""
    name = event.arguments[:1] and event.arguments[0].upper()
    return event.kind == COMMAND and name not in {b"PING", b"HELLO", b"AUTH", b"SELECT", b"CLIENT"}


def require_handle(driver: ClientProcess, seq: int, job: Job) -> None:
    """The client has given the handle of the job."""
    given = driver.handle(seq)
    require(
        given == handles.written(job),
        "client.kept.handle",
        expected=handles.written(job),
        got=given,
    )


def require_value(driver: ClientProcess, seq: int, job: Job, requirement: str) -> None:
    """What was called is settled by the value of the job."""
    outcome = driver.outcome(seq, requirement=requirement)
    require(
        outcome.kind == "result" and equal(outcome.value, job.parameters),
        requirement,
        expected=f"the value {job.parameters!r:.100}",
        got=f"{outcome!r:.200}",
    )
