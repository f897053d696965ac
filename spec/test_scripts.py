"""Executes the scripts of `protocol.md`, each from every state that it tells apart."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis as redis_py
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.redis_servers.choice import choose, open_server
from test_examples import BLOCK, PROTOCOL

SCRIPTS = {match[2]: match[3] for match in BLOCK.finditer(PROTOCOL) if match[1] == "lua"}
REGISTRY, OWN, THEIRS = "q:processors", "q:in-process:own", "q:in-process:theirs"
OWN_LEASE, THEIR_LEASE = f"q:lease:{OWN}", f"q:lease:{THEIRS}"
C_MS, G_MS = 8_000, 3_600_000
KEPT = object()  # the registration is what it was


@pytest.fixture(scope="module", params=["embedded", *filter(shutil.which, ["redis-server"])])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A real server: the one that every machine has, and the machine's own."""
    server = open_server(choose(request.param, "", print), "")
    yield server
    server.close()


@pytest.fixture
def redis(server: RedisServer) -> Iterator[redis_py.Redis]:
    """A client of a server with nothing in it."""
    server.empty("q")
    with server.connect() as client:
        yield client


@dataclass(frozen=True)
class Adoption:
    """A state, and what `adopt` makes of it; values of a registration are milliseconds before now."""

    registered: str | int | None
    entries: tuple[str, ...] = ("old", "new")
    own: str | None = "me"
    their_lease: bool = False
    moves: bool = False
    after: object = KEPT


ADOPTIONS = {
    "alive": Adoption(0, their_lease=True),
    "alive again": Adoption(C_MS, their_lease=True),
    "own lease gone": Adoption(C_MS, own=None),
    "own lease lost": Adoption(C_MS, own="another"),
    "not registered": Adoption(None, after=None),
    "not marked": Adoption("0", after="now"),
    "nan": Adoption("nan", after="now"),
    "empty": Adoption("", after="now"),
    "hexadecimal": Adoption("0x10", after="now"),
    "exponent": Adoption("1e3", after="now"),
    "40 digits": Adoption("9" * 40, after="now"),
    "-40 digits": Adoption("-" + "9" * 40, after="now"),
    "in the future": Adoption(-60_000, after="now"),
    "marked a moment ago": Adoption(C_MS - 2_000),
    "marked C ago": Adoption(C_MS, moves=True),
    "marked C ago, the last entry": Adoption(C_MS, ("old",), moves=True, after="-now"),
    "marked C ago, no entry": Adoption(C_MS, (), after="-now"),
    "emptied a moment ago": Adoption("-2000", ()),
    "emptied, with an entry": Adoption("-2000", ("late",), moves=True),
    "emptied, with entries": Adoption("-2000", moves=True),
    "emptied long ago, with an entry": Adoption(f"-{2 * G_MS}", ("late",), moves=True),
    "emptied nearly G ago": Adoption(f"-{G_MS - 2_000}", ()),
    "emptied G ago": Adoption(f"-{G_MS}", (), after=None),
}


@pytest.mark.parametrize("state", ADOPTIONS.values(), ids=ADOPTIONS)
def test_adopt(redis: redis_py.Redis, state: Adoption) -> None:
    """It moves the oldest entry, marks, or prunes, and never more than one of these."""
    before = registered(redis, state.registered)
    if before is not None:
        redis.hset(REGISTRY, THEIRS, before)
    for entry in state.entries:
        redis.lpush(THEIRS, entry)
    if state.own is not None:
        redis.set(OWN_LEASE, state.own)
    if state.their_lease:
        redis.set(THEIR_LEASE, "them")

    keys = (REGISTRY, OWN_LEASE, THEIR_LEASE, OWN, THEIRS)
    moved = redis.eval(SCRIPTS["adopt"], 5, *keys, "me", C_MS, G_MS)
    value = redis.hget(REGISTRY, THEIRS)

    oldest = state.entries[0].encode() if state.moves else None
    assert moved == oldest, "the oldest, or none"
    assert redis.lrange(OWN, 0, -1) == ([oldest] if oldest else []), "it is on the own list"
    left = [each.encode() for each in reversed(state.entries[1 if state.moves else 0 :])]
    assert redis.lrange(THEIRS, 0, -1) == left, "the others are where they were"
    if state.after in {"now", "-now"}:
        assert value is not None
        sign = -1 if state.after == "-now" else 1
        assert 0 <= now_ms(redis) - sign * int(value) < 60_000, "it is the time of Redis"
    else:
        expected = before if state.after is KEPT else None
        assert value == (None if expected is None else str(expected).encode()), "the registration"


@pytest.mark.parametrize("holder", ["me", "another", None])
def test_renew(redis: redis_py.Redis, holder: str | None) -> None:
    """It extends one's own lease, and no other."""
    if holder is not None:
        redis.set(OWN_LEASE, holder, px=1_000)

    renewed = redis.eval(SCRIPTS["renew"], 1, OWN_LEASE, "me", 8_000)

    assert renewed == (1 if holder == "me" else 0)
    assert (redis.pttl(OWN_LEASE) > 1_000) == (holder == "me"), "only then it lives longer"
    assert redis.get(OWN_LEASE) == (holder.encode() if holder else None), "the token stays"


@pytest.mark.parametrize("holder", ["me", "another", None])
def test_release(redis: redis_py.Redis, holder: str | None) -> None:
    """It deletes one's own lease, and no other."""
    if holder is not None:
        redis.set(OWN_LEASE, holder)

    released = redis.eval(SCRIPTS["release"], 1, OWN_LEASE, "me")

    assert released == (1 if holder == "me" else 0)
    assert redis.get(OWN_LEASE) == (b"another" if holder == "another" else None)


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("holder", ["me", "another", None])
def test_unregister(redis: redis_py.Redis, holder: str | None, left: int) -> None:
    """It removes the registration of an empty list, while the lease is one's own; and nothing else."""
    for each in (OWN, THEIRS):
        redis.hset(REGISTRY, each, 0)
    for number in range(left):
        redis.lpush(OWN, number)
    if holder is not None:
        redis.set(OWN_LEASE, holder)

    removed = redis.eval(SCRIPTS["unregister"], 3, OWN_LEASE, REGISTRY, OWN, "me")

    removes = holder == "me" and not left
    assert removed == int(removes)
    assert set(redis.hkeys(REGISTRY)) == {THEIRS.encode(), *([] if removes else [OWN.encode()])}
    assert redis.get(OWN_LEASE) == (holder.encode() if holder else None), "release deletes it"
    assert redis.llen(OWN) == left


@pytest.mark.parametrize("holder", ["dead", "another", None])
def test_inherit(redis: redis_py.Redis, holder: str | None) -> None:
    """It replaces the lease of the life that is over, and no other."""
    if holder is not None:
        redis.set(OWN_LEASE, holder, px=1_000)

    inherited = redis.eval(SCRIPTS["inherit"], 1, OWN_LEASE, "dead", "me", 8_000)

    assert inherited == (b"OK" if holder == "dead" else None)
    assert redis.get(OWN_LEASE) == {"dead": b"me", "another": b"another", None: None}[holder]
    assert (redis.pttl(OWN_LEASE) > 1_000) == (holder == "dead"), "and it lives for L"


def test_at_maxmemory_nothing_is_half_done(redis: redis_py.Redis) -> None:
    """Where Redis has no memory left, it renews, and refuses to adopt as a whole."""
    redis.hset(REGISTRY, THEIRS, now_ms(redis) - C_MS)
    redis.lpush(THEIRS, "old")
    redis.set(OWN_LEASE, "me", px=8_000)
    redis.config_set("maxmemory", 1)
    keys = (REGISTRY, OWN_LEASE, THEIR_LEASE, OWN, THEIRS)

    renewed = redis.eval(SCRIPTS["renew"], 1, OWN_LEASE, "me", 8_000)
    with pytest.raises(redis_py.OutOfMemoryError):
        redis.eval(SCRIPTS["adopt"], 5, *keys, "me", C_MS, G_MS)
    redis.config_set("maxmemory", 0)

    assert renewed == 1
    assert redis.lrange(THEIRS, 0, -1) == [b"old"], "it is where it was"


def registered(redis: redis_py.Redis, value: str | int | None) -> str | int | None:
    """What a registration says that is so many milliseconds old, below zero for a list that was emptied then."""
    if isinstance(value, int):
        return 0 if value == 0 else now_ms(redis) - value
    if value is not None and value.startswith("-") and len(value) < 12:
        return -(now_ms(redis) + int(value))
    return value


def now_ms(redis: redis_py.Redis) -> int:
    """The time of Redis."""
    seconds, micros = redis.time()
    return int(seconds) * 1000 + int(micros) // 1000
