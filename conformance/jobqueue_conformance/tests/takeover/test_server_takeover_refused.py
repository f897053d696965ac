"""What a server of the feature `takeover` does again once Redis has refused it: to adopt, and to register."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.registry import GONE, SCAN_S, Registry
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import REPLY, Event
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.redis_servers.acl import execute
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.verdicts import require

SECONDS = 2.0  # in which a refusal comes
TIMES = 2  # of refusals
NO_MEMORY = ("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")
REPLICA = ("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")


@pytest.mark.requirement("server.takeover.adopts", "server.takeover.scans")
@pytest.mark.dimensions(
    occasion="again", moment="outstanding", connection="held", answer=("error", "another error")
)
@pytest.mark.parametrize("refused, allowed", [NO_MEMORY, REPLICA], ids=["OOM", "READONLY"])
def test_an_adoption_that_was_refused_is_tried_again(
    server: StartServer,
    peer: Peer,
    registry: Registry,
    redis_server: RedisServer,
    proxy: Proxy,
    refused: tuple[str, ...],
    allowed: tuple[str, ...],
) -> None:
    """An entry that Redis didn't let a server adopt, for lack of memory or as a replica, is adopted when it does."""
    started = server()
    started.wait_idle()
    job = peer.job("echo", "adopted at last")
    theirs = registry.lapsed(GONE, job)
    hold = proxy.hold(matches.command_naming(theirs))
    peer.wait(lambda: hold.event, "server.takeover.scans", "an adoption", patience_s=SCAN_S)

    execute(redis_server, *refused)
    seen = len(proxy.events)
    hold.release()
    proxy.notifier.happens_by_the_clock(lambda: refusals(proxy, seen, theirs), SECONDS)
    execute(redis_server, *allowed)
    if not started.running:  # it may have ended by the refusal of a claim
        server()

    peer.wait(
        lambda: peer.received(job),
        "server.takeover.adopts",
        "the answer of an entry that may be adopted again",
        job,
        patience_s=SCAN_S,
    )
    peer.wait_settled(job)


@pytest.mark.requirement("server.takeover.registers")
@pytest.mark.dimensions(
    occasion="reconnect",
    connection=("all", "cut"),
    answer="error",
    moment="outstanding",
    repetition="faults",
)
def test_a_registration_that_was_refused_is_repeated_before_a_claim(
    server: StartServer,
    redis: Redis,
    registry: Registry,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
) -> None:
    """A server that lacks the memory to register its list on a new connection has registered it when it claims."""
    started = server()
    started.wait_idle()
    proxy.stop_accepting()
    proxy.drop("server")
    redis.hdel(keys.processors, started.in_process)
    hold = proxy.hold(matches.command_naming(keys.queue))
    execute(redis_server, *NO_MEMORY[0])
    seen = len(proxy.events)
    proxy.accept_again()

    proxy.notifier.happens_by_the_clock(
        lambda: hold.event or len(refusals(proxy, seen, keys.processors)) >= TIMES, SECONDS
    )
    execute(redis_server, *NO_MEMORY[1])
    hold.wait("a claim")
    value = registry.value(started.in_process)
    hold.release()

    require(
        value == b"0",
        "server.takeover.registers",
        expected="the registration 0 before the first claim",
        got=value,
    )


def refusals(proxy: Proxy, seen: int, key: str) -> list[Event]:
    """The errors, or transactions with an error in them, in reply to commands with this key, since so many events."""
    names = matches.reply_naming(key)
    return [
        each
        for each in list(proxy.events)[seen:]
        if each.kind == REPLY and names(each) and (each.frame[:1] == b"-" or b"\r\n-" in each.frame)
    ]
