"""The Redis in memory answers as a real one does, command by command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobqueue.protocol.commands import ErrorReply
from redis import Redis
from redis.exceptions import ResponseError
from simulation.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import RedisProcess

# No time passes between the commands of an example, so times to live are longer than it takes.
KEYS = st.sampled_from([b"q", b"q:dead", b"q:in-process:a", b"q:result:a", b"q:processors"])
VALUES = st.sampled_from([b"", b"one", b"two", b"7", b"-3", b"\xff\r\n", b"x" * 100])
NUMBERS = st.sampled_from([b"-3", b"-2", b"-1", b"0", b"1", b"2", b"5"])
SIDES = st.sampled_from([b"LEFT", b"RIGHT"])
FIELDS = st.sampled_from([b"", b"one", b"two"])

COMMANDS = st.one_of(
    st.tuples(st.just(b"LPUSH"), KEYS, VALUES),
    st.tuples(st.just(b"LPUSH"), KEYS, VALUES, VALUES),
    st.tuples(st.just(b"LMOVE"), KEYS, KEYS, SIDES, SIDES),
    st.tuples(st.just(b"LREM"), KEYS, NUMBERS, VALUES),
    st.tuples(st.just(b"LRANGE"), KEYS, NUMBERS, NUMBERS),
    st.tuples(st.just(b"LLEN"), KEYS),
    st.tuples(st.just(b"SET"), KEYS, VALUES),
    st.tuples(st.just(b"SET"), KEYS, VALUES, st.just(b"NX"), st.just(b"PX"), st.just(b"90000")),
    st.tuples(st.just(b"SET"), KEYS, VALUES, st.just(b"PX"), st.just(b"90000")),
    st.tuples(st.just(b"SET"), KEYS, VALUES, st.just(b"NX")),
    st.tuples(st.just(b"GET"), KEYS),
    st.tuples(st.just(b"DEL"), KEYS),
    st.tuples(st.just(b"DEL"), KEYS, KEYS),
    st.tuples(st.just(b"EXISTS"), KEYS),
    st.tuples(st.just(b"PTTL"), KEYS),
    st.tuples(st.just(b"PEXPIRE"), KEYS, st.sampled_from([b"-1", b"0", b"80000"])),
    st.tuples(st.just(b"EXPIRE"), KEYS, st.sampled_from([b"0", b"259200"])),
    st.tuples(st.just(b"INCR"), KEYS),
    st.tuples(st.just(b"HSET"), KEYS, FIELDS, VALUES),
    st.tuples(st.just(b"HGET"), KEYS, FIELDS),
    st.tuples(st.just(b"HDEL"), KEYS, FIELDS),
    st.tuples(st.just(b"HSCAN"), KEYS, st.just(b"0")),
)
LATE_MS = 10_000  # by which a time to live may differ, on a machine that is busy


@pytest.fixture(scope="module")
def real(redis_process: RedisProcess) -> Iterator[Redis]:
    """A real Redis, whose replies aren't turned into values of Python."""
    with Redis(port=redis_process.port, protocol=2) as client:
        client.response_callbacks.clear()
        yield client


def reply_of(real: Redis, command: tuple[bytes, ...]) -> Any:
    """The reply of a real Redis."""
    try:
        return real.execute_command(*command)  # type: ignore[no-untyped-call]
    except ResponseError as error:
        return ErrorReply(str(error).split()[0], str(error))


def same(command: tuple[bytes, ...], ours: Any, theirs: Any) -> bool:
    """Whether two replies mean the same: remaining times pass, and fields have no order."""
    if isinstance(ours, ErrorReply) and isinstance(theirs, ErrorReply):
        return ours.text.removeprefix("ERR ") == theirs.text  # redis-py removes this word
    if command[0] == b"PTTL" and ours > 0:
        return bool(abs(ours - theirs) < LATE_MS)
    if command[0] == b"HSCAN" and isinstance(ours, list) and isinstance(theirs, list):
        return sorted(pairs(ours[1])) == sorted(pairs(theirs[1]))
    return bool(ours == theirs)


def pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Fields and values, as pairs."""
    return list(zip(flat[::2], flat[1::2], strict=True))


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(COMMANDS, max_size=30))
def test_it_answers_as_a_real_redis(real: Redis, commands: list[tuple[bytes, ...]]) -> None:
    """Whatever is executed in whatever order, each reply is the real one, errors included."""
    real.flushall()
    store = Store()

    for number, command in enumerate(commands):
        ours, theirs = store.execute(command, 1_000_000), reply_of(real, command)

        assert same(command, ours, theirs), f"command {number}, {command}: {ours} for {theirs}"


def test_what_has_a_time_to_live_ends_by_the_time_that_it_is_told() -> None:
    """A lease is there until its last millisecond."""
    store = Store()
    store.execute((b"SET", b"lease", b"token", b"PX", b"500"), 1_000)

    assert store.execute((b"GET", b"lease"), 1_499) == b"token"
    assert store.execute((b"GET", b"lease"), 1_500) is None


def test_a_copy_stays_as_it_is() -> None:
    """What happens to the data afterwards doesn't change a copy, nor the other way round."""
    store = Store()
    store.execute((b"LPUSH", b"q", b"one"), 0)
    copy = store.copy()
    store.execute((b"LPUSH", b"q", b"two"), 0)
    copy.execute((b"LPUSH", b"q", b"three"), 0)

    assert store.entries(b"q") == [b"two", b"one"]
    assert copy.entries(b"q") == [b"three", b"one"]
