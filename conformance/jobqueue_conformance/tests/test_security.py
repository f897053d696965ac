"""Rights and secrets: what each party gets along with, and what it keeps to itself."""

import pytest
from redis import Redis

from jobqueue_conformance.acl import EVERYTHING, least_rights, set_user
from jobqueue_conformance.calls import GUARD_MS
from jobqueue_conformance.keys import Keys
from jobqueue_conformance.manifest import Implementation
from jobqueue_conformance.passage import COMMAND, OPENED
from jobqueue_conformance.peer import Peer
from jobqueue_conformance.process import Process
from jobqueue_conformance.pytest_fixtures import StartClient, StartServer
from jobqueue_conformance.redis_server import RedisServer
from jobqueue_conformance.tap import Tap
from jobqueue_conformance.verdicts import require

PASSWORD = "kept-to-itself-4d7c"
LOOK_S = 3.0  # how long a program that can't log in is watched


@pytest.mark.requirement("server.security.least-acl")
def test_a_server_works_under_the_least_rights(
    server: StartServer,
    peer: Peer,
    redis_server: RedisServer,
    keys: Keys,
    tap: Tap,
    implementation: Implementation,
) -> None:
    """A server with the rights that the protocol grants recovers, claims, answers, buries and connects again."""
    set_user(redis_server, "least", "pass", *least_rights("server", keys))
    listed = [peer.job("echo", "recovered")] if "recovery" in implementation.features else []
    peer.place(*listed)
    dead = b"no JSON"

    server(user="least", password="pass", wait=False)
    peer.push_message(dead)
    jobs = [peer.push(method, {"message": "x"}) for method in ("echo", "fail", "unknown")]
    for job in (*listed, *jobs):
        peer.result(job, "server.security.least-acl")
    tap.drop()
    peer.result(peer.push("echo", "after a loss"), "server.security.least-acl")

    peer.wait_gone(dead, *(job.message for job in jobs), requirement="server.security.least-acl")


@pytest.mark.requirement("client.security.least-acl")
def test_a_client_works_under_the_least_rights(
    client: StartClient, peer: Peer, redis: Redis, redis_server: RedisServer, keys: Keys, tap: Tap
) -> None:
    """A client with the rights that the protocol grants subscribes, pushes and is answered."""
    set_user(redis_server, "least", "pass", *least_rights("client", keys))
    driver = client(user="least", password="pass")

    seq = driver.submit("echo", "least rights", timeout_ms=GUARD_MS)

    def pushed_or_refused() -> object:
        driver.check()
        return redis.exists(keys.queue) or driver.outcomes(seq)

    tap.bell.wait(pushed_or_refused, "the job, or its refusal")
    refused = driver.outcomes(seq)

    require(
        not refused,
        "client.security.least-acl",
        expected="a job on the queue",
        got=refused,
    )
    peer.answer(peer.claim(), result="least rights")
    require(
        driver.outcome(seq).value == "least rights",
        "client.security.least-acl",
        expected="the result",
        got=driver.outcome(seq),
    )


@pytest.mark.requirement("server.security.password")
@pytest.mark.parametrize("known", [True, False], ids=["right", "wrong"])
def test_a_server_writes_no_password(
    server: StartServer, peer: Peer, redis_server: RedisServer, tap: Tap, known: bool
) -> None:
    """Whether its password is right or wrong, a server that runs, fails and loses connections doesn't write it."""
    set_user(redis_server, "somebody", PASSWORD if known else "another", *EVERYTHING)
    started = server(user="somebody", password=PASSWORD, wait=known)
    if known:
        peer.push_message(b"no JSON")
        peer.result(peer.push("fail", {"message": "x"}))
        tap.drop()
        peer.result(peer.push("echo", "behind"))
    else:
        tap.bell.happens(lambda: not started.running or tries(tap) > 3, LOOK_S)
    started.kill()

    require_kept("server.security.password", tap, started)


@pytest.mark.requirement("client.security.password")
@pytest.mark.parametrize("known", [True, False], ids=["right", "wrong"])
def test_a_client_writes_no_password(
    client: StartClient, peer: Peer, redis_server: RedisServer, tap: Tap, known: bool
) -> None:
    """Whether its password is right or wrong, a client that runs and loses its connections doesn't write it."""
    set_user(redis_server, "somebody", PASSWORD if known else "another", *EVERYTHING)
    driver = client(user="somebody", password=PASSWORD)
    seq = driver.submit("echo", "secret", timeout_ms=GUARD_MS if known else 500)
    if known:
        peer.answer(peer.claim(), result=None)
        tap.bell.happens(lambda: driver.outcomes(seq), LOOK_S)
        seq = driver.submit("echo", "lost")
        peer.claim()
        tap.drop()
    tap.bell.happens(lambda: driver.outcomes(seq) or not driver.running, LOOK_S)
    driver.kill()

    require_kept("client.security.password", tap, driver, *map(str, driver.lines))


def tries(tap: Tap) -> int:
    """How often somebody has connected."""
    return sum(each.kind == OPENED for each in tap.passages)


def require_kept(requirement: str, tap: Tap, process: Process, *lines: str) -> None:
    """The process has shown its password to Redis, and nothing that it wrote holds it."""
    shown = any(each.kind == COMMAND and each.carries(PASSWORD) for each in tap.passages)
    require(shown, requirement, expected="a login with the password that it was given", got="none")
    written = [*process.stdout.splitlines(), *process.stderr.splitlines(), *lines]
    spilled = [line for line in written if PASSWORD in line]
    require(not spilled, requirement, expected="no password in its output", got=f"{spilled!r:.500}")
