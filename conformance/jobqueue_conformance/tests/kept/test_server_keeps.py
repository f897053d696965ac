"""Results that are kept: what a server stores before it publishes, for how long, and what it leaves alone."""

import json
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.registry import GONE, SCAN_S, Registry
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.redis_servers.acl import EVERYTHING, PASSWORD, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.vectors import vectors
from jobqueue_conformance.spec.verdicts import require
from jobqueue_conformance.sweep.server import ServerSweep

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
LATE_MS = 50_000  # how long ago a slow machine may have stored a result
FIRST = b"what the first run has stored"
MANY = 140
SHORT_MS = 30_000  # of what has expired when somebody looks late


@pytest.mark.requirement("server.kept.stores", "server.publish.before-remove")
@pytest.mark.dimensions(
    size=("8", "65,536 bytes"),
    occasion=("again", "recovery"),
    moment="outstanding",
    connection=("publishing", "held"),
    answer="error",
    handler="exception",
    settings="rights",
)
@pytest.mark.parametrize("rights", [(), ("-multi", "-exec")], ids=["all", "no-transactions"])
def test_a_result_is_stored_when_it_is_published(
    server_sweep: ServerSweep,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    rights: tuple[str, ...],
) -> None:
    """At every boundary of nine jobs, what was published or removed is stored, by one step or several."""
    peer = server_sweep.peer
    jobs = [
        *(
            peer.job("echo", value, keep_ms=HOUR_MS)
            for value in (None, "\u2028 ключ", "x" * 70_000)
        ),
        *(peer.job(name, {"message": "x"}, keep_ms=MINUTE_MS) for name in ("fail", "unknown", "")),
        *(peer.job("echo", number, keep_ms=HOUR_MS) for number in range(3)),
    ]
    listed = jobs[::2] if "recovery" in server_sweep.features else []
    peer.place(*listed)
    peer.push_job(*(job for job in jobs if job not in listed))
    set_user(redis_server, "serial", PASSWORD, *EVERYTHING, *rights)

    server_sweep.look_everywhere(
        jobs,
        lambda: require_stored(redis, keys, peer, *(job for job in jobs if server_sweep.out(job))),
        user="serial",
        password=PASSWORD,
    )

    require_stored(redis, keys, peer, *jobs)
    for job in jobs:
        asked_ms = json.loads(job.message)["keep_ms"]
        require_left(redis, keys, job, asked_ms)


@pytest.mark.requirement("server.kept.stores")
@pytest.mark.dimensions(
    occasion=("again", "recovery"), answer=("error", "another error"), settings="rights"
)
@pytest.mark.parametrize("rights", [(), ("-multi", "-exec")], ids=["all", "no-transactions"])
def test_the_errors_of_features_are_stored(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    registry: Registry,
    keys: Keys,
    implementation: Implementation,
    rights: tuple[str, ...],
) -> None:
    """The answers to jobs that were adopted, expired or were given up are stored as any other, by all bytes."""
    jobs = [peer.job("echo", number, keep_ms=HOUR_MS) for number in range(2)]
    jobs[0] = replace(jobs[0], message=b" " + jobs[0].message + b"\n")
    if "expiry" in implementation.features:
        expired = [peer.job("echo", n, keep_ms=HOUR_MS, expires_at_ms=n) for n in range(2)]
        jobs[1:1] = expired
    peer.push_job(*jobs)
    if {"attempts", "recovery"} <= implementation.features:
        spent = peer.job("echo", "spent", keep_ms=HOUR_MS)
        peer.place(spent)
        redis.set(keys.count(spent.message), 3)
        jobs.append(spent)
    if "takeover" in implementation.features:
        adopted = peer.job("echo", "adopted", keep_ms=HOUR_MS)
        registry.lapsed(GONE, adopted)
        jobs.append(adopted)
    set_user(redis_server, "serial", PASSWORD, *EVERYTHING, *rights)

    server(user="serial", password=PASSWORD)
    for job in jobs:
        peer.wait(
            lambda each=job: peer.received(each),  # type: ignore[misc] # a default's type
            "server.kept.stores",
            "an answer",
            job,
            patience_s=SCAN_S,
        )
    peer.wait_gone(*(job.message for job in jobs), requirement="server.kept.stores")

    require_stored(redis, keys, peer, *jobs)
    for job in jobs:
        require_left(redis, keys, job, HOUR_MS)


@pytest.mark.requirement("server.kept.stores", "server.kept.first")
@pytest.mark.dimensions(occasion="restart", repetition="faults")
def test_a_crash_leaves_the_first_result(
    server_sweep: ServerSweep, redis: Redis, keys: Keys
) -> None:
    """A server that is killed at any boundary has stored what it has published, and its next life replaces nothing."""
    server_sweep.start()
    for attempt in server_sweep.attempts("server.claim.atomic"):
        job = server_sweep.push_while_idle(attempt, keep_ms=HOUR_MS)

        if server_sweep.reached(attempt, job):
            server_sweep.kill(attempt)
            crash = server_sweep.held(job)
            if server_sweep.out(job):
                require_stored(redis, keys, server_sweep.peer, job)
            planted = mark_first(redis, keys, job)
            server_sweep.start()
            server_sweep.settle_after_crash(job, crash)
            if planted:
                require_first(redis, keys, job, FIRST)
        require_left(redis, keys, job, HOUR_MS)


@pytest.mark.requirement("server.kept.stores", "server.kept.first", "server.publish.again")
@pytest.mark.dimensions(
    occasion="reconnect", connection=("publishing", "claims", "cut"), repetition="faults"
)
def test_a_result_is_stored_after_a_lost_connection(
    server_sweep: ServerSweep, redis: Redis, keys: Keys
) -> None:
    """Whichever boundary a connection is lost at, the result is stored when it is published, and not replaced."""
    server_sweep.start()
    for attempt in server_sweep.attempts("server.claim.atomic"):
        job = server_sweep.push_while_idle(attempt, keep_ms=HOUR_MS)

        if server_sweep.reached(attempt, job):
            attempt.drop()
            if server_sweep.out(job):
                require_stored(redis, keys, server_sweep.peer, job)

        planted = mark_first(redis, keys, job)
        server_sweep.settle(job, stranded="server.recovery.reconnect")
        if planted:
            require_first(redis, keys, job, FIRST)
        else:
            require_stored(redis, keys, server_sweep.peer, job)


@pytest.mark.requirement("server.kept.first", "server.publish.once")
@pytest.mark.dimensions(
    size="8",
    occasion=("again", "recovery"),
    moment="outstanding",
    answer=("nothing", "another type"),
    settings="rights",
    repetition="messages",
)
@pytest.mark.parametrize("rights", [(), ("-multi", "-exec")], ids=["all", "no-transactions"])
def test_what_is_stored_stays(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    implementation: Implementation,
    rights: tuple[str, ...],
) -> None:
    """Of twelve jobs whose results are stored already, new ones and found ones, none replaces or extends it."""
    jobs = [peer.job("echo", number, keep_ms=HOUR_MS) for number in range(12)]
    for job in jobs:
        redis.set(keys.result(job.message), b"planted", px=10 * MINUTE_MS)
    redis.rpush(
        keys.result(other := peer.job("echo", "a list", keep_ms=HOUR_MS).message), b"planted"
    )
    listed = jobs[:4] if "recovery" in implementation.features else []
    peer.place(*listed)
    peer.push_job(*jobs[len(listed) :])
    twice = peer.job("echo", "twice", keep_ms=HOUR_MS)
    peer.push_job(twice, twice)
    peer.push_message(other)
    set_user(redis_server, "serial", PASSWORD, *EVERYTHING, *rights)

    server(user="serial", password=PASSWORD)
    peer.wait_settled(*jobs, twice)
    peer.wait_gone(other, requirement="server.remove.finished")

    for job in jobs:
        require_first(redis, keys, job, b"planted")
        require_left(redis, keys, job, 10 * MINUTE_MS, "server.kept.first")
    require_stored(redis, keys, peer, twice)


@pytest.mark.requirement("server.kept.value", "server.kept.stores")
@pytest.mark.dimensions(
    size=("below 1", "8", "2³¹"), occasion="again", answer="another type", repetition="messages"
)
def test_a_time_is_rounded_limited_or_ignored(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys
) -> None:
    """Jobs with every `keep_ms` of the fixtures are answered, and stored for as long as that says, or not at all.

    Two more are stored to the millisecond, by Redis's own clock.
    """
    listed = vectors("keeps")
    jobs = {each["id"]: keeping(peer, each["keep_ms"], each["id"]) for each in listed}
    plain = peer.job("echo", "plain")
    peer.push_job(plain, *jobs.values(), peer.job("echo", "behind"))

    server()
    for job in (plain, *jobs.values()):
        result = peer.result(job, "server.kept.value")
        require("result" in result, "server.kept.value", expected="a value", got=result)
    peer.wait_settled(*jobs.values())

    require_none(redis, keys, plain)
    for each in listed:
        job, stored_ms = jobs[each["id"]], each["stored_ms"]
        if stored_ms is None:
            require_none(redis, keys, job)
        elif stored_ms > SHORT_MS:
            require_left(redis, keys, job, stored_ms, "server.kept.value")

    for asked in (60_001, 60_999.9):
        begun_ms = redis_ms(redis)
        job = peer.job("echo", "to the millisecond", keep_ms=asked)
        peer.push_job(job)
        peer.wait_settled(job)
        require_left(redis, keys, job, int(asked), "server.kept.value")
        ends_ms = int(redis.pttl(keys.result(job.message))) + redis_ms(redis)
        require(
            ends_ms >= begun_ms + int(asked) - 1,
            "server.kept.value",
            expected=f"stored for {int(asked)} ms, from some moment after the push",
            got=f"stored until {ends_ms - begun_ms} ms after the push",
        )


@pytest.mark.requirement("server.kept.value", "server.kept.stores")
@pytest.mark.dimensions(settings="limit", size=("100", "2³¹"))
@pytest.mark.parametrize("limit_ms", [0, 10 * MINUTE_MS])
def test_a_server_keeps_nothing_beyond_its_limit(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, limit_ms: int
) -> None:
    """What asks for more than the limit is stored for that long, and not at all where the limit is 0."""
    asked: list[Any] = [HOUR_MS, limit_ms + 1, 2**31, 1e300]
    jobs = [peer.push("echo", keep_ms, keep_ms=keep_ms) for keep_ms in asked]
    within = [peer.push("echo", n, keep_ms=5 * MINUTE_MS) for n in range(MANY if limit_ms else 1)]

    server(keep_max_ms=limit_ms)
    peer.wait_settled(*jobs, *within)

    for job in (*jobs, *within):
        if limit_ms:
            requirement = "server.kept.value" if job in jobs else "server.kept.stores"
            require_left(redis, keys, job, limit_ms if job in jobs else 5 * MINUTE_MS, requirement)
        else:
            require_none(redis, keys, job)


def keeping(peer: Peer, spelled: str, parameters: object) -> Job:
    """A job whose `keep_ms` is spelled like this."""
    job = peer.job("echo", parameters, keep_ms="spelled")
    return Job(
        job.message.replace(b'"spelled"', spelled.encode()),
        job.id,
        job.channel,
        job.method,
        job.parameters,
    )


def redis_ms(redis: Redis) -> int:
    """Redis's clock."""
    seconds, microseconds = redis.time()
    return int(seconds) * 1_000 + int(microseconds) // 1_000


def mark_first(redis: Redis, keys: Keys, job: Job) -> bool:
    """Make what is stored for a job, if anything is, differ from what another run of it would store."""
    return bool(redis.set(keys.result(job.message), FIRST, xx=True, keepttl=True))


def published(peer: Peer, job: Job) -> list[bytes]:
    """The bytes of every result of a job that was published until now."""
    name = json.dumps(job.id).encode()
    return [each.data for each in peer.messages() if name in each.data]


def require_stored(redis: Redis, keys: Keys, peer: Peer, *jobs: Job) -> None:
    """Of each job, what was published is stored, byte by byte."""
    for job in jobs:
        stored, sent = redis.get(keys.result(job.message)), published(peer, job)
        require(
            stored is not None and stored in sent,
            "server.kept.stores",
            expected=f"one of these under the job's key: {sent!r:.200}",
            got=f"{stored!r:.200}",
        )


def require_first(redis: Redis, keys: Keys, job: Job, first: bytes) -> None:
    """What was stored first is there still."""
    stored = redis.get(keys.result(job.message))
    require(stored == first, "server.kept.first", expected=f"{first!r}", got=f"{stored!r:.200}")


def require_none(redis: Redis, keys: Keys, job: Job) -> None:
    """Nothing is stored for a job."""
    stored = redis.get(keys.result(job.message))
    require(
        stored is None,
        "server.kept.value",
        expected=f"nothing stored for {job.message!r:.200}",
        got=f"{stored!r:.200}",
    )


def require_left(
    redis: Redis, keys: Keys, job: Job, stored_ms: int, requirement: str = "server.kept.stores"
) -> None:
    """What is stored will expire after a time, of which a slow machine may have used up a part."""
    left_ms = int(redis.pttl(keys.result(job.message)))
    require(
        stored_ms - LATE_MS < left_ms <= stored_ms,
        requirement,
        expected=f"{stored_ms} ms to live, or up to {LATE_MS} ms less, for {job.message!r:.200}",
        got=f"{left_ms} ms" if left_ms != -1 else "no end",
    )
