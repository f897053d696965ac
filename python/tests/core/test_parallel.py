"""The two sessions of a server that runs several jobs at once, taken step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jobqueue.core.lease import Lease
from jobqueue.core.parallel import BATCH, Parallel
from jobqueue.core.reconnect import Backoff, run_with_reconnect
from jobqueue.core.steps import (
    Confirmed,
    Connect,
    Exchange,
    Jitter,
    Moment,
    Now,
    Outcomes,
    Pause,
    Rest,
    Room,
    Running,
    Sleep,
    Start,
    Step,
    Steps,
    TimedExchange,
    Unreachable,
)
from jobqueue.core.takeover import Takeover
from jobqueue.errors import ConnectionLost
from jobqueue.protocol import keys
from jobqueue.protocol.commands import ErrorReply
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Answer, Dead

if TYPE_CHECKING:
    from jobqueue.core.recovery import Looks

KEYS = Keys.of("q", "p")
LOST = ConnectionLost("the connection is lost")
READONLY = ErrorReply("READONLY", "READONLY a replica")
LOOK = Exchange([(b"LRANGE", b"q:in-process:p", b"0", b"-1")], 1)
TRANSACT = Exchange([(b"MULTI",), (b"EXEC",)], 2)
DONE = [b"OK", b"QUEUED", b"QUEUED", [1, 1]]


def parallel() -> Parallel:
    """A server with three handlers whose T is 2 seconds."""
    return Parallel(Keys.of("q", "p"), concurrency=3, prefetch=1, block_seconds=2.0)


def follow(session: Steps[None], *script: tuple[Any, Any]) -> Step | None:
    """Expect these steps, and answer each; an exception is thrown in.

    The replies to a `TimedExchange` are sent with the time 0, which only a lease makes use of.

    Returns:
        The step behind the last, or None at the end.
    """
    step: Step | None = next(session)
    for expected, answer in script:
        assert (type(step), step) == (type(expected), expected)
        if isinstance(step, TimedExchange) and not isinstance(answer, Exception):
            answer = answer, Moment(0.0, stopping=False)  # noqa: PLW2901 - what is sent with it
        try:
            step = (session.throw if isinstance(answer, Exception) else session.send)(answer)
        except StopIteration:
            step = None
    return step


def at(seconds: float, *, stopping: bool = False) -> tuple[Any, Any]:
    """The clock is looked at."""
    return Now(), Moment(seconds, stopping)


def claim(room: int, block: bytes = b"2.000") -> TimedExchange:
    """A claim."""
    move = (b"q", b"q:in-process:p", b"RIGHT", b"LEFT")
    return TimedExchange([(b"BLMOVE", *move, block), *[(b"LMOVE", *move)] * (room - 1)], room)


def answer(message: bytes) -> Answer:
    """An outcome."""
    return Answer(message, b"c", "1", b"result of " + message)


def finish(*messages: bytes) -> Exchange:
    """What publishes and removes them in one write."""
    commands: list[Any] = [
        command
        for each in messages
        for command in (
            (b"MULTI",),
            (b"PUBLISH", b"c", b"result of " + each),
            (b"LREM", b"q:in-process:p", b"-1", each),
            (b"EXEC",),
        )
    ]
    return Exchange(commands, len(commands))


BEGIN: list[tuple[Any, Any]] = [(Connect(), None), at(0.0), (Running(), []), (LOOK, [[]])]


def test_claims_take_as_many_as_there_is_room_for() -> None:
    """server.recovery.first, server.stop.drains: look, claim, start; and wait for all at the end."""
    left = follow(
        parallel().claiming(),
        *BEGIN,
        *[(Room(3), 3), at(0.1), (claim(3), [b"1", b"2", None]), (Start([b"1", b"2"]), None)],
        *[(Room(3), 1), at(4.5), (claim(1, b"0.500"), [None]), (Start([]), None)],
        *[(Room(3), 1), at(5.0), (Running(), [b"1", b"2"]), (LOOK, [[b"2", b"1"]])],
        *[(Room(3), 1), at(5.1, stopping=True), (Room(1), 1)],
    )

    assert left is None


def test_what_nobody_runs_is_started_before_a_claim() -> None:
    """server.recovery.reconnect, server.recovery.order: the oldest first, and until all are started."""
    left = follow(
        parallel().claiming(),
        *[(Connect(), None), at(0.0), (Running(), [b"b"]), (LOOK, [[b"c", b"b", b"a"]])],
        *[(Room(3), 2), (Start([b"a"]), None), (Room(3), 1), (Start([b"c"]), None)],
        *[(Room(3), 1), (Room(3), 1), at(0.1)],
    )

    assert left == claim(1)


def test_a_stop_looks_for_what_a_lost_claim_has_moved() -> None:
    """server.stop.drains: T after the connection that replaced the claim's."""
    left = follow(
        parallel().claiming(),
        *[*BEGIN, (Room(3), 3), at(0.1), (claim(3), LOST), at(1.0), (Jitter(), 1.0)],
        *[(Pause(0.02), None), (Connect(), None), at(1.5), (Running(), []), (LOOK, [[]])],
        *[(Room(3), 3), at(2.5, stopping=True), (Sleep(1.0), None), at(3.5, stopping=True)],
        *[(Running(), []), (LOOK, [[b"late"]]), at(3.5, stopping=True), (Jitter(), 1.0)],
        *[(Sleep(0.04), None), (Connect(), None), at(3.6, stopping=True)],
        *[(Running(), []), (LOOK, [[b"late"]]), (Room(3), 3), (Start([b"late"]), None)],
        *[(Room(3), 2), (Room(3), 2), at(3.7, stopping=True), (Room(1), 1)],
    )

    assert left is None


def test_a_later_look_is_made_again_on_a_new_connection() -> None:
    """server.recovery.running: the old one may be of a replica that has yet to remove what is finished."""
    left = follow(
        parallel().claiming(),
        *[*BEGIN, (Room(3), 3), at(0.1), (claim(3), [b"finished", None, None])],
        *[(Start([b"finished"]), None), (Room(3), 3), at(5.0), (Running(), [])],
        *[(LOOK, [[b"finished"]]), at(5.1), (Jitter(), 1.0), (Pause(0.02), None)],
        *[(Connect(), None), at(5.2), (Running(), []), (LOOK, [[]])],
    )

    assert left == Room(3)


def test_a_refused_claim_is_no_lost_claim() -> None:
    """server.connection.refused: its reply was read, so a stop waits for nothing."""
    left = follow(
        parallel().claiming(),
        *[*BEGIN, (Room(3), 1), at(0.1), (claim(1), [READONLY]), at(1.0), (Jitter(), 1.0)],
        *[(Pause(0.02), None), (Connect(), None), at(1.5), (Running(), []), (LOOK, [[]])],
        *[(Room(3), 3), at(1.6, stopping=True), (Room(1), 1)],
    )

    assert left is None


def test_a_stop_without_redis_waits_for_the_handlers() -> None:
    """server.stop.unreachable: Redis may be back when the last of them has ended."""
    session = parallel().claiming()
    absent = Unreachable("there is no Redis")
    follow(
        session,
        *[*BEGIN, (Room(3), 3), at(0.1), (claim(3), LOST), at(1.0), (Jitter(), 1.0)],
        *[(Pause(0.02), None), (Connect(), absent), at(9.0, stopping=True)],
    )

    with pytest.raises(Unreachable):
        session.send(1)


def test_outcomes_leave_in_one_write() -> None:
    """server.publish.before-remove: each is one transaction, and confirmed together."""
    left = follow(
        parallel().confirming(),
        *[(Outcomes(BATCH), [answer(b"1"), answer(b"2")]), (Connect(), None)],
        *[(TRANSACT, [b"OK", []]), (finish(b"1", b"2"), [*DONE, *DONE])],
        *[(Confirmed([b"1", b"2"]), None), (Outcomes(BATCH), [])],
    )

    assert left is None


def test_without_outcomes_there_is_no_connection() -> None:
    """What has nothing to publish ends."""
    assert follow(parallel().confirming(), (Outcomes(BATCH), [])) is None


def test_what_isnt_confirmed_is_published_again(caplog: pytest.LogCaptureFixture) -> None:
    """server.publish.again, server.recovery.running: across two losses, and only that."""
    gone = [b"OK", b"QUEUED", b"QUEUED", [1, 0]]
    again = [(Jitter(), 1.0), (Pause(0.02), None), (Connect(), None), (TRANSACT, [b"OK", []])]
    dead = Dead(b"junk", "$ is not valid JSON")
    push = (b"LPUSH", b"q:dead", b"junk")
    first = Exchange([*finish(b"1").commands, push, *finish(b"2").commands], 9)
    second = Exchange([push, *finish(b"2").commands], 5)

    left = follow(
        parallel().confirming(),
        *[(Outcomes(BATCH), [answer(b"1"), dead, answer(b"2")]), (Connect(), None)],
        *[(TRANSACT, [b"OK", []]), (first, [*gone, READONLY, *DONE])],
        *[(Confirmed([b"1"]), None), at(1.0), *again],
        *[(second, LOST)],
    )

    assert left == Now()
    assert "the message had already been removed: b'1'" in caplog.text


class Adopting(Takeover):
    """A takeover that has found these messages on lapsed lists."""

    def __init__(self, *found: bytes) -> None:
        super().__init__(KEYS)
        self._found = list(found)
        self.stopped = False

    def begin(self, generation: int, on_wait: Rest | None = None) -> Steps[bool]:
        """Get the right to claim, or not."""
        yield from super().begin(generation, on_wait)
        return not self.stopped

    def due(self, now: float) -> bool:
        """Tell whether something is left."""
        return bool(self._found) or super().due(now)

    def look_after(self, generation: int, looks: Looks) -> Steps[bytes | None]:
        """Move the next one; an empty one stands for a list that was only marked."""
        yield from super().look_after(generation, looks)
        return self._found.pop(0) or None


def adopting(takeover: Takeover, attempts: int = 3) -> Parallel:
    """A server with three handlers that claims up to four jobs."""
    limits: dict[str, Any] = {"concurrency": 3, "prefetch": 4, "block_seconds": 2.0}
    return Parallel(KEYS, **limits, attempts=attempts, takeover=takeover)


def counted(message: bytes, before: int) -> list[tuple[Any, Any]]:
    """A message is counted, and started."""
    key = keys.attempts(b"q", message)
    return [
        (Exchange([(b"GET", key)], 1), [b"%d" % before]),
        (Exchange([(b"INCR", key), (b"EXPIRE", key, b"259200")], 2), [before + 1, 1]),
        (Start([message]), None),
    ]


def test_an_adopted_suspect_waits_while_others_are_claimed() -> None:
    """server.attempts.alone: it is held, and takes a place; nothing else is adopted meanwhile."""
    left = follow(
        adopting(Adopting(b"", b"a", b"b", b"c")).claiming(),
        *BEGIN,
        *[(Room(4), 4), at(0.1), (Room(4), 4), at(0.1), (Running(), []), *counted(b"a", 1)],
        *[(Room(4), 3), at(0.2), (Running(), [b"a"])],  # b is held, since a runs alone
        *[(Room(4), 3), at(0.3), (Running(), [b"a"]), (claim(2), [b"d", b"e"])],
        *[(Start([b"d", b"e"]), None), (Room(4), 1), at(0.4), (Running(), [b"a", b"d", b"e"])],
        *[(Room(3), 1), (Room(4), 2), at(0.5), (Running(), [b"d", b"e"]), *counted(b"b", 1)],
        *[(Room(4), 1), at(0.6, stopping=True), (Room(1), 1)],
    )

    assert left is None


def test_without_a_limit_an_adopted_job_is_started_at_once() -> None:
    """server.takeover.adopts: one for each free handler; what waits for one is claimed as ever."""
    left = follow(
        adopting(Adopting(b"a", b"b"), attempts=0).claiming(),
        *[*BEGIN, (Room(4), 4), at(0.1), (Start([b"a"]), None), (Room(4), 1), at(0.2)],
        *[(claim(1), [None]), (Start([]), None), (Room(4), 2), at(0.3), (Start([b"b"]), None)],
    )

    assert left == Room(4)


def test_a_stop_while_a_server_waits_for_its_lease_ends_it() -> None:
    """server.stop.exit: it neither looks nor claims."""
    takeover = Adopting()
    takeover.stopped = True

    assert follow(adopting(takeover).claiming(), (Connect(), None), at(0.0)) is None


def test_a_back_off_is_shorter_than_a_lease() -> None:
    """The wait between attempts to connect stays at a third of L, so that the lease lasts."""
    lease = Lease(KEYS, b"token", seconds=0.06, block_seconds=0.01)

    def lose(_: Backoff) -> Steps[None]:
        yield Now()
        raise LOST

    session = run_with_reconnect(lose, lease, persist=True)
    script = [(Connect(), None), at(1.0), at(1.0), (Jitter(), 1.0)]
    assert follow(session, *script, (Pause(0.02), None), *script) == Pause(0.02)

    assert lease.generation == 2
