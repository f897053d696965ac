"""What a server does while its connects are refused: as in a restart of Redis, nobody listens on the port."""

import time

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.server import ServerProcess
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy.events import OPENED
from jobqueue_conformance.proxy.proxy import How, Proxy
from jobqueue_conformance.redis_servers.acl import EVERYTHING, PASSWORD, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.verdicts import require

LEAST_S = 0.3  # a server that comes back at once waits for longer after each refusal
WATCHED_S, LONGEST_S = 1.0, 7.0
MANY = 10  # in a row: a right server that waits for up to 2 s needs half a minute for 20
FAST = 200  # connects in a second: no server that waits between them makes so many


@pytest.mark.requirement("server.connection.survives", "server.recovery.reconnect")
@pytest.mark.dimensions(occasion="reconnect", connection=("all", "refused"), repetition="faults")
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.waits(4)
def test_refused_connects_are_no_reason_to_give_up(
    server: StartServer, peer: Peer, redis: Redis, proxy: Proxy, how: How
) -> None:
    """Twice over, a server whose connections are lost, and then refused, answers what it finds and what follows."""
    started = server()

    for n in range(2):
        peer.wait_settled(peer.push("echo", f"before {n}"))
        started.wait_idle()
        listed, queued = peer.job("echo", f"listed {n}"), peer.job("echo", f"queued {n}")
        refused(started, proxy, how)
        redis.lpush(started.in_process, listed.message)
        peer.push_job(queued)
        proxy.accept_again()

        peer.result(queued, "server.connection.survives")
        peer.result(listed, "server.recovery.reconnect")
        peer.wait_settled(listed, queued)


@pytest.mark.requirement("server.security.password")
@pytest.mark.dimensions(occasion=("unconnected", "reconnect"), connection=("all", "refused"))
def test_no_password_is_written_where_connects_are_refused(
    server: StartServer, peer: Peer, redis_server: RedisServer, proxy: Proxy
) -> None:
    """A server whose connects are refused, after a loss and at its start, doesn't write its password."""
    set_user(redis_server, "somebody", PASSWORD, *EVERYTHING)
    started = server(user="somebody", password=PASSWORD)
    peer.wait_settled(peer.push("echo", "before"))
    took_s = time.monotonic() - started.started_s

    refused(started, proxy, "fin")
    late = server("late", user="somebody", password=PASSWORD, wait=False)
    proxy.refuse("late")
    proxy.notifier.happens(lambda: not late.running, LEAST_S + took_s)
    written = [each for life in (started, late) for each in (life.stdout, life.stderr)]
    late.kill()
    proxy.accept_again()

    spilled = [text for text in written if PASSWORD in text]
    require(
        not spilled,
        "server.security.password",
        expected="no password in its output",
        got=f"{spilled!r:.500}",
    )
    peer.result(peer.push("echo", "behind"), "server.connection.survives")


@pytest.mark.requirement(
    "server.connection.back-off", "server.connection.survives", "server.security.password"
)
@pytest.mark.dimensions(
    size="8", occasion="reconnect", connection=("all", "cut"), repetition="faults"
)
def test_a_server_waits_between_its_connects(
    server: StartServer, peer: Peer, redis_server: RedisServer, proxy: Proxy
) -> None:
    """A server whose connections are ended as soon as they are made makes ten in vain, but not hundreds in a second."""
    set_user(redis_server, "somebody", PASSWORD, *EVERYTHING)
    started = server(user="somebody", password=PASSWORD)
    peer.wait_settled(peer.push("echo", "before"))

    proxy.hang_up_at_once("server")
    proxy.drop("server")
    seen = len(proxy.events)
    begun_s = time.monotonic()
    proxy.notifier.pause(WATCHED_S)
    proxy.notifier.happens(lambda: connects(proxy, seen) > MANY or not started.running, LONGEST_S)
    watched_s = time.monotonic() - begun_s
    made = connects(proxy, seen)
    proxy.hang_up_at_once("server", over=True)
    peer.result(peer.push("echo", "behind"), "server.connection.survives")

    require(
        made < FAST * watched_s,
        "server.connection.back-off",
        expected=f"fewer than {FAST} connects in a second",
        got=f"{made} in {watched_s:.1f} s",
    )
    require(
        PASSWORD not in started.stdout + started.stderr,
        "server.security.password",
        expected="no password in its output",
        got=f"{started.stdout + started.stderr!r:.500}",
    )


def connects(proxy: Proxy, since: int) -> int:
    """How many connections were made since then."""
    return sum(each.kind == OPENED for each in proxy.events[since:])


def refused(started: ServerProcess, proxy: Proxy, how: How) -> None:
    """Lose the server's connections, and refuse its next ones until it has tried, as fast as it was seen to be."""
    seen = len(proxy.events)
    lost_s = time.monotonic()
    proxy.drop("server", how)
    proxy.notifier.wait(
        lambda: any(each.kind == OPENED for each in proxy.events[seen:]), "a connect after a loss"
    )
    way_back_s = time.monotonic() - lost_s
    started.wait_idle()

    proxy.refuse("server")
    proxy.drop("server", how)
    proxy.notifier.happens(lambda: not started.running, max(LEAST_S, 2 * way_back_s))
