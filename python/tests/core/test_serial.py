"""The steps of a server that runs one job at a time, taken by hand on a Redis of two lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue.core.reconnect import Backoff
from jobqueue.core.serial import Serial
from jobqueue.core.steps import (
    Exchange,
    Handle,
    Moment,
    Now,
    Rest,
    Send,
    Sleep,
    Steps,
    TimedExchange,
)
from jobqueue.core.takeover import Takeover
from jobqueue.errors import ProcessorLost
from jobqueue.protocol.commands import ErrorReply, Unavailable
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Answer, Dead

if TYPE_CHECKING:
    from jobqueue.core.recovery import Looks

KEYS = Keys.of("q", "p")
CLAIM, MORE = ["BLMOVE"], ["LMOVE"]
FINISH = ["MULTI", "PUBLISH", "LREM", "EXEC"]
NEVER = -1
CONNECT = [["MULTI", "EXEC"], ["LRANGE"]]
NOPERM = ErrorReply("NOPERM", "NOPERM No permissions to access a channel")
OOM = ErrorReply("OOM", "OOM command not allowed")


class Noted(Backoff):
    """A back-off that counts how often it was reset."""

    resets = 0

    def reset(self) -> None:
        """Count it."""
        self.resets += 1


@dataclass
class Play:
    """Plays Redis, the handlers, the clock and the operator, and notes what happens."""

    queue: list[bytes] = field(default_factory=list)  # oldest first
    claimed: list[bytes] = field(default_factory=list)  # oldest first
    dead: list[bytes] = field(default_factory=list)
    published: list[bytes] = field(default_factory=list)
    handled: list[bytes] = field(default_factory=list)
    writes: list[list[str]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    backoff: Noted = field(default_factory=Noted)
    claims: int = 0
    now: float = 100.0
    takes: float = 0.0  # how long a handler runs
    requested: bool = False  # the stop
    stops_at: int = 1  # the number of the claim that is on its way when the stop is requested
    stops_behind: int = (
        NEVER  # the number of looks at the clock, of which the stop follows the last
    )
    loses: int = 1_000  # writes until the connection is lost, with the replies to the last one
    effective: bool = True  # whether the write takes effect that is lost
    refuses: dict[str, ErrorReply] = field(default_factory=dict)
    transactions: bool = True
    meddles: bool = False  # whether another program removes the claimed jobs
    _queued: list[tuple[str, ...]] | None = None

    def serial(self, prefetch: int = 1, takeover: Takeover | None = None) -> Serial:
        """A server whose T is 2 seconds."""
        return Serial(KEYS, prefetch=prefetch, block_seconds=2.0, takeover=takeover)

    def take(self, serial: Serial) -> None:
        """Take the steps of one connection, to their end or until the connection is lost."""
        value: Any = None
        steps, replies = serial.session(self.backoff), list[Any]()
        self._queued = None
        while True:
            try:
                step = steps.send(value)
            except StopIteration:
                return
            value = None
            match step:
                case Send(commands) | Exchange(commands) | TimedExchange(commands):
                    assert commands, "expected no empty write"
                    self.writes.append([command[0].decode() for command in commands])
                    self.loses -= 1
                    if self.loses or self.effective:
                        replies += [self._execute(*command) for command in commands]
                    if not self.loses:
                        steps.close()
                        return
                    if isinstance(step, Send):
                        value = self._look_at_the_clock()
                    else:
                        assert len(replies) == step.replies, "expected all replies to be read"
                        timed = isinstance(step, TimedExchange)
                        value = (replies, self._look_at_the_clock()) if timed else replies
                        replies = []
                case Handle(message):
                    assert isinstance(message, bytes)
                    self.handled.append(message)
                    self.now += self.takes
                    answer = Answer(message, b"c", "1", b"result of " + message)
                    outcome = Dead(message, "junk") if message == b"junk" else answer
                    value = outcome, self._look_at_the_clock()
                case Now():
                    value = self._look_at_the_clock()
                case Sleep(seconds):
                    self.slept.append(seconds)
                    self.now += seconds

    def _look_at_the_clock(self) -> Moment:
        moment = Moment(self.now, stopping=self.requested)
        self.stops_behind -= 1
        self.requested |= self.stops_behind == 0
        return moment

    def _execute(self, name: bytes, *arguments: bytes) -> Any:
        command = name.decode()
        self.claims += command == "BLMOVE"
        self.requested |= self.claims == self.stops_at
        if command in {"MULTI", "EXEC"} and not self.transactions:
            return NOPERM
        if command == "MULTI":
            self._queued = []
            return b"OK"
        if command == "EXEC":
            queued, self._queued = self._queued or [], None
            if any(each[0] in self.refuses for each in queued):
                return ErrorReply("EXECABORT", "EXECABORT Transaction discarded")
            return [self._do(*each) for each in queued]
        if self._queued is not None:
            self._queued.append((command, *arguments))  # type: ignore[arg-type]
            return self.refuses.get(command, b"QUEUED")
        return self._do(command, *arguments)

    def _do(self, command: str, *arguments: Any) -> Any:
        if command in self.refuses:
            return self.refuses[command]
        match command:
            case "LRANGE":
                return self.claimed[::-1]
            case "LMOVE" | "BLMOVE":
                if self.queue:
                    self.claimed.append(self.queue.pop(0))
                    return self.claimed[-1]
                self.now += float(arguments[4]) if command == "BLMOVE" else 0.0
                return None
            case "PUBLISH":
                self.published.append(arguments[1])
            case "LPUSH":
                self.dead.append(arguments[1])
            case "LREM":
                self.claimed.remove(arguments[2])
                return 0 if self.meddles else 1
        return 1


def test_one_round_trip_per_job() -> None:
    """A job's end and the claim of the next are one write, of which only the claim may block."""
    play = Play(queue=[b"1", b"2"])

    play.take(play.serial())

    # The stop is requested at the first claim, which finds a job; its end is followed by no claim.
    assert play.writes == [*CONNECT, CLAIM, FINISH]
    play = Play(queue=[b"1", b"2"], stops_at=NEVER, loses=6)
    play.take(play.serial())
    assert play.writes == [*CONNECT, CLAIM, FINISH + CLAIM, FINISH + CLAIM, CLAIM]
    assert play.published == [b"result of 1", b"result of 2"]
    assert play.claimed == []


def test_no_result_waits_for_the_next_handler() -> None:
    """Of several jobs claimed at once, each is answered before the next is started."""
    play = Play(queue=[b"1", b"2", b"3"], stops_at=NEVER, loses=7)

    play.take(play.serial(prefetch=3))

    claims = [*CLAIM, *MORE, *MORE]
    assert play.writes == [*CONNECT, claims, FINISH, FINISH, FINISH + claims, claims]
    assert play.published == [b"result of 1", b"result of 2", b"result of 3"]


def test_what_lies_on_the_list_goes_first() -> None:
    """server.recovery.first, server.recovery.order: before the first claim, the oldest first."""
    play = Play(queue=[b"new"], claimed=[b"oldest", b"older"])

    play.take(play.serial())

    assert play.writes == [*CONNECT, FINISH, FINISH + CLAIM, FINISH]
    assert play.handled == [b"oldest", b"older", b"new"]


def test_an_idle_server_looks_again_every_5_seconds() -> None:
    """server.recovery.second-look, server.recovery.quiet: no claim is outstanding."""
    play = Play(stops_at=NEVER, loses=10)

    play.take(play.serial())

    claims = [CLAIM, CLAIM, CLAIM]
    assert play.writes == [*CONNECT, *claims, ["LRANGE"], *claims, ["LRANGE"]]
    assert play.now == 110.0


def test_a_busy_server_looks_again_too() -> None:
    """server.recovery.second-look: claims pause for the look, though the queue isn't empty."""
    play = Play(queue=[b"1", b"2", b"3"], takes=3.0, stops_at=NEVER, loses=6)

    play.take(play.serial())

    assert play.writes == [*CONNECT, CLAIM, FINISH + CLAIM, FINISH, ["LRANGE"]]


def test_a_finished_job_isnt_run_again() -> None:
    """server.publish.again: the removal wasn't confirmed, so the same bytes are published again."""
    play = Play(queue=[b"1"], stops_at=NEVER, loses=4, effective=False)
    serial = play.serial()
    play.take(serial)
    play.claimed = [b"ghost", b"1"]  # and a lost claim has moved one more job

    play.loses, play.stops_at = 1_000, 3
    play.take(serial)

    assert play.handled == [b"1", b"ghost"]
    assert play.published == [b"result of ghost", b"result of 1"]


def test_two_losses_in_a_row_run_nothing_again() -> None:
    """server.recovery.running: an outcome is forgotten only when its removal is confirmed."""
    play = Play(queue=[b"1", b"2", b"3"], stops_at=NEVER, loses=6, effective=False)
    play.take(serial := play.serial(prefetch=3))  # lost with the third result
    assert (play.handled, play.claimed) == ([b"1", b"2", b"3"], [b"3"])
    play.claimed, play.published = [b"1", b"2", b"3"], []  # the network lost the two before, too

    for writes in (3, 4, 3):  # each time with the first result, or the second, that is sent again
        play.loses = writes
        play.take(serial)
    play.loses, play.requested = 1_000, True
    play.take(serial)

    assert play.handled == [b"1", b"2", b"3"]
    assert play.published == [b"result of 1", b"result of 2", b"result of 3"]
    assert play.claimed == []


def test_a_confirmed_job_isnt_published_again() -> None:
    """server.publish.once: what Redis has removed was published."""
    play = Play(queue=[b"1"], stops_at=NEVER, loses=4)
    serial = play.serial()
    play.take(serial)

    play.loses, play.requested = 1_000, True
    play.take(serial)

    assert play.published == [b"result of 1"]


def test_a_stop_waits_for_what_a_lost_claim_may_move() -> None:
    """server.stop.drains: a claim of the lost connection can take one more job within T."""
    play = Play(stops_at=NEVER, loses=3)
    serial = play.serial()
    play.take(serial)

    play.loses, play.requested = 1_000, True
    play.take(serial)

    assert play.slept == [2.0]
    assert play.writes[-2:] == [["LRANGE"], ["LRANGE"]]


def test_what_the_last_look_finds_is_run() -> None:
    """server.stop.drains: the lost claim has moved a job while the stop waited for it."""
    play = Play(stops_at=NEVER, loses=3)
    serial = play.serial()
    play.take(serial)

    class Late(list[float]):
        def append(self, seconds: float) -> None:
            play.claimed.append(b"late")
            super().append(seconds)

    play.loses, play.requested, play.slept = 1_000, True, Late()
    play.take(serial)

    assert (play.handled, play.claimed) == ([b"late"], [])


def test_a_stop_doesnt_wait_where_the_claim_was_answered() -> None:
    """server.stop.drains: only a claim whose reply wasn't read can have moved something unseen."""
    play = Play(queue=[b"1"], stops_at=1, loses=4)
    serial = play.serial()
    play.take(serial)

    play.loses = 1_000
    play.take(serial)

    assert play.slept == []


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_a_stop_that_comes_right_before_a_claim(looks: int) -> None:
    """server.stop.no-claim: whether a stop was requested is asked last."""
    play = Play(queue=[b"1"], stops_behind=looks)

    play.take(play.serial())

    assert (play.writes, play.queue) == (CONNECT, [b"1"])


def test_a_stop_is_at_once_where_nothing_was_lost() -> None:
    """server.stop.no-claim: on the first connection no claim of this life can be under way."""
    play = Play(requested=True)

    play.take(play.serial())

    assert (play.writes, play.slept) == (CONNECT, [])


def test_what_was_claimed_is_run_after_a_stop() -> None:
    """server.stop.drains, server.stop.no-claim: all that the claim returned, and no more."""
    play = Play(queue=[b"1", b"2", b"3"])

    play.take(play.serial(prefetch=2))

    assert play.handled == [b"1", b"2"]
    assert (play.claimed, play.queue) == ([], [b"3"])


def test_a_dead_message_is_gone_before_the_next_claim() -> None:
    """server.dead.removed: a claim in the same write would overtake the removal."""
    play = Play(queue=[b"junk", b"1"], stops_at=NEVER, loses=7)

    play.take(play.serial())

    assert play.writes == [*CONNECT, CLAIM, ["LPUSH"], ["LREM"], CLAIM, FINISH + CLAIM]
    assert play.dead == [b"junk"]


def test_without_transactions_claims_go_alone() -> None:
    """server.publish.refused: a user without MULTI is served in more round trips."""
    play = Play(queue=[b"1"], transactions=False, stops_at=NEVER, loses=6)

    play.take(play.serial())

    assert play.writes == [*CONNECT, CLAIM, ["PUBLISH"], ["LREM"], CLAIM]


def test_a_refused_transaction_is_taken_apart() -> None:
    """server.publish.noperm: the claim's reply is read first, and the message is moved to the dead list."""
    play = Play(queue=[b"1", b"2"], refuses={"PUBLISH": NOPERM}, stops_at=2)

    play.take(play.serial())

    finish = [FINISH, ["LPUSH"], ["LREM"]]
    assert play.writes == [*CONNECT, CLAIM, FINISH + CLAIM, *finish[1:], *finish]
    assert play.dead == [b"1", b"2"]


def test_a_refusal_ends_the_connection() -> None:
    """server.publish.again: what was refused is known and published again on the next connection."""
    play = Play(queue=[b"1"], refuses={"PUBLISH": OOM})
    serial = play.serial()

    with pytest.raises(Unavailable, match="OOM"):
        play.take(serial)
    play.refuses.clear()
    play.take(serial)

    assert (play.handled, play.published) == ([b"1"], [b"result of 1"])


def test_the_back_off_ends_where_redis_serves() -> None:
    """server.connection.back-off: a claim or a removal tells; a connection or a look doesn't."""
    refused = Play(refuses={"BLMOVE": OOM})
    claimed = Play()
    removed = Play(claimed=[b"1"], requested=True)

    with pytest.raises(Unavailable):
        refused.take(refused.serial())
    claimed.take(claimed.serial())
    removed.take(removed.serial())

    assert [play.backoff.resets for play in (refused, claimed, removed)] == [0, 1, 1]


def test_a_removal_that_finds_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """server.remove.gone: a warning, and on."""
    play = Play(queue=[b"1", b"2"], meddles=True, stops_at=2)

    play.take(play.serial())

    assert "the message had already been removed: b'1'" in caplog.text
    assert play.handled == [b"1", b"2"]


class Adopting(Takeover):
    """A takeover that has found these messages on lapsed lists, or whose name is lost."""

    def __init__(self, play: Play, *found: bytes) -> None:
        super().__init__(KEYS)
        self._play = play
        self._found = list(found)
        self.lost = False
        self.stopped = False

    def begin(self, generation: int, on_wait: Rest | None = None) -> Steps[bool]:
        """Get the right to claim, or not."""
        yield from super().begin(generation, on_wait)
        if self.lost:
            raise ProcessorLost("it is lost")
        return not self.stopped

    def due(self, now: float) -> bool:
        """Tell whether something is left."""
        return bool(self._found) or super().due(now)

    def look_after(self, generation: int, looks: Looks) -> Steps[bytes | None]:
        """Move the next one; an empty one stands for a list that was only marked."""
        yield from super().look_after(generation, looks)
        message = self._found.pop(0)
        if message:
            self._play.claimed.append(message)
        return message or None


def test_what_is_adopted_goes_before_the_next_claim() -> None:
    """server.takeover.first: and a claim never shares its write with what comes before an adoption."""
    play = Play(queue=[b"claimed"], stops_at=2)

    play.take(play.serial(takeover=Adopting(play, b"", b"old", b"new")))

    assert play.handled == [b"old", b"new", b"claimed"]


def test_a_stop_while_a_server_waits_for_its_lease_ends_it() -> None:
    """server.stop.exit: it neither looks nor claims."""
    play = Play(queue=[b"1"])
    takeover = Adopting(play)
    takeover.stopped = True

    play.take(play.serial(takeover=takeover))

    assert play.writes == [["MULTI", "EXEC"]]


def test_a_server_whose_name_is_lost_finishes_what_it_ran() -> None:
    """server.takeover.lost-name: what isn't confirmed is published again; nothing else is started."""
    play = Play(queue=[b"1", b"2"], stops_at=NEVER, loses=4, effective=False)
    takeover = Adopting(play)
    serial = play.serial(takeover=takeover)
    play.take(serial)
    assert (play.handled, play.published) == ([b"1"], [])

    takeover.lost, play.loses = True, 1_000
    with pytest.raises(ProcessorLost):
        play.take(serial)

    assert (play.handled, play.published) == ([b"1"], [b"result of 1"])
