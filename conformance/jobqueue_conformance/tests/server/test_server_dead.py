"""Messages that no server can answer: neither run nor answered, off the list, and kept where that is declared."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.registry import GONE, SCAN_S, Registry
from jobqueue_conformance.peer.steps import steps
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy.events import COMMAND, REPLY
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.redis_servers.acl import execute
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.messages import MalformedMessage, read_result
from jobqueue_conformance.spec.vectors import message, vectors
from jobqueue_conformance.spec.verdicts import fail, require

DEAD = {vector["id"]: message(vector) for vector in vectors("jobs", "dead")}
UNUSUAL = {vector["id"]: message(vector) for vector in vectors("jobs", "either")}
REFUSED_S = 2.0  # in which a refusal comes
ADOPTED = b"no JSON, and adopted"
KEPT = [f"kept before {number}".encode() for number in range(1100)]


@pytest.mark.requirement("server.dead.silent")
@pytest.mark.dimensions(occasion="again", repetition="faults")
def test_dead_messages_are_not_answered(server: StartServer, peer: Peer) -> None:
    """Nothing is published for messages without a usable channel or id, on any channel."""
    server()

    peer.push_message(*DEAD.values())
    behind = peer.push("echo", "behind")
    peer.wait_gone(*DEAD.values(), requirement="server.dead.removed")
    peer.wait_settled(behind)
    answers = [each for each in peer.messages() if behind.id.encode() not in each.data]

    require(
        not answers,
        "server.dead.silent",
        expected=f"nothing published for {len(DEAD)} dead messages",
        got=f"{answers!r:.600}",
    )


@pytest.mark.requirement("server.dead.removed")
@pytest.mark.dimensions(occasion="again", repetition="faults")
def test_dead_messages_leave_the_list(server: StartServer, peer: Peer, redis: Redis) -> None:
    """Dead messages are off the queue and the in-process list, whatever was wrong with them."""
    started = server()

    peer.push_message(*DEAD.values())
    behind = peer.push("echo", "behind")
    peer.result(behind, "server.run.goes-on")
    peer.wait_gone(*DEAD.values(), behind.message, requirement="server.dead.removed")

    require(
        not redis.exists(started.in_process),
        "server.dead.removed",
        expected="no in-process list",
        got=redis.lrange(started.in_process, 0, -1),
    )


@pytest.mark.requirement("server.dead.odd-bytes", "server.result.form")
@pytest.mark.dimensions(size="65,536 bytes", occasion="again")
def test_an_odd_message_leaves_the_list_in_one_of_three_ways(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, implementation: Implementation
) -> None:
    """A message outside the portable set is run, answered or dead, and what is published is strict JSON."""
    server()

    peer.push_message(*UNUSUAL.values())
    behind = peer.push("echo", "behind")
    peer.wait_gone(*UNUSUAL.values(), requirement="server.dead.odd-bytes")
    peer.wait_settled(behind)
    answers = [each.data for each in peer.messages() if behind.id.encode() not in each.data]
    for answer in answers:
        try:
            read_result(answer)
        except RecursionError:
            continue  # deeper than the suite reads
        except MalformedMessage as error:
            fail("server.result.form", expected="a result", got=str(error))
    kept = redis.lrange(keys.dead, 0, -1)
    buried = [name for name, each in UNUSUAL.items() if each in kept]

    ways = len(answers) + sum(entry in UNUSUAL.values() for entry in kept)
    require(
        ways == len(UNUSUAL) if "dead-list" in implementation.features else ways <= len(UNUSUAL),
        "server.dead.odd-bytes",
        expected=f"for each of {len(UNUSUAL)} messages one result, or the message on the dead list",
        got=f"{len(answers)} results, and {len(kept)} dead messages, of which these are as they were: {buried!r:.600}",
    )


@pytest.mark.requirement("server.dead-list.keeps")
@pytest.mark.dimensions(size="1,024", occasion="again")
def test_the_dead_list_keeps_the_exact_bytes(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    registry: Registry,
    keys: Keys,
    implementation: Implementation,
) -> None:
    """Every dead message is on the dead list, byte for byte, next to what was there before, and nothing else.

    So is one that is adopted.
    """
    redis.lpush(keys.dead, *KEPT)
    if "takeover" in implementation.features:
        theirs = registry.lapsed(GONE)
        redis.rpush(theirs, ADOPTED)
    server()
    if "takeover" in implementation.features:
        peer.wait(
            lambda: redis.lrem(keys.dead, 0, ADOPTED.decode()),
            "server.dead-list.keeps",
            "the dead message that is adopted on the dead list",
            patience_s=SCAN_S,
        )

    peer.push_message(*DEAD.values())
    good = peer.push("echo", "not dead")
    peer.wait_gone(*DEAD.values(), requirement="server.dead.removed")
    peer.wait_settled(good)
    kept = redis.lrange(keys.dead, 0, -1)

    require(
        sorted(kept) == sorted([*KEPT, *DEAD.values()]),
        "server.dead-list.keeps",
        expected=f"{len(DEAD)} dead messages, and the {len(KEPT)} that were there before",
        got=f"missing: {[name for name, dead in DEAD.items() if dead not in kept]}"
        f" and {len({*KEPT} - {*kept})} of those before,"
        f" too many: {[each for each in kept if each not in (*KEPT, *DEAD.values())]!r:.300}",
    )


@pytest.mark.requirement("server.dead-list.keeps")
@pytest.mark.dimensions(moment="outstanding")
def test_a_dead_message_is_kept_before_it_is_removed(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """Before each command about a dead message, it is on the in-process list or on the dead list."""
    started = server()
    dead = b"no JSON, and marked 5a0c"

    walk = steps(
        proxy,
        peer,
        lambda event: event.kind == COMMAND and not event.queued and event.carries("5a0c"),
        lambda: dead not in peer.waiting(),
        "server.dead.removed",
    )
    peer.push_message(dead)
    for event in walk:
        places = [redis.lrange(key, 0, -1) for key in (keys.queue, started.in_process, keys.dead)]
        require(
            any(dead in place for place in places),
            "server.dead-list.keeps",
            expected="the message on the in-process list or the dead list",
            got=f"a message that is on neither, before {event.arguments[0]!r}",
        )
    kept = redis.lrange(keys.dead, 0, -1)
    require(
        kept == [dead], "server.dead-list.keeps", expected=f"{[dead]} on the dead list", got=kept
    )


@pytest.mark.requirement("server.dead-list.keeps", "server.dead.removed")
@pytest.mark.dimensions(moment="outstanding", connection="held", answer="error")
def test_a_dead_message_that_redis_has_no_memory_for_is_kept(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
) -> None:
    """A dead message that Redis refuses to keep, for lack of memory, is on the dead list when there is some again."""
    started = server()
    dead = b"no JSON, and marked 7e31"
    hold = proxy.hold(lambda event: event.kind == REPLY and event.carries("7e31"))
    peer.push_message(dead)
    hold.wait("the claim of the message")

    execute(redis_server, "CONFIG", "SET", "maxmemory", "1")
    seen = len(proxy.events)
    hold.release()
    proxy.notifier.happens_by_the_clock(
        lambda: any(b"OOM" in each.frame for each in list(proxy.events)[seen:]), REFUSED_S
    )
    execute(redis_server, "CONFIG", "SET", "maxmemory", "0")
    if not started.running:  # it may have ended by the refusal
        server()

    peer.wait_gone(dead, requirement="server.dead.removed")
    kept = redis.lrange(keys.dead, 0, -1)
    require(
        dead in kept, "server.dead-list.keeps", expected="the message on the dead list", got=kept
    )


@pytest.mark.requirement("server.channel-prefix.confined")
@pytest.mark.dimensions(size="100", occasion=("again", "recovery"), settings="names")
def test_a_job_on_a_foreign_channel_is_dead(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    registry: Registry,
    keys: Keys,
    implementation: Implementation,
) -> None:
    """A server that is confined to a prefix neither runs nor answers other jobs, whether found, adopted or claimed."""
    prefix = f"jobs.of[1]:{'tenant/' * 20}:"
    foreign = [
        prefix[:-1],
        f"{prefix[:-1]}x",
        f"{prefix.capitalize()}x",
        f" {prefix}x",
        f"x{prefix}x",
        f"{prefix.replace('.', '-')}x",
        f"{prefix.replace('[1]', '1')}x",
        "x",
    ]

    found = foreign if "recovery" in implementation.features else []
    dead = [peer.job("echo", channel, channel=channel) for channel in found]
    peer.place(*dead)
    if "takeover" in implementation.features:
        adopted = peer.job("echo", "adopted", channel="y")
        theirs = registry.lapsed(GONE, adopted)
        dead.append(adopted)
    server(channel_prefix=prefix)
    if "takeover" in implementation.features:
        peer.wait(
            lambda: not redis.exists(theirs),
            "server.channel-prefix.confined",
            "an adoption",
            patience_s=SCAN_S,
        )

    dead += [peer.push("echo", channel, channel=channel) for channel in foreign]
    inside = [peer.push("echo", n, channel=prefix + end) for n, end in enumerate(["", "x"])]
    for job in inside:
        peer.result(job, "server.channel-prefix.confined")
    peer.wait_gone(*(job.message for job in dead), requirement="server.dead.removed")
    heard = {message.channel for message in peer.messages()}

    require(
        heard == {job.channel for job in inside},
        "server.channel-prefix.confined",
        expected=f"results on {[job.channel for job in inside]} alone, which begin with the prefix",
        got=sorted(heard),
    )
    kept = set(redis.lrange(keys.dead, 0, -1))
    require(
        kept == {job.message for job in dead} or "dead-list" not in implementation.features,
        "server.dead-list.keeps",
        expected="the others' jobs on the dead list",
        got=kept,
    )
