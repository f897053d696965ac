"""Which entries are counted before they start, and when: the decisions, taken by hand."""

from __future__ import annotations

from typing import Any

import pytest
from jobqueue.core.attempts import Attempts, Suspect
from jobqueue.core.parallel import Parallel
from jobqueue.core.steps import Exchange, Moment, Now, Room, Running, Start, Steps
from jobqueue.protocol import keys, messages
from jobqueue.protocol.commands import ErrorReply
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Answer, Spent

KEYS = Keys.of("q", "p")
WRONGTYPE = ErrorReply("WRONGTYPE", "WRONGTYPE Operation against a key")
OOM = ErrorReply("OOM", "OOM command not allowed")


class Counts:
    """A Redis that counts attempts."""

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}
        self.sent: list[bytes] = []
        self.refusal: ErrorReply | None = None
        self.lost = 0  # the number of replies to INCR that get lost

    def take(self, steps: Steps[Any]) -> Any:
        """Take the steps, and return what they return; None where a reply is lost."""
        value: Any = None
        try:
            while True:
                step = steps.send(value)
                assert isinstance(step, Exchange)
                value = [self._execute(*command) for command in step.commands]
                if step.commands[0][0] == b"INCR" and self.lost:
                    self.lost -= 1
                    steps.close()
                    return None
        except StopIteration as end:
            return end.value

    def _execute(self, name: bytes, key: bytes, *arguments: bytes) -> Any:
        self.sent.append(name)
        if name == b"EXPIRE":
            assert arguments == (b"259200",)
            return 1
        if name == b"GET":
            return b"%d" % self.counts[key] if key in self.counts else None
        if self.refusal:
            return self.refusal
        self.counts[key] = self.counts.get(key, 0) + 1
        return self.counts[key]


def key(message: bytes) -> bytes:
    """The key that counts a message."""
    return keys.attempts(b"q", message)


def test_the_key_is_the_digest_that_scripts_can_make() -> None:
    """The key begins with the queue's name, and ends with the SHA-1 of the exact bytes."""
    assert key(b"job") == b"q:attempts:2eda8ad1632af052b0c74d6fcab6058b3a79cf25"


def test_only_what_the_first_look_finds_is_suspected() -> None:
    """server.attempts.counts: later looks find what a lost claim has moved, which nobody ran."""
    attempts = Attempts(KEYS, 3)

    first = attempts.found([b"a", b"b", b"a"])
    later = attempts.found([b"a", b"new", b"a", b"a"])

    assert first == [Suspect(b"a"), Suspect(b"b"), Suspect(b"a")]
    assert later == [Suspect(b"a"), b"new", Suspect(b"a"), b"a"]
    assert attempts.found([b"b"]) == [b"b"], "expected an entry that had gone to be new"


def test_an_empty_list_is_looked_at_once_too() -> None:
    """server.attempts.counts: after a first look that finds nothing, nothing is suspected."""
    attempts = Attempts(KEYS, 3)

    assert attempts.found([]) == []
    assert attempts.found([b"a"]) == [b"a"]


def test_what_a_lost_adoption_may_have_moved_is_suspected() -> None:
    """server.attempts.counts: but what this life has counted and not finished isn't counted again."""
    redis, attempts = Counts(), Attempts(KEYS, 3)
    (known,) = attempts.found([b"known"])
    assert isinstance(known, Suspect)
    redis.take(attempts.start(known))
    held = attempts.adopted(b"held")

    work = attempts.found([b"known", b"held", b"moved", b"moved"], adopted=True)

    assert work == [b"known", held, Suspect(b"moved"), Suspect(b"moved")]
    assert attempts.found([b"later"]) == [b"later"]


def test_without_a_limit_nothing_is_counted() -> None:
    """`attempts=0`: what is found is started as in version 1.0."""
    attempts = Attempts(KEYS, 0)

    assert attempts.found([b"a"]) == [b"a"]
    assert attempts.found([b"a"], adopted=True) == [b"a"]


@pytest.mark.parametrize(
    "before,expected",
    [
        (0, b"a"),
        (2, b"a"),
        (3, Spent(b"a", readable=True)),
        (4, Spent(b"a", readable=False)),
        (9, Spent(b"a", readable=False)),
    ],
)
def test_what_was_counted_too_often_is_given_up(before: int, expected: object) -> None:
    """server.attempts.limit, server.attempts.unread: with a limit of 3, the fourth start isn't one."""
    redis, attempts = Counts(), Attempts(KEYS, 3)
    redis.counts[key(b"a")] = before
    (suspect,) = attempts.found([b"a"])
    assert isinstance(suspect, Suspect)

    assert redis.take(attempts.start(suspect)) == expected
    assert redis.counts[key(b"a")] == before + 1
    assert redis.sent == [b"GET", b"INCR", b"EXPIRE"]


@pytest.mark.parametrize("refusal", [WRONGTYPE, OOM])
def test_what_cant_be_counted_is_run(refusal: ErrorReply) -> None:
    """server.attempts.refused: whatever Redis says, the entry is started."""
    redis, attempts = Counts(), Attempts(KEYS, 3)
    redis.refusal = refusal
    redis.counts[key(b"a")] = 10**30

    assert redis.take(attempts.start(Suspect(b"a"))) == b"a"


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_an_entry_is_counted_once_in_each_life(lost: int) -> None:
    """server.attempts.counts: a reply that got lost is looked up, not asked for by a second INCR."""
    redis, attempts = Counts(), Attempts(KEYS, 3)
    redis.lost = lost
    outcome = None
    while outcome is None:
        (suspect,) = attempts.found([b"a"])
        assert isinstance(suspect, Suspect)
        outcome = redis.take(attempts.start(suspect))

    assert (outcome, redis.counts[key(b"a")]) == (b"a", 1)
    assert attempts.found([b"a"]) == [b"a"], "expected a started entry to be no suspect any more"


def test_one_that_was_counted_before_runs_alone() -> None:
    """server.attempts.alone: it doesn't start beside another suspect, nor another one beside it."""
    redis, attempts = Counts(), Attempts(KEYS, 3)
    redis.counts[key(b"killer")] = 1
    attempts.found([b"a", b"killer", b"b"])

    def may_start(message: bytes, *running: bytes) -> Any:
        return redis.take(attempts.may_start(Suspect(message), running))

    assert redis.take(attempts.start(Suspect(b"a"), [b"claimed"])) == b"a"
    assert not may_start(b"killer", b"a", b"claimed")
    assert may_start(b"killer", b"claimed")
    assert redis.take(attempts.start(Suspect(b"killer"), [b"claimed"])) == b"killer"
    assert not may_start(b"b", b"killer")
    assert redis.counts == {key(b"a"): 1, key(b"killer"): 2}, "expected no count without a start"
    assert may_start(b"b")


def test_those_that_were_never_counted_run_together() -> None:
    """server.attempts.alone: without a count, several found ones run at once."""
    redis, attempts = Counts(), Attempts(KEYS, 3)
    attempts.found([b"a", b"b"])

    assert redis.take(attempts.start(Suspect(b"a"))) == b"a"
    assert redis.take(attempts.may_start(Suspect(b"b"), [b"a"]))


def test_several_handlers_wait_for_a_suspect_that_runs_alone() -> None:
    """server.attempts.alone, server.recovery.first: each is counted when it may start; then claims."""
    server = Parallel(KEYS, concurrency=3, prefetch=1, block_seconds=2.0, attempts=3)
    look = Exchange([(b"LRANGE", KEYS.in_process, b"0", b"-1")], 1)

    def get(message: bytes) -> Exchange:
        return Exchange([(b"GET", key(message))], 1)

    def count(message: bytes) -> Exchange:
        return Exchange([(b"INCR", key(message)), (b"EXPIRE", key(message), b"259200")], 2)

    session = server.claiming()
    next(session)  # connects
    script: list[tuple[Any, Any]] = [
        (Now(), Moment(0.0, stopping=False)),
        (Running(), []),
        (look, [[b"b", b"a"]]),
        *[(Room(3), 3), (Running(), []), (get(b"a"), [None])],
        *[(count(b"a"), [1, 1]), (Start([b"a"]), None)],
        *[(Room(3), 2), (Running(), [b"a"]), (get(b"b"), [b"1"]), (Room(1), 1)],
        *[(Running(), []), (get(b"b"), [b"1"]), (count(b"b"), [2, 1]), (Start([b"b"]), None)],
        *[(Room(3), 2), (Room(3), 2)],
    ]
    step = session.send(None)
    for expected, value in script:
        assert step == expected
        step = session.send(value)
    assert step == Now(), "expected the server to go on to its first claim"


def test_a_job_that_is_given_up_is_answered() -> None:
    """server.attempts.limit: its client learns why; the message goes to the dead list."""
    message = b'{"method": "m", "channel": "c", "id": "1"}'

    dead = messages.give_up(Spent(message, readable=True))

    assert isinstance(dead.answer, Answer)
    result = messages.decode_result(dead.answer.result)
    assert (dead.message, dead.answer.channel, result.id) == (message, b"c", "1")
    assert result.error is not None
    assert result.error.code == "too-many-attempts"


@pytest.mark.parametrize(
    "spent,prefixes",
    [
        (Spent(b"junk", readable=True), None),
        (Spent(b'{"channel": "c", "id": "1"}', readable=True), ("elsewhere",)),
        (Spent(b'{"channel": "c", "id": "1"}', readable=False), None),
    ],
)
def test_what_cant_be_answered_is_buried_in_silence(
    spent: Spent, prefixes: tuple[str, ...] | None
) -> None:
    """server.attempts.unread, server.dead.silent: nothing is published."""
    dead = messages.give_up(spent, prefixes)

    assert (dead.message, dead.answer) == (spent.message, None)


def test_the_bytes_of_work_are_what_is_on_the_list() -> None:
    """A message counts as running by its bytes, given up or not."""
    assert [messages.message_of(each) for each in (b"a", Spent(b"a", readable=True))] == [b"a"] * 2
