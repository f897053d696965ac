"""What Redis refuses to a client whose results are kept: what is asked again, and what is given up."""

from __future__ import annotations

import pytest
from jobqueue.calls.calls import AGAIN_SECONDS
from jobqueue.errors import ConnectionLost, NotQueued
from jobqueue.protocol.commands import ErrorReply

from tests.calls.sessions import (
    COLLECT,
    NOPERM,
    OWN,
    UNSUBSCRIBED,
    collect,
    core,
    detach,
    look,
    opened,
    outcome,
    pushed,
    reconnected,
    result,
    stored,
    subscribed,
)

LOADING = ErrorReply("LOADING", "LOADING Redis is loading the dataset in memory")
BUSY = ErrorReply("BUSY", "BUSY Redis is busy running a script")
ASK = ErrorReply("ASK", "ASK 7 redis:6379")


def test_a_redis_that_loads_is_asked_again() -> None:
    """client.kept.looks: the connection counts as lost, and the look is repeated."""
    session = core("1", deadline=100)
    reconnected(session)
    session.take_controls(2)

    with pytest.raises(ConnectionLost):
        session.received(0, [LOADING], 2)
    session.lost("loading", 2, 0.0)
    opened(session, 3)
    assert session.take_controls(3) == [look("1")]


def test_a_refused_channel_is_no_channel() -> None:
    """client.settle.not-queued, client.kept.collects: neither job can get its result."""
    session = core()
    detach(session)
    session.take_controls(0)
    session.received(0, [NOPERM], 0)
    assert isinstance(outcome(session), NotQueued)
    collect(session)
    session.take_controls(0)
    session.received(0, [NOPERM], 0)

    assert isinstance(outcome(session), ConnectionLost)
    assert session.take_controls(0) == []
    assert not session.has_controls


def test_a_refused_push_gives_no_handle() -> None:
    """client.settle.not-queued: there is no job."""
    session = core()
    detach(session)
    subscribed(session)
    session.take_push(0)

    session.received(0, [ErrorReply("OOM", "OOM command not allowed")], 0)

    assert isinstance(outcome(session), NotQueued)
    assert session.take_handles() == []


def test_who_may_not_look_collects_nothing() -> None:
    """client.kept.collects: to wait for the timeout would hide the missing permission."""
    session = core()
    collect(session, deadline=100)
    subscribed(session)
    session.take_controls(0)

    session.received(0, [NOPERM], 0)

    error = outcome(session)
    assert isinstance(error, ConnectionLost)
    assert "NOPERM" in str(error)


@pytest.mark.parametrize("error", [BUSY, ASK])
def test_a_busy_redis_is_asked_again(error: ErrorReply) -> None:
    """client.kept.looks, client.kept.collects: a second later, as often as it takes."""
    session = core("1", deadline=100)
    reconnected(session)
    collect(session, deadline=100)
    session.take_controls(2)
    session.received(0, [OWN, error], 2)
    assert session.take_controls(2) == [(0, COLLECT)], "others are looked up meanwhile"
    session.received(0, [error], 2.5)
    for now in (2 + AGAIN_SECONDS, 2 + 2 * AGAIN_SECONDS):
        assert session.next_tick() == now
        assert session.take_controls(now - 0.01) == []
        assert session.take_controls(now) == [look("1")]
        session.received(0, [error], now)
        assert session.take_controls(now + 0.5) == [(0, COLLECT)]
        session.received(0, [error], now + 0.5)
    assert session.take_settled() == []
    assert session.take_controls(10) == [look("1")]

    session.received(0, [stored("1")], 10)
    assert outcome(session) == 7
    assert session.take_controls(10) == [(0, COLLECT)]
    session.received(0, [stored("1")], 10)
    assert outcome(session) == 7


def test_a_busy_redis_is_subscribed_to_again() -> None:
    """client.kept.waits: on the same channel, where Redis has the job; or it isn't pushed."""
    session = core()
    detach(session)
    subscribed(session)
    pushed(session)
    reconnected(session)
    detach(session, "2")
    assert session.take_controls(2) == [(0, (b"SUBSCRIBE", b"own"))]
    session.received(0, [BUSY], 2)
    refused = outcome(session)
    assert isinstance(refused, NotQueued)
    assert "BUSY" in str(refused)

    assert session.take_controls(2) == []
    again = 2 + AGAIN_SECONDS
    assert session.take_controls(again) == [(0, (b"SUBSCRIBE", b"own"))]
    session.received(0, [OWN], again)
    assert session.take_controls(again) == [(0, COLLECT)]


def test_who_has_gone_is_not_asked_for_again() -> None:
    """client.kept.looks: whoever is settled, cancelled or asked for on another connection meanwhile."""
    session = core("1", "2", deadline=100)
    detach(session, "3")
    subscribed(session)
    pushed(session)
    reconnected(session)
    session.take_controls(2)
    session.received(0, [BUSY, result("2"), BUSY], 2)  # for the channel, and for job 1
    assert session.take_controls(2) == [], "2 is settled"
    session.cancel("1")
    session.cancel("3")
    assert session.take_controls(3) == []
    assert session.next_tick() is None

    collect(session, deadline=100)
    subscribed(session, 3)
    session.take_controls(3)
    session.received(0, [result("1", channel=b"own"), BUSY], 3)
    session.take_controls(4)
    session.received(0, [UNSUBSCRIBED], 4)
    assert session.take_controls(9) == [], "it was settled while the look was outstanding"

    collect(session, deadline=100)
    subscribed(session, 10)
    session.take_controls(10)
    session.received(0, [BUSY], 10)
    session.lost("cut", 10, 0.0)
    opened(session, 20)
    assert session.take_controls(20) == [(0, (b"SUBSCRIBE", b"own"))]
    assert session.take_controls(30) == [], "not before it is subscribed to again"
