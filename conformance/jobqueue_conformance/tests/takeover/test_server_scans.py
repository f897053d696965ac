"""What a scan of the registered lists finds, when it comes, and what it marks and forgets: the feature `takeover`."""

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from jobqueue_conformance.peer.adoptions import adopted
from jobqueue_conformance.peer.observer import Observer
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.registry import FOREIGN, GONE, Registry
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.verdicts import require

HOUR_S = 3600
LONG_LEASE_MS = 30_000


@pytest.mark.requirement("server.takeover.marked", "server.takeover.scans")
@pytest.mark.dimensions(occasion=("again", "recovery"), answer="another type", size="2³¹")
@pytest.mark.parametrize(
    "value", ["0", "nan", "abc", "", "0x10", "1e3", "-0", "9" * 40, "-" + "9" * 40, " 1"]
)
@pytest.mark.waits(3)
def test_a_list_is_marked_before_anybody_adopts(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry, value: str
) -> None:
    """A list without a lease and without a valid mark is marked, and its entries stay; C later, they are adopted."""
    job, fence = peer.job("echo", "not marked"), peer.job("echo", "fence")
    theirs = registry.register(GONE, job, value=value)
    registry.lapsed("fence", fence)

    server()
    marked(peer, lambda: peer.received(fence))
    marked(peer, lambda: registry.marked(theirs) or peer.received(job))
    require(
        redis.lrange(theirs, 0, -1) == [job.message] and registry.marked(theirs),
        "server.takeover.marked",
        expected="a mark of now, and the entry where it was",
        got=(registry.value(theirs), redis.lrange(theirs, 0, -1)),
    )

    registry.lapsed(GONE)
    marked(peer, lambda: peer.received(job))
    peer.wait_settled(job)


@pytest.mark.requirement("server.takeover.marked")
@pytest.mark.dimensions(moment="after the second look", answer="nothing")
def test_a_mark_of_less_than_c_ago_is_too_young(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry
) -> None:
    """While another list is adopted from, the entries of a list that was marked a moment ago stay there."""
    job, fence = peer.job("echo", "too young"), peer.job("echo", "fence")
    theirs = registry.lapsed(GONE, job, ago_s=-60.0)  # a clock that was stepped back
    youngest = registry.lapsed("youngest", peer.job("echo", "youngest"), ago_s=0.0)
    registry.lapsed("fence", fence)

    server(lease_ms=LONG_LEASE_MS)  # so that C doesn't pass meanwhile
    adopted(peer, lambda: peer.received(fence))

    left = [redis.llen(theirs), redis.llen(youngest)]
    require(left == [1, 1], "server.takeover.marked", expected="both entries left", got=left)


@pytest.mark.requirement("server.takeover.first", "server.takeover.scans")
@pytest.mark.dimensions(size="8", occasion="restart", settings="names")
def test_what_is_due_at_the_start_is_adopted_before_the_queue(
    server: StartServer, peer: Peer, registry: Registry, keys: Keys, observer: Observer
) -> None:
    """Entries of twelve lapsed lists, whatever form their names have, are answered before the jobs of the queue."""
    queued = [peer.push("echo", number) for number in range(100)]
    due = [peer.job("echo", f"due {number}") for number in range(24)]
    registry.lapsed(GONE, *due[:12])
    for number, job in enumerate(due[12:]):
        registry.lapsed(f"another-{number}", job)
    registry.rename("another-0", f"{keys.queue}:configured as a whole")

    server()
    peer.result(queued[-1])
    order = [message.data for message in observer.messages][: len(due)]
    early = [data for data in order if not any(job.id.encode() in data for job in due)]

    require(
        not early,
        "server.takeover.first",
        expected="the answers of the lapsed lists first",
        got=f"{len(early)} of the first {len(due)} were of the queue",
    )


@pytest.mark.requirement("server.takeover.first", "server.takeover.scans")
@pytest.mark.dimensions(moment="outstanding", handler="late", occasion="again")
@pytest.mark.waits(3)
def test_a_busy_server_adopts_before_its_next_claim(
    server: StartServer, peer: Peer, registry: Registry
) -> None:
    """What comes due while a handler runs is answered before the jobs that have to wait for longer than 2 L."""
    server()
    queued = [peer.push("wait", {"ms": 200, "number": number}) for number in range(60)]
    peer.result(queued[0])
    job = peer.job("echo", "due")
    registry.lapsed(GONE, job)

    adopted(peer, lambda: peer.received(job) or peer.received(queued[-1]), "server.takeover.scans")
    answered = sum(bool(peer.received(each)) for each in queued)

    require(
        bool(peer.received(job)) and answered < len(queued),
        "server.takeover.first",
        expected="the adopted entry answered among those that are queued",
        got=f"{answered} of the queue before it",
    )


@pytest.mark.requirement("server.takeover.scans")
@pytest.mark.dimensions(
    occasion="again", moment="after the second look", answer="another type", repetition="faults"
)
@pytest.mark.waits(9)
def test_an_idle_server_scans_again_and_again(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry, keys: Keys
) -> None:
    """An idle server adopts what came due after its start, and after that, although another one seems to scan."""
    started = server()
    for number, lasts_s in enumerate((1, HOUR_S, None)):
        started.wait_idle()
        redis.set(f"{keys.queue}:scanned", FOREIGN, ex=lasts_s)
        job = peer.job("echo", number)
        registry.lapsed(f"{GONE}-{number}", job)

        adopted(peer, lambda: peer.received(job), "server.takeover.scans")  # noqa: B023 - asked in this turn only


@pytest.mark.requirement("server.takeover.late")
@pytest.mark.dimensions(size=("2³¹", "8"), occasion="again", repetition="faults")
@pytest.mark.parametrize("ago_s", [60.0, 86_400.0, 30 * 86_400.0])
@pytest.mark.waits(3)
def test_what_lands_on_an_emptied_list_is_adopted(
    server: StartServer, peer: Peer, registry: Registry, ago_s: float
) -> None:
    """Entries of a list that was found empty a minute, a day or a month ago are run, and so is a later one."""
    jobs = [peer.job("echo", number) for number in range(12)]
    registry.emptied(GONE, *jobs, ago_s=ago_s)

    server()
    adopted(peer, lambda: all(peer.received(job) for job in jobs), "server.takeover.late")
    later = peer.job("echo", "later")
    registry.emptied(GONE, later, ago_s=ago_s)

    adopted(peer, lambda: peer.received(later), "server.takeover.late")
    peer.wait_settled(*jobs, later)


@pytest.mark.requirement("server.takeover.prunes", "server.takeover.scans")
@pytest.mark.dimensions(size=("100", "1,024"), occasion="again", moment="after the second look")
@pytest.mark.waits(3)
def test_a_registration_is_removed_after_g_and_not_earlier(
    server: StartServer, peer: Peer, registry: Registry, redis: Redis, keys: Keys
) -> None:
    """Of many empty lists, those that were found empty G ago are forgotten, and no others; used ones stay, too.

    A scan goes through all that stay: whatever is due among thousands of them is adopted.
    """
    old = [registry.emptied(f"old-{number}", ago_s=3601.0) for number in range(600)]
    young = [keys.in_process(f"young-{number}") for number in range(2500)]
    emptied_ms = -(registry.now_ms() - 3_500_000)
    redis.hset(keys.processors, mapping=dict.fromkeys(young, str(emptied_ms)))
    lapsed = registry.lapsed("lapsed", ago_s=7200.0)
    jobs = [peer.job("echo", number) for number in range(12)]
    due = [registry.lapsed(f"due-{number}", job) for number, job in enumerate(jobs)]
    alive = registry.register("alive")
    registry.lease("alive")

    server()
    adopted(peer, lambda: all(peer.received(job) for job in jobs), "server.takeover.scans")
    pruned(peer, lambda: not any(map(registry.value, old)))
    fence = registry.emptied("fence", ago_s=3601.0)
    pruned(peer, lambda: registry.value(fence) is None)
    left = set(map(text, redis.hkeys(keys.processors)))

    wanted = {*young, *due, lapsed, alive, keys.in_process()}
    require(left == wanted, "server.takeover.prunes", expected="the others", got=wanted ^ left)
    value = registry.value(lapsed) or b""
    require(
        value.startswith(b"-"),
        "server.takeover.prunes",
        expected="the lapsed list found empty now",
        got=value,
    )


@pytest.mark.requirement("server.takeover.ignores")
@pytest.mark.dimensions(settings="names", answer=("error", "another type"), occasion="again")
@pytest.mark.waits(9)
def test_registrations_of_other_things_are_ignored(
    server: StartServer, peer: Peer, registry: Registry, redis: Redis, keys: Keys
) -> None:
    """The queue, the dead list, its own list and foreign keys are left alone; what Redis refuses is skipped."""
    long_ago = registry.now_ms() - 600_000
    dead, foreign = peer.job("echo", "dead"), peer.job("echo", "foreign")
    other = f"{keys.queue}-other:in-process:x"
    wrong = keys.in_process("of-another-type")
    redis.lpush(keys.dead, dead.message)
    redis.lpush(other, foreign.message)
    redis.set(wrong, "no list")
    ignored = (keys.queue, keys.dead, other, f" {keys.queue}:in-process:x", "")
    for key in ignored:
        redis.hset(keys.processors, key, long_ago)
    for value in (long_ago, -long_ago, 0):
        redis.hset(keys.processors, wrong, value)
        fence = peer.job("echo", value)
        registry.lapsed(f"fence-{value}", fence)
        server()
        redis.hset(keys.processors, keys.in_process(), long_ago)
        adopted(peer, lambda: peer.received(fence), "server.takeover.ignores")  # noqa: B023 - asked in this turn only
        following = peer.job("echo", "following")
        registry.lapsed(f"following-{value}", following)
        adopted(peer, lambda: peer.received(following), "server.takeover.ignores")  # noqa: B023 - asked in this turn only
        require(
            [redis.hget(keys.processors, key) for key in ignored] == [b"%d" % long_ago] * 5
            and redis.lrange(keys.dead, 0, -1) == [dead.message]
            and redis.lrange(other, 0, -1) == [foreign.message]
            and peer.servers[-1].running,
            "server.takeover.ignores",
            expected="registrations and lists as they were",
            got=[redis.hget(keys.processors, key) for key in ignored],
        )
        peer.servers[-1].kill()


def text(key: bytes | str) -> str:
    """A key of Redis."""
    return key.decode() if isinstance(key, bytes) else key


def marked(peer: Peer, look: Callable[[], Any]) -> Any:
    """Wait for what a scan brings about on a list that wasn't marked."""
    return adopted(peer, look, "server.takeover.marked")


def pruned(peer: Peer, look: Callable[[], Any]) -> Any:
    """Wait for what a scan brings about on a list that is empty."""
    return adopted(peer, look, "server.takeover.prunes")
