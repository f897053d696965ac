"""Jobs whose results are kept, in the core of a client: when it looks for one, and how long it waits."""

from __future__ import annotations

import json
import math

import pytest
from jobqueue.calls.calls import RETRY_SECONDS
from jobqueue.calls.kept import Keep
from jobqueue.calls.times import KEEP_LIMIT_MS, keep_ms_of
from jobqueue.calls.unsettled import Submission
from jobqueue.errors import ConnectionLost
from jobqueue.protocol.commands import ErrorReply
from jobqueue.protocol.messages import encode_job

from tests.calls.sessions import (
    LINKS,
    NOPERM,
    SUBSCRIBED,
    core,
    look,
    opened,
    outcome,
    pushed,
    reconnected,
    result,
    stored,
)


@LINKS
def test_results_are_looked_up_after_the_subscription(links: int) -> None:
    """client.kept.looks: one after the other, when Redis has confirmed it, and never before."""
    session = core("1", "2", "3", links=links)
    assert session.take_controls(0) == [], "without a loss, nothing is looked up"
    session.lost("cut", 1, 0.0)
    session.attempt(2)
    session.connected(links, 2)
    assert session.take_controls(2) == [(links - 1, (b"SUBSCRIBE", b"channel"))]
    session.received(links - 1, [SUBSCRIBED], 2)

    assert session.take_controls(2) == [look("1")]
    assert session.take_controls(2) == [], "one at a time"
    session.received(0, [stored("1")], 2)
    assert outcome(session) == 7
    assert session.take_controls(2) == [look("2")]
    session.received(links - 1, [result("3")], 2)
    assert outcome(session) == 7
    session.received(0, [None], 2)
    assert session.take_controls(2) == [], "3 is settled, and 2 isn't there yet"
    session.received(links - 1, [result("2")], 2)
    assert outcome(session) == 7


def test_results_are_looked_up_after_each_loss() -> None:
    """client.kept.looks: the answer of a lost connection doesn't come any more."""
    session = core("1", "2", deadline=100)
    for loss in range(3):
        session.lost("cut", loss, 0.0)
        opened(session, loss)
        assert session.take_controls(loss) == [look("1")]
    session.received(0, [None], 3)
    assert session.take_controls(3) == [look("2")]


def test_what_is_not_kept_or_not_pushed_is_not_looked_up() -> None:
    """client.kept.looks, client.kept.member: it isn't stored."""
    session = core("1", deadline=100)
    session.submit([Submission("2", "2", b"2")], 100)
    pushed(session)
    session.submit([Submission("3", "3", b"3", None, Keep("3", 60))], 100)
    session.cancel("1")
    reconnected(session)

    assert session.take_controls(2) == []
    assert session.take_push(2) == (b"LPUSH", b"queue", b"3")


@pytest.mark.parametrize(
    "found", [None, b"", b"{", stored("2"), b'{"id": "1"}', NOPERM, ErrorReply("WRONGTYPE", "W")]
)
def test_what_is_found_may_be_anything(found: object) -> None:
    """client.kept.looks, client.ignore.malformed: only a valid result with its id settles a job."""
    session = core("1", deadline=100)
    reconnected(session)
    session.take_controls(2)

    session.received(0, [found], 2)

    assert session.take_settled() == []
    session.received(0, [result("1")], 2)
    assert outcome(session) == 7


def test_a_result_settles_while_the_look_is_outstanding() -> None:
    """client.settle.once: and what is found then is ignored, also for a job that was cancelled."""
    session = core("1", "2", deadline=100)
    reconnected(session)
    session.take_controls(2)

    session.received(0, [result("1"), stored("1", "8")], 2)

    assert outcome(session) == 7
    session.take_controls(2)
    session.cancel("2")
    session.received(0, [stored("2")], 2)
    assert session.take_settled() == []


def test_without_a_timeout_it_is_lost_when_nothing_can_be_found() -> None:
    """client.kept.waits, client.kept.lost: so long after the first loss, whatever is lost again."""
    session = core("1", seconds=60)
    for now in (10, 30):
        session.lost("cut", now, 0.0)
        opened(session, now)
    assert session.take_settled() == []
    assert session.take_controls(30) == [look("1")]
    session.received(0, [None], 69)
    session.tick(69)
    assert session.take_settled() == []
    assert session.next_tick() == 70

    session.tick(70)

    assert isinstance(outcome(session), ConnectionLost)


def test_an_unanswered_push_is_lost_at_once() -> None:
    """client.kept.waits, client.lost.settles: nobody knows whether there is such a job."""
    session = core()
    session.submit([Submission("1", "1", b"1", None, Keep("1", 60))], None)
    session.take_push(0)

    session.lost("cut", 1, 0.0)

    assert isinstance(outcome(session), ConnectionLost)


def test_failed_attempts_dont_end_the_wait() -> None:
    """client.kept.waits: for as long as the result may be found."""
    session = core("1", seconds=60)
    session.lost("cut", 1, 0.0)
    for now in range(2, 50):
        session.attempt(now)
        session.lost("refused", now, 1.0)
        assert session.connect_at() <= now + RETRY_SECONDS

    opened(session, 50)
    assert session.take_controls(50) == [look("1")]
    session.received(0, [stored("1")], 50)
    assert outcome(session) == 7


@pytest.mark.parametrize(
    "keep,milliseconds",
    [
        (60, 60_000),
        (0.5, 500),
        (1e-9, 1),
        (0.0019, 1),
        (math.inf, KEEP_LIMIT_MS),
        (0, 0),
        (None, 7),
    ],
)
def test_keep_is_a_number_of_seconds(keep: float | None, milliseconds: int) -> None:
    """client.kept.member: an integer of at least 1, or no member."""
    assert keep_ms_of(keep, 0.007) == milliseconds
    assert keep_ms_of(None) == 0


@pytest.mark.parametrize("keep", [-1, -0.001, math.nan, -math.inf])
def test_what_is_no_time_is_refused(keep: float) -> None:
    """A mistake of the caller."""
    with pytest.raises(ValueError, match="keep"):
        keep_ms_of(keep)


def test_the_member_is_an_integer() -> None:
    """client.kept.member: and no job has it whose caller didn't ask."""
    assert json.loads(encode_job("m", None, "c", "1", keep_ms=60_000))["keep_ms"] == 60_000
    assert "keep_ms" not in json.loads(encode_job("m", None, "c", "1"))
