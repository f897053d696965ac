"""The scripts of takeover do in memory what they do in a real Redis, from whatever state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobqueue.protocol import leases
from jobqueue.protocol.commands import ErrorReply
from simulation.scripts import evaluate
from simulation.store import Store

from tests.simulation.test_store import LATE_MS, real, reply_of

if TYPE_CHECKING:
    from jobqueue.protocol.commands import Command
    from redis import Redis

__all__ = ["real"]  # a fixture

PROCESSORS, OWN_LEASE, LEASE = b"q:processors", b"q:lease:own", b"q:lease:theirs"
OWN, THEIRS = b"q:in-process:own", b"q:in-process:theirs"
KEYS = [PROCESSORS, OWN_LEASE, LEASE, OWN, THEIRS]
C_MS, G_MS = 100_000, 300_000  # far from each other and from the ages, on a machine that is busy


class Ago(NamedTuple):
    """A time in a registry's value, as an age."""

    sign: int
    ms: int


VALUES = st.one_of(
    st.sampled_from([b"0", b"-0", b"007", b"", b"nan", b"0x10", b"1e3", b" 1", b"9" * 40, b"1.5"]),
    st.builds(Ago, st.sampled_from([1, -1]), st.sampled_from([-50_000, 50_000, 200_000, 400_000])),
)
TOKENS = st.sampled_from([b"mine", b"another's"])


def script(text: bytes, keys: list[bytes], *arguments: bytes) -> Command:
    """An EVAL."""
    return (b"EVAL", text, b"%d" % len(keys), *keys, *arguments)


ADOPT = script(leases.ADOPT, KEYS, b"mine", b"%d" % C_MS, b"%d" % G_MS)
COMMANDS = st.one_of(
    st.just(ADOPT),
    st.just(ADOPT),
    st.just(script(leases.RENEW, [OWN_LEASE], b"mine", b"90000")),
    st.just(script(leases.RELEASE, [OWN_LEASE], b"mine")),
    st.just(script(leases.UNREGISTER, [OWN_LEASE, PROCESSORS, THEIRS], b"mine")),
    st.just(script(leases.INHERIT, [OWN_LEASE], b"another's", b"mine", b"80000")),
    st.tuples(st.just(b"SET"), st.sampled_from([OWN_LEASE, LEASE]), TOKENS),
    st.tuples(st.just(b"DEL"), st.sampled_from([OWN_LEASE, LEASE, LEASE, OWN, THEIRS])),
    st.tuples(st.just(b"LPUSH"), st.sampled_from([OWN, THEIRS, LEASE, PROCESSORS]), TOKENS),
    st.tuples(st.just(b"LREM"), st.sampled_from([OWN, THEIRS]), st.just(b"1"), TOKENS),
    st.tuples(st.just(b"HSET"), st.sampled_from([PROCESSORS, THEIRS]), st.just(THEIRS), VALUES),
    st.tuples(st.just(b"HDEL"), st.just(PROCESSORS), st.just(THEIRS)),
)
# What a failed example leaves out first: most states in which an adoption does something.
BEGIN: list[Command] = [(b"SET", OWN_LEASE, b"mine"), (b"LPUSH", THEIRS, b"one", b"two")]


def like(ours: Any, theirs: Any) -> bool:
    """Whether two replies mean the same: times pass, and only Redis tells the line of an error."""
    if isinstance(ours, ErrorReply) and isinstance(theirs, ErrorReply):
        return theirs.text.startswith(ours.text.removeprefix("ERR "))
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(like, ours, theirs))
    if isinstance(ours, bytes) and isinstance(theirs, bytes) and number(ours) and number(theirs):
        return abs(int(ours) - int(theirs)) < LATE_MS
    if isinstance(ours, int) and isinstance(theirs, int):
        return abs(ours - theirs) < LATE_MS
    return bool(ours == theirs)


def number(value: bytes) -> bool:
    """Whether it looks like a time."""
    return value.lstrip(b"-").isdigit() and len(value) < 20


def state(execute: Any) -> list[Any]:
    """All that the scripts may have changed."""
    reads: list[Command] = [(b"LRANGE", key, b"0", b"-1") for key in (OWN, THEIRS)]
    reads += [(b"GET", key) for key in (OWN_LEASE, LEASE)]
    reads += [(b"PTTL", key) for key in (OWN_LEASE, LEASE)]
    replies = [execute(each) for each in reads]
    return [*replies, execute((b"HSCAN", PROCESSORS, b"0"))]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(COMMANDS, min_size=1, max_size=12))
def test_a_script_does_what_it_does_in_a_real_redis(real: Redis, commands: list[Any]) -> None:
    """Each reply of each script, and what it leaves, are those of a real Redis."""
    real.flushall()
    seconds, microseconds = reply_of(real, (b"TIME",))
    now_ms = int(seconds) * 1000 + int(microseconds) // 1000
    store = Store()

    def ours(command: Command) -> Any:
        if command[0] == b"EVAL":
            return evaluate(command, lambda each: store.execute(each, now_ms))
        return store.execute(command, now_ms)

    for drawn in [*BEGIN, *commands]:
        command = tuple(
            b"%d" % (each.sign * (now_ms - each.ms)) if isinstance(each, Ago) else each
            for each in drawn
        )
        reply, theirs = ours(command), reply_of(real, command)
        assert like(reply, theirs), f"{command}: {reply} for {theirs}"
        left, right = state(ours), state(lambda each: reply_of(real, each))
        assert like(left, right), f"after {command}: {left} for {right}"


def test_a_script_ends_when_a_command_is_refused() -> None:
    """What it has called before stays done, and what comes after isn't called."""
    called = []

    def call(command: Command) -> Any:
        called.append(command[0])
        return ErrorReply("OOM", "OOM no") if command[0] == b"SET" else b"former"

    reply = evaluate(script(leases.INHERIT, [OWN_LEASE], b"former", b"mine", b"1"), call)

    assert called == [b"GET", b"SET"]
    assert reply.code == "OOM"
    assert leases.code(reply) == "OOM"
