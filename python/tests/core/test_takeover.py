"""Scans and adoptions on a real Redis: what is due, what is moved, and what is let alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest
from jobqueue.core.lease import Lapsed, Lease
from jobqueue.core.parallel import Parallel
from jobqueue.core.reconnect import run_with_reconnect
from jobqueue.core.recovery import LOOK_SECONDS, Looks
from jobqueue.core.serial import Serial
from jobqueue.core.steps import Exchange, Jitter, Moment, Now, Refused, Room, Running, Steps
from jobqueue.core.takeover import Takeover
from jobqueue.errors import ConnectionLost
from jobqueue.protocol.commands import ErrorReply, Unavailable
from jobqueue.protocol.keys import Keys, attempts
from jobqueue.protocol.leases import ADOPT
from jobqueue.threads.link import Link
from jobqueue.wire.pools import pool_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

KEYS = Keys.of("q", "mine")
THEIRS = b"q:in-process:theirs"
L = C = 8.0
G = 60.0


class Server:
    """A server's takeover, whose commands go to a real Redis."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.lease = Lease(KEYS, b"token", seconds=L, block_seconds=2.0)
        self.takeover = Takeover(KEYS, self.lease, G)
        self.looks = Looks(2.0)
        self.now = 100.0
        self.stopping = False
        self.refuses: dict[bytes, ErrorReply] = {}
        self.loses: set[bytes] = set()  # the scripts whose next reply is lost
        self.sent: list[bytes] = []

    def take(self, steps: Steps[Any], until: bytes | None = None) -> Any:
        """Take the steps, and return what they return; or None after this command."""
        value: Any = None
        lost = False
        try:
            while until not in self.sent:
                step = steps.throw(ConnectionLost("lost")) if lost else steps.send(value)
                value, lost = None, False
                match step:
                    case Exchange(commands):
                        self.sent += [each[0] for each in commands]
                        self._link.send(commands)
                        replies = self._link.receive(len(commands))
                        pairs = zip(commands, replies, strict=True)
                        value = [self.refuses.get(each[0], reply) for each, reply in pairs]
                        if lost := any(self.loses.intersection(each) for each in commands):
                            self.loses.clear()
                    case Now():
                        value = Moment(self.now, self.stopping)
                    case Jitter():
                        value = 0.0
                    case Room(limit):
                        value = limit
                    case Running():
                        value = []
        except StopIteration as end:
            return end.value

    def later(self, redis: Redis, seconds: float) -> None:
        """Let time pass, in which the lease is renewed and no other server scans."""
        redis.delete("q:scanned")
        self.now += seconds
        self.take(self.lease.acquire(0))

    def look_after(self) -> Any:
        """Do what is due next."""
        return self.take(self.takeover.look_after(0, self.looks))

    def work(self) -> list[bytes]:
        """Do all that is due, with a handler that is always free."""
        adopted = []
        while self.takeover.due(self.now):
            if (message := self.look_after()) is not None:
                adopted.append(message)
        return adopted


class Plant(Protocol):
    """Plants a registration, and entries on its list."""

    def __call__(self, key: bytes, age: float | bytes, *entries: bytes, sign: int = 1) -> None:
        """Plant.

        Args:
            key: The key of the list.
            age: How long ago it was marked, in seconds, or the whole value.
            *entries: The oldest first.
            sign: -1 where it was found empty.
        """


@pytest.fixture
def link(redis_url: str, redis: Redis) -> Iterator[Link]:  # noqa: ARG001 - emptied first
    """A connection."""
    link = Link(pool_of(redis_url))
    yield link
    link.close()


@pytest.fixture
def server(link: Link) -> Server:
    """A server that has its lease."""
    server = Server(link)
    assert server.take(server.takeover.begin(0))
    server.sent.clear()
    return server


@pytest.fixture
def plant(redis: Redis) -> Plant:
    """Plants registrations."""

    def plant(key: bytes, age: float | bytes, *entries: bytes, sign: int = 1) -> None:
        value = age if isinstance(age, bytes) else b"%d" % (sign * (clock_ms(redis) - age * 1000))
        redis.hset("q:processors", key, value)
        for entry in entries:
            redis.lpush(key, entry)

    return plant


def clock_ms(redis: Redis) -> int:
    """Redis's time."""
    seconds, microseconds = redis.time()
    return int(seconds * 1000 + microseconds // 1000)


def value_of(redis: Redis, key: bytes = THEIRS) -> Any:
    """The value of a registration."""
    value: Any = redis.hget("q:processors", key)
    return value


def test_a_lapsed_list_is_emptied_oldest_first(server: Server, plant: Plant, redis: Redis) -> None:
    """server.takeover.adopts, server.takeover.first: straight to the own list, then found empty."""
    plant(THEIRS, C + 1, b"old", b"new")

    assert server.work() == [b"old", b"new"]

    assert redis.lrange(KEYS.in_process.decode(), 0, -1) == [b"new", b"old"]
    assert not redis.exists(THEIRS.decode())
    assert int(value_of(redis)) == pytest.approx(-clock_ms(redis), abs=5_000)


@pytest.mark.parametrize("value", [b"0", b"-0", b"nan", b"abc", b"", b"0x10", b"1e3", b"9" * 40])
def test_a_list_is_marked_before_it_is_emptied(
    server: Server, plant: Plant, redis: Redis, value: bytes
) -> None:
    """server.takeover.marked: whatever its value is, unless that is a time in the past."""
    plant(THEIRS, value, b"job")

    assert server.work() == []

    marked = int(value_of(redis))
    assert marked == pytest.approx(clock_ms(redis), abs=5_000)
    plant(THEIRS, C + 1)
    server.later(redis, C + 1)
    assert server.work() == [b"job"]


@pytest.mark.parametrize("age", [-3600.0, C - 2])
def test_a_mark_has_to_be_old_enough(
    server: Server, plant: Plant, redis: Redis, age: float
) -> None:
    """server.takeover.marked: a mark of the future is renewed, one younger than C is left."""
    plant(THEIRS, age, b"job")

    assert server.work() == []
    assert int(value_of(redis)) <= clock_ms(redis)
    assert redis.llen(THEIRS.decode()) == 1


def test_a_living_server_keeps_its_entries(server: Server, plant: Plant, redis: Redis) -> None:
    """server.takeover.only-lapsed: a lease without a time to live, too; a scan comes when one ends."""
    plant(THEIRS, b"0", b"job")
    plant(b"q:in-process:other", C + 1, b"job")
    redis.set("q:lease:q:in-process:theirs", "x", px=3_000)
    redis.set("q:lease:q:in-process:other", "x")

    assert server.work() == []

    assert (value_of(redis), redis.llen(THEIRS.decode())) == (b"0", 1)
    assert 2.5 < server.takeover.wait_seconds(server.now) < 3.1
    assert redis.pttl("q:scanned") <= 3_001


@pytest.mark.parametrize("whose", ["theirs", "own"])
def test_an_adoption_is_fenced(server: Server, plant: Plant, redis: Redis, whose: str) -> None:
    """server.takeover.only-lapsed: in the same step the owner has no lease, and the adopter has one."""
    plant(THEIRS, C + 1, b"job")
    server.take(server.takeover._scan(server.lease, server.now))
    if whose == "theirs":
        redis.set("q:lease:q:in-process:theirs", "x")
    else:
        redis.delete("q:lease:q:in-process:mine")

    assert server.work() == []
    assert redis.llen(THEIRS.decode()) == 1


@pytest.mark.parametrize("age", [1.0, G + 1, 86_400.0])
def test_what_arrives_late_is_adopted(server: Server, plant: Plant, age: float) -> None:
    """server.takeover.late: however long ago the list was found empty."""
    plant(THEIRS, age, b"late", sign=-1)

    assert server.work() == [b"late"]


def test_an_empty_list_is_forgotten_in_the_end(server: Server, plant: Plant, redis: Redis) -> None:
    """server.takeover.prunes: G after it was found empty, not after it was marked."""
    plant(THEIRS, G + 1, sign=-1)
    plant(b"q:in-process:young", G - 5, sign=-1)
    plant(b"q:in-process:marked", G + 1)
    plant(b"q:in-process:future", -3600.0, sign=-1)

    assert server.work() == []

    left: Any = redis.hgetall("q:processors")
    names = {b"q:in-process:%b" % each for each in (b"mine", b"young", b"marked", b"future")}
    assert set(left) == names
    assert -int(left[b"q:in-process:marked"]) == pytest.approx(clock_ms(redis), abs=5_000)
    assert 0 < int(left[b"q:in-process:future"]) <= clock_ms(redis)
    assert 4.0 < server.takeover.wait_seconds(server.now) < 5.1


def test_foreign_registrations_are_ignored(server: Server, plant: Plant) -> None:
    """server.takeover.ignores: the queue, the dead list, the own list, and other keys; not theirs."""
    for key in (b"q", b"q:dead", KEYS.in_process, b"other:list", b"qx:y", b""):
        plant(key, C + 1, b"entry")
    plant(THEIRS, C + 1, b"job")

    assert server.work() == [b"job"]


def test_a_list_that_redis_refuses_is_skipped(
    server: Server, plant: Plant, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """server.takeover.ignores: it is logged once, and the others are adopted from."""
    redis.set("q:in-process:string", "no list")
    redis.set("q:in-process:empty", "no list")
    plant(b"q:in-process:string", C + 1)
    plant(b"q:in-process:empty", 1.0, sign=-1)
    plant(THEIRS, C + 1, b"job")

    assert server.work() == [b"job"]
    server.later(redis, L + 1)
    assert server.work() == []
    assert caplog.text.count("can't adopt from q:in-process:string") == 1


def test_a_scan_reads_every_page(server: Server, plant: Plant, redis: Redis) -> None:
    """server.takeover.scans: however many registrations there are."""
    names = [f"q:in-process:{number}" for number in range(1_200)]
    redis.hset("q:processors", mapping=dict.fromkeys(names, "0"))
    redis.mset({f"q:lease:{name}": "x" for name in names})
    plant(THEIRS, C + 1, b"job")

    assert server.work() == [b"job"]
    assert server.takeover.wait_seconds(server.now) == pytest.approx(L, abs=0.3)


def test_one_of_many_servers_scans(server: Server, link: Link, plant: Plant, redis: Redis) -> None:
    """server.takeover.scans: the first scan of a life is its own; later ones are shared."""
    server.work()
    other = Server(link)
    assert other.take(other.takeover.begin(0)), "expected the lease, which has the same token"
    other.work()
    assert b"HSCAN" in other.sent

    plant(THEIRS, C + 1, b"job")
    other.now += 9.0
    redis.set("q:scanned", "another's", px=1_500)
    other.sent.clear()
    assert other.look_after() is None
    assert b"HSCAN" not in other.sent
    assert 1.0 < other.takeover.wait_seconds(other.now) <= 1.5


@pytest.mark.parametrize("lasts_ms", [None, 3_600_000])
def test_a_turn_that_lasts_too_long_is_no_reason_to_wait(
    server: Server, plant: Plant, redis: Redis, lasts_ms: int | None
) -> None:
    """server.takeover.scans: anybody may have written the key."""
    server.work()
    plant(THEIRS, C + 1, b"job")
    server.later(redis, L + 1)
    redis.set("q:scanned", "for ever", px=lasts_ms)

    assert server.work() == [b"job"]


def test_after_a_stop_nothing_is_adopted(server: Server, plant: Plant, redis: Redis) -> None:
    """server.takeover.stops: nor where the stop comes behind the scan."""
    plant(THEIRS, C + 1, b"job")
    server.stopping = True

    assert server.look_after() is None
    assert redis.llen(THEIRS.decode()) == 1


@pytest.mark.parametrize("concurrency", [1, 2])
def test_what_a_lost_adoption_moved_is_counted(
    server: Server, plant: Plant, redis: Redis, concurrency: int
) -> None:
    """server.attempts.counts: the next look finds it, which the first look of this life didn't."""
    plant(THEIRS, C + 1, b"job")
    server.loses.add(ADOPT)
    limits: dict[str, Any] = {"prefetch": 1, "block_seconds": 2.0, "attempts": 3}
    limits["takeover"] = server.takeover
    if concurrency == 1:
        session = run_with_reconnect(Serial(KEYS, **limits).session, server.lease)
    else:
        session = Parallel(KEYS, concurrency=concurrency, **limits).claiming()

    server.take(session, until=b"INCR")

    assert not server.loses
    assert redis.get(attempts(b"q", b"job").decode()) == b"1"


def test_nothing_is_adopted_without_a_renewal_in_time(server: Server, plant: Plant) -> None:
    """server.takeover.within-lease: an adoption is a claim."""
    plant(THEIRS, C + 1, b"job")
    server.now += L - 1.0

    with pytest.raises(Lapsed):
        server.look_after()


def test_at_the_memory_limit_adopting_waits(server: Server, plant: Plant, redis: Redis) -> None:
    """What is refused there is no lost connection; it is tried again."""
    plant(THEIRS, C + 1, b"job")
    server.take(server.takeover._scan(server.lease, server.now))
    redis.config_set("maxmemory", 1)
    assert server.work() == []
    server.now += L
    assert server.work() == []

    redis.config_set("maxmemory", 0)
    server.later(redis, L)
    assert server.work() == [b"job"]


@pytest.mark.parametrize("code", ["READONLY", "LOADING", "MASTERDOWN"])
def test_a_redis_that_cant_serve_now_is_a_lost_connection(
    server: Server, plant: Plant, code: str
) -> None:
    """server.connection.refused: also in the words of Redis 6.2 for what a script meets."""
    plant(THEIRS, C + 1, b"job")
    server.take(server.takeover._scan(server.lease, server.now))
    text = f"ERR Error running script (call to f_1): @user_script:5: 5: -{code} You can't"
    server.refuses = {b"EVAL": ErrorReply("ERR", text)}

    with pytest.raises(Unavailable):
        server.look_after()


def test_a_missing_permission_to_scan_is_named_at_the_start(
    link: Link, server: Server, redis: Redis
) -> None:
    """Status 4: later it is a lost connection."""
    refused = ErrorReply("NOPERM", "NOPERM this user has no permissions to run the 'hscan' command")
    fresh = Server(link)
    fresh.take(fresh.takeover.begin(0))
    server.work()
    for each in (fresh, server):
        each.refuses = {b"HSCAN": refused}
    with pytest.raises(Refused, match="hscan"):
        fresh.look_after()
    server.later(redis, L + 1)
    with pytest.raises(Unavailable) as raised:
        server.work()
    assert not isinstance(raised.value, Refused)


def test_without_the_feature_nothing_is_sent(link: Link) -> None:
    """`takeover=False`: everything is allowed, at once, and the looks are those of version 1.0."""
    off, server = Takeover(KEYS), Server(link)

    assert server.take(off.begin(0))
    off.check(0, moment := Moment(0.0, stopping=False))
    server.take(off.check_now(0))
    server.take(off.before_claim(0, moment))
    server.take(off.end(server.looks))
    assert server.take(off.look_after(0, server.looks)) is None
    off.check_connection(7)

    assert (off.on, off.due(1e9), off.claimable(0, 0.0)) == (False, False, True)
    assert (off.look_seconds, off.wait_seconds(0.0)) == (LOOK_SECONDS, float("inf"))
    assert server.sent == []


def test_the_own_list_is_looked_at_every_l() -> None:
    """server.takeover.own-list: and at least every 5 seconds."""
    short = Lease(KEYS, b"token", seconds=1.5, block_seconds=0.5)

    assert Takeover(KEYS, short, G).look_seconds == 1.5
    assert (
        Takeover(KEYS, Lease(KEYS, b"token", seconds=L, block_seconds=2.0), G).look_seconds == 5.0
    )
