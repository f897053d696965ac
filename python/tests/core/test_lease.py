"""The lease of a server's list: its steps, taken by hand on a Redis of a few commands."""

from __future__ import annotations

from typing import Any

import pytest
from jobqueue.core.lease import Lapsed, Lease
from jobqueue.core.reconnect import Backoff
from jobqueue.core.steps import Exchange, Moment, Now, Pause, Refused, Steps
from jobqueue.errors import ProcessorLost
from jobqueue.protocol.commands import ErrorReply, Unavailable
from jobqueue.protocol.keys import Keys

from tests.core.answering import at

KEYS = Keys.of("q", "p")
SCRIPTS = (b"PEXPIRE", b"'DEL'", b"'HDEL'", b"'SET'")
OOM = ErrorReply("OOM", "OOM command not allowed")
NOPERM = ErrorReply("NOPERM", "NOPERM this user has no permissions to run the 'set' command")
NO_SCRIPT = ErrorReply("ERR", "ERR The user executing the script can't run this command")


class Play:
    """Plays Redis and the clock for one list, and notes what was sent."""

    def __init__(self) -> None:
        self.now = 100.0
        self.holder: bytes | None = None
        self.left_ms = 8_000
        self.registered = False
        self.list: list[bytes] = []
        self.refuses: dict[bytes, ErrorReply] = {}
        self.sent: list[bytes] = []
        self.pauses: list[float] = []
        self.stops_after = 1_000  # looks at the clock
        self.on_pause: Any = lambda: None
        self._by_name: dict[bytes, Any] = {
            b"SET": self._set,
            b"GET": lambda *_: self.holder,
            b"PTTL": lambda *_: self.left_ms,
            b"HSET": self._hset,
            b"script SET": self._inherit,
            b"script PEXPIRE": lambda token, _: int(self.holder == token),
            b"script DEL": self._release,
            b"script HDEL": self._unregister,
        }

    def take(self, steps: Steps[Any]) -> Any:
        """Take the steps, and return what they return."""
        value: Any = None
        try:
            while True:
                step = steps.send(value)
                value = None
                match step:
                    case Exchange(commands):
                        value = [self._execute(*command) for command in commands]
                    case Now():
                        self.stops_after -= 1
                        value = Moment(self.now, stopping=self.stops_after < 0)
                    case Pause(seconds):
                        self.pauses.append(seconds)
                        self.now += seconds
                        self.on_pause()
        except StopIteration as end:
            return end.value

    def _execute(self, name: bytes, *arguments: bytes) -> Any:
        if name == b"EVAL":
            script, keys, *rest = arguments
            (which,) = [each for each in SCRIPTS if each in script]
            name, arguments = b"script " + which.strip(b"'"), tuple(rest[int(keys) :])
        self.sent.append(name)
        if name in self.refuses:
            return self.refuses[name]
        return self._by_name[name](*arguments)

    def _set(self, _: bytes, token: bytes, *__: bytes) -> Any:
        if self.holder is not None:
            return None
        self.holder = token
        return b"OK"

    def _hset(self, *_: bytes) -> int:
        created, self.registered = not self.registered, True
        return int(created)

    def _inherit(self, former: bytes, token: bytes, _: bytes) -> Any:
        if self.holder != former:
            return None
        self.holder = token
        return b"OK"

    def _unregister(self, token: bytes) -> int:
        may = self.holder == token and not self.list
        self.registered &= not may
        return int(may)

    def _release(self, token: bytes) -> int:
        own = self.holder == token
        self.holder = None if own else self.holder
        return int(own)


def lease(former: bytes | None = None) -> Lease:
    """A lease of 8 seconds, for claims that block for 2."""
    return Lease(KEYS, b"mine", seconds=8.0, block_seconds=2.0, former=former)


def held() -> tuple[Play, Lease]:
    """A lease that was acquired at 100 s."""
    play, mine = Play(), lease()
    assert play.take(mine.acquire(0))
    play.sent.clear()
    return play, mine


def test_a_free_lease_is_taken_and_the_list_registered_in_one_write() -> None:
    """server.takeover.lease-first, server.takeover.registers: and the script is tried at once."""
    play, mine = Play(), lease()

    assert play.take(mine.acquire(0))

    assert (play.holder, play.registered) == (b"mine", True)
    assert play.sent == [b"SET", b"GET", b"PTTL", b"HSET", b"script PEXPIRE"]
    assert mine.claimable(0, 106.0)
    assert not mine.claimable(0, 106.1), "expected no claim that could be answered too late"


def test_on_a_new_connection_the_lease_is_acquired_again() -> None:
    """server.takeover.registers, server.takeover.renews: what SET doesn't renew, the script does."""
    play, mine = held()
    mine.ends(0)
    assert not mine.claimable(0, 100.0)

    play.now = 103.0
    assert play.take(mine.acquire(1))

    assert play.sent == [b"SET", b"GET", b"PTTL", b"HSET", b"script PEXPIRE"]
    assert mine.claimable(1, 109.0)


def test_a_lease_that_lapsed_is_taken_again() -> None:
    """server.takeover.lapse: SET's OK counts as a renewal."""
    play, mine = held()
    play.holder = None
    mine.ends(0)

    assert play.take(mine.acquire(1))

    assert play.sent == [b"SET", b"GET", b"PTTL", b"HSET"]
    assert mine.claimable(1, 106.0)


def test_a_lease_that_is_lost_at_once_was_had() -> None:
    """server.takeover.lost-name: another life's token right behind the first SET is no earlier life's."""
    play, mine = Play(), lease()
    steps = mine.acquire(0)
    next(steps)
    steps.send(at(100.0))
    steps.send([b"OK", b"mine", 8_000, 1])
    steps.send(at(100.0))
    with pytest.raises(Lapsed):
        steps.send([0])

    play.holder = b"theirs"
    with pytest.raises(ProcessorLost):
        play.take(mine.acquire(1))


def test_what_is_not_renewed_in_time_may_not_be_started() -> None:
    """server.takeover.lapse, server.takeover.within-lease: L after the renewal was sent, to a start."""
    _, mine = held()

    mine.require(0, at(108.0))
    for generation, seconds in ((0, 108.1), (1, 100.0)):
        with pytest.raises(Lapsed):
            mine.require(generation, at(seconds))
    mine.ends(0)
    mine.ends(0)
    assert mine.generation == 1, "expected a generation to end once"
    for generation in (0, 1):
        with pytest.raises(Lapsed):
            mine.require(generation, at(100.0))


@pytest.mark.parametrize("left_ms", [300, 8_000, -1, 0])
def test_an_earlier_life_is_waited_for(left_ms: int, caplog: pytest.LogCaptureFixture) -> None:
    """server.takeover.waits: until its lease is gone; nothing of it is touched."""
    caplog.set_level("INFO")
    play, mine = Play(), lease()
    play.holder, play.left_ms = b"theirs", left_ms

    def ends() -> None:
        if len(play.pauses) == 3:
            play.holder = None

    play.on_pause = ends
    assert play.take(mine.acquire(0))

    assert (play.holder, len(play.pauses)) == (b"mine", 3)
    assert all(0.01 <= seconds <= 0.5 for seconds in play.pauses)
    assert caplog.text.count("waiting for the lease") == 1


def test_a_stop_ends_the_wait() -> None:
    """server.stop.exit: nothing was claimed."""
    play, mine = Play(), lease()
    play.holder, play.stops_after = b"theirs", 2

    assert not play.take(mine.acquire(0))
    assert play.holder == b"theirs"


def test_the_lease_of_a_life_that_is_over_is_inherited() -> None:
    """server.takeover.waits: its token was in the file that this life has locked."""
    play, mine = Play(), lease(former=b"former")
    play.holder = b"former"

    assert play.take(mine.acquire(0))

    assert (play.holder, play.pauses) == (b"mine", [])
    assert play.sent[0] == b"script SET"


def test_a_lease_that_an_older_redis_brings_back_is_inherited_again() -> None:
    """server.takeover.lost-name: the token of a life that is over, in a Redis that is older, is no other server's."""
    play, mine = Play(), lease(former=b"former")
    play.holder = b"former"
    assert play.take(mine.acquire(0))

    play.holder = b"former"
    assert play.take(mine.acquire(1))

    assert (play.holder, play.pauses) == (b"mine", [])


def test_another_lifes_lease_is_not_inherited() -> None:
    """server.takeover.waits: the token is compared."""
    play, mine = Play(), lease(former=b"former")
    play.holder, play.stops_after = b"theirs", 0

    assert not play.take(mine.acquire(0))
    assert play.holder == b"theirs"


def test_another_token_ends_the_server() -> None:
    """server.takeover.lost-name: and its token isn't written back."""
    play, mine = held()
    play.holder = b"theirs"

    with pytest.raises(ProcessorLost, match="q:in-process:p"):
        play.take(mine.acquire(0))
    assert (play.holder, mine.generation) == (b"theirs", 1)


@pytest.mark.parametrize(
    "refuses", [{b"SET": NOPERM, b"GET": NOPERM}, {b"script PEXPIRE": NO_SCRIPT}]
)
def test_a_missing_permission_is_named_at_the_start(refuses: dict[bytes, ErrorReply]) -> None:
    """Status 4: one sentence with the words of Redis, and what to do."""
    play, mine = Play(), lease()
    play.refuses = refuses

    with pytest.raises(Refused, match=r"permissions.*takeover=False"):
        play.take(mine.acquire(0))


@pytest.mark.parametrize("refuses", [{b"SET": NOPERM, b"GET": NOPERM}, {}])
def test_a_permission_to_inherit_is_named(refuses: dict[bytes, ErrorReply]) -> None:
    """Redis doesn't name it inside of a script; so a command is tried that it names, if that is forbidden, too."""
    play, mine = Play(), lease(b"former")
    play.refuses = {b"script SET": NO_SCRIPT, **refuses}

    with pytest.raises(
        Refused, match="'set' command" if refuses else r"permissions.*takeover=False"
    ):
        play.take(mine.acquire(0))


@pytest.mark.parametrize("name", [b"GET", b"script PEXPIRE"])
def test_a_permission_that_is_withdrawn_later_is_a_lost_connection(name: bytes) -> None:
    """server.connection.survives: the operator may give it back."""
    play, mine = held()
    play.refuses = {name: NOPERM}

    with pytest.raises(Unavailable):
        play.take(mine.acquire(0))


def test_a_start_at_the_memory_limit_is_a_lost_connection() -> None:
    """server.takeover.lease-first: without a lease nothing is claimed."""
    play, mine = Play(), lease()
    play.refuses = {b"SET": OOM, b"HSET": OOM}

    with pytest.raises(Unavailable, match="OOM"):
        play.take(mine.acquire(0))


def test_the_registration_is_repeated_until_redis_takes_it() -> None:
    """server.takeover.registers: the lease holds at the memory limit, but no claim is sent before."""
    play, mine = held()
    mine.ends(0)
    play.refuses = {b"SET": OOM, b"HSET": OOM}
    assert play.take(mine.acquire(1))

    assert not mine.claimable(1, 100.0)
    with pytest.raises(Unavailable):
        play.take(mine.before_claim(1, at(100.0)))
    play.refuses.clear()
    play.take(mine.before_claim(1, at(100.0)))
    assert mine.claimable(1, 100.0)


def test_the_lease_is_renewed_four_times_in_its_time() -> None:
    """server.takeover.renews: by the script, until the server has ended."""
    play, mine = held()
    renewals = mine._renewals(Backoff())
    play.stops_after = 12

    play.take(renewals)

    assert set(play.pauses) == {2.0}
    assert play.sent[:4] == [b"SET", b"GET", b"PTTL", b"HSET"]
    assert set(play.sent[4:]) == {b"script PEXPIRE"}
    assert mine.holds(0, play.now)


def test_nothing_is_renewed_before_the_lease_is_acquired() -> None:
    """server.takeover.waits: the session that claims goes first."""
    play = Play()
    play.stops_after = 3

    play.take(lease()._renewals(Backoff()))

    assert (play.sent, play.holder) == ([], None)


def test_a_renewal_that_finds_the_lease_gone_ends_the_connection() -> None:
    """server.takeover.lapse: so does the loss of any other connection."""
    play, mine = held()
    play.on_pause = lambda: setattr(play, "holder", None)
    with pytest.raises(Lapsed):
        play.take(mine._renewals(Backoff()))
    play, mine = held()
    play.on_pause = lambda: mine.ends(0)
    with pytest.raises(Lapsed):
        play.take(mine._renewals(Backoff()))


def test_a_renewing_session_ends_with_its_server() -> None:
    """server.takeover.lost-name: it leaves the rest to the session that claims."""
    play, mine = held()
    play.holder = b"theirs"
    session = mine.renewing()
    next(session)  # connects

    play.take(session)

    assert play.holder == b"theirs"


@pytest.mark.parametrize(
    "known,left,answered,stays",
    [
        (False, [], True, False),
        (True, [], True, True),
        (False, [b"job"], True, True),
        (False, [], False, True),
    ],
)
def test_a_stop_gives_the_lease_up(
    *, known: bool, left: list[bytes], answered: bool, stays: bool
) -> None:
    """server.takeover.releases, server.takeover.own-registration, server.takeover.unregisters."""
    play, mine = Play(), lease()
    play.registered, play.list = known, left
    play.take(mine.acquire(0))

    play.take(mine.release(all_answered=answered))

    assert (play.holder, play.registered) == (None, stays)
    play.sent.clear()
    play.take(mine._renewals(Backoff()))
    assert play.sent == [], "expected nothing to be renewed any more"


def test_only_the_own_lease_is_given_up() -> None:
    """server.takeover.releases: another's token survives, and so does the registration of its list."""
    play, mine = held()
    play.holder = b"theirs"

    play.take(mine.release(all_answered=True))

    assert (play.holder, play.registered) == (b"theirs", True)


def test_a_lost_connection_at_the_end_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """server.stop.exit: everything was drained, and the lease ends by itself."""
    caplog.set_level("INFO")
    _, mine = held()
    steps = mine.release(all_answered=True)
    next(steps)

    with pytest.raises(StopIteration):
        steps.throw(Lapsed("lost"))
    assert "ends by itself" in caplog.text


def test_a_renewal_that_comes_after_the_end_changes_nothing() -> None:
    """server.takeover.releases: it was on its way when the lease was given up."""
    play, mine = held()
    steps = mine._renew(0)
    assert next(steps) == Now()
    assert isinstance(steps.send(at(100.0)), Exchange)

    play.take(mine.release(all_answered=True))

    with pytest.raises(StopIteration):
        steps.send([0])
