"""Rights and secrets: what each party gets along with, and what it keeps to itself."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.calls import guard_ms, run_after_a_loss
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.process import Process
from jobqueue_conformance.programs.starting import StartClient, StartServer
from jobqueue_conformance.proxy.events import COMMAND, OPENED
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.redis_servers.acl import EVERYTHING, PASSWORD, least_rights, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.verdicts import require

LOOK_S = 3.0  # how long a program that can't log in is watched
TRY_MS = 1000  # after which a job that a cut connection has swallowed is tried again


@pytest.mark.requirement("server.security.least-acl")
@pytest.mark.dimensions(
    occasion=("reconnect", "recovery"), connection=("all", "cut"), settings="rights"
)
def test_a_server_works_under_the_least_rights(
    server: StartServer,
    peer: Peer,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
    implementation: Implementation,
) -> None:
    """A server with the rights that the protocol grants recovers, claims, answers, removes and reconnects."""
    set_user(
        redis_server, "least", PASSWORD, *least_rights("server", keys, implementation.features)
    )
    listed = [peer.job("echo", "recovered")] if "recovery" in implementation.features else []
    peer.place(*listed)
    dead = b"no JSON"

    server(user="least", password=PASSWORD, wait=False)
    peer.push_message(dead)
    jobs = [peer.push(method, {"message": "x"}) for method in ("echo", "fail", "unknown")]
    for job in (*listed, *jobs):
        peer.result(job, "server.security.least-acl")
    proxy.drop()
    peer.result(peer.push("echo", "after a loss"), "server.security.least-acl")

    peer.wait_gone(dead, *(job.message for job in jobs), requirement="server.security.least-acl")


@pytest.mark.requirement("client.security.least-acl")
@pytest.mark.dimensions(occasion="reconnect", connection=("all", "cut"), settings="rights")
def test_a_client_works_under_the_least_rights(
    client: StartClient,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
    implementation: Implementation,
) -> None:
    """A client with the rights that the protocol grants subscribes, pushes and is answered, also after a loss."""
    set_user(
        redis_server, "least", PASSWORD, *least_rights("client", keys, implementation.features)
    )
    driver = client(user="least", password=PASSWORD)

    seq = driver.submit("echo", "least rights", timeout_ms=guard_ms())

    def pushed_or_refused() -> object:
        driver.check()
        return redis.exists(keys.queue) or driver.outcomes(seq)

    proxy.notifier.wait(pushed_or_refused, "the job, or its refusal")
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
    proxy.drop()
    outcome, _ = run_after_a_loss(driver, peer, proxy.notifier, "after a loss", TRY_MS)
    require(
        outcome.value == "after a loss",
        "client.security.least-acl",
        expected="the result of a job after a loss",
        got=outcome,
    )


@pytest.mark.requirement("server.security.password")
@pytest.mark.dimensions(
    occasion=("reconnect", "stop"), connection=("all", "cut"), answer="error", handler="exception"
)
@pytest.mark.parametrize("known", [True, False], ids=["right", "wrong"])
def test_a_server_writes_no_password(
    server: StartServer, peer: Peer, redis_server: RedisServer, proxy: Proxy, known: bool
) -> None:
    """Whether its password is right or wrong, a server that runs, fails, is cut off and stopped doesn't write it."""
    set_user(redis_server, "somebody", PASSWORD if known else "another", *EVERYTHING)
    started = server(user="somebody", password=PASSWORD, wait=known)
    if known:
        peer.push_message(b"no JSON")
        peer.result(peer.push("fail", {"message": "x"}))
        proxy.drop()
        peer.result(peer.push("echo", "behind"))
        started.terminate()
        started.wait_exit()
    else:
        watched_s = proxy.notifier.deadline_s  # a start can take long
        proxy.notifier.happens(lambda: not started.running or shown(proxy), watched_s)
        proxy.notifier.happens(lambda: not started.running or tries(proxy) > 3, LOOK_S)
    started.kill()

    require_kept("server.security.password", proxy, started)


@pytest.mark.requirement("client.security.password")
@pytest.mark.dimensions(
    occasion="reconnect",
    connection=("all", "cut"),
    answer="error",
    caller=("timeout", "no timeout"),
)
@pytest.mark.parametrize("known", [True, False], ids=["right", "wrong"])
def test_a_client_writes_no_password(
    client: StartClient, peer: Peer, redis_server: RedisServer, proxy: Proxy, known: bool
) -> None:
    """Whether its password is right or wrong, a client that runs, is cut off and ends doesn't write it."""
    set_user(redis_server, "somebody", PASSWORD if known else "another", *EVERYTHING)
    driver = client(user="somebody", password=PASSWORD)
    seq = driver.submit("echo", "secret", timeout_ms=guard_ms() if known else 500)
    if known:
        peer.answer(peer.claim(), result=None)
        proxy.notifier.happens(lambda: driver.outcomes(seq), LOOK_S)
        seq = driver.submit("echo", "lost")
        peer.claim()
        proxy.drop()
    watched_s = proxy.notifier.deadline_s  # a start can take long
    proxy.notifier.happens(lambda: shown(proxy) or not driver.running, watched_s)
    proxy.notifier.happens(lambda: driver.outcomes(seq) or not driver.running, LOOK_S)
    if driver.outcomes(seq):
        driver.close()
    driver.kill()

    require_kept("client.security.password", proxy, driver, *map(str, driver.lines))


@pytest.mark.requirement("client.security.password")
@pytest.mark.dimensions(
    occasion=("unconnected", "reconnect"), connection=("all", "refused"), caller="timeout"
)
def test_a_refused_client_writes_no_password(
    client: StartClient, peer: Peer, redis_server: RedisServer, keys: Keys, proxy: Proxy
) -> None:
    """Where nobody listens, at first and after a loss, a client doesn't write the password of the URL that it tries."""
    set_user(redis_server, "somebody", PASSWORD, *EVERYTHING)
    proxy.endpoint("client", keys.queue)
    proxy.refuse()
    driver = client(user="somebody", password=PASSWORD)

    for number in range(2):
        seq = driver.submit("echo", number, timeout_ms=500)
        driver.outcome(seq)
        proxy.accept_again()
        run_after_a_loss(driver, peer, proxy.notifier, "behind")
        proxy.refuse()
        proxy.drop()
    driver.kill()

    require_kept("client.security.password", proxy, driver, *map(str, driver.lines))


def tries(proxy: Proxy) -> int:
    """How many connections were made."""
    return sum(each.kind == OPENED for each in proxy.events)


def shown(proxy: Proxy) -> bool:
    """Whether a connection has sent the password to Redis."""
    return any(each.kind == COMMAND and each.carries(PASSWORD) for each in proxy.events)


def require_kept(requirement: str, proxy: Proxy, process: Process, *lines: str) -> None:
    """The process has shown its password to Redis, and nothing that it wrote holds it."""
    login = "a login with the password that it was given"
    require(shown(proxy), requirement, expected=login, got="none")
    written = [*process.stdout.splitlines(), *process.stderr.splitlines(), *lines]
    spilled = [line for line in written if PASSWORD in line]
    require(not spilled, requirement, expected="no password in its output", got=f"{spilled!r:.500}")
