"""Results that are collected by their handles, in the core of a client."""

from __future__ import annotations

from jobqueue.calls.calls import Calls, State
from jobqueue.errors import ConnectionLost, JobError, JobTimeout

from tests.calls.sessions import (
    COLLECT,
    LINKS,
    NOPERM,
    OWN,
    UNSUBSCRIBED,
    collect,
    core,
    opened,
    outcome,
    result,
    stored,
    subscribed,
)


@LINKS
def test_a_result_is_collected_after_the_subscription(links: int) -> None:
    """client.kept.collects: subscribe, then look."""
    session = core(links=links)
    collect(session)
    assert session.take_controls(0) == [(links - 1, (b"SUBSCRIBE", b"own"))]
    assert session.take_controls(0) == []
    session.received(links - 1, [OWN], 0)
    assert session.take_controls(0) == [(0, COLLECT)]

    session.received(0, [b'{"id": "1", "error": {"code": "a.b", "message": "m"}}'], 0)

    assert isinstance(outcome(session), JobError)
    assert session.take_handles() == []
    assert session.take_controls(0) == [(links - 1, (b"UNSUBSCRIBE", b"own"))]


def test_a_result_that_comes_later_is_collected() -> None:
    """client.kept.collects: published while it waits, or found after a loss; no timeout, no end."""
    session = core()
    collect(session)
    subscribed(session)
    session.take_controls(0)
    session.received(0, [None, result("1", "8", b"channel")], 0)
    assert session.take_controls(0) == [], "there is no polling"
    for now in (1, 100):
        session.lost("cut", now, 0.0)
        session.attempt(now)
        session.lost("refused", now, 0.0)
        opened(session, now)
        subscribed(session, now)
        assert session.take_controls(now) == [(0, COLLECT)]
    session.received(0, [None, result("1", channel=b"own")], 100)

    assert outcome(session) == 7


def test_two_may_collect_the_same() -> None:
    """client.kept.collects: each looks, whatever the other has seen; the last one unsubscribes."""
    session = core()
    collect(session, "c")
    session.take_controls(0)
    collect(session, "d")
    session.received(0, [OWN], 0)
    assert session.take_controls(0) == [(0, COLLECT)]
    session.received(0, [None], 0)
    assert session.take_controls(0) == [(0, COLLECT)]
    session.received(0, [None], 0)
    collect(session, "e")
    assert session.take_controls(0) == [(0, COLLECT)]
    session.cancel("c")
    assert session.take_controls(0) == []

    session.received(0, [result("1", channel=b"own"), None], 0)

    assert [each.job for each in session.take_settled()] == ["d", "e"]
    assert session.take_controls(0) == [(0, (b"UNSUBSCRIBE", b"own"))]


def test_a_collected_result_may_be_deleted() -> None:
    """It is deleted when it was collected, and a refusal doesn't matter."""
    session = core()
    collect(session, delete=True)
    subscribed(session)
    session.take_controls(0)
    session.received(0, [stored("1")], 0)

    assert outcome(session) == 7
    delete = (0, (b"DEL", COLLECT[1]))
    assert session.take_controls(0) == [(0, (b"UNSUBSCRIBE", b"own")), delete]
    session.received(0, [UNSUBSCRIBED, NOPERM], 0)
    assert session.state is State.OPEN


def test_a_collection_ends_by_its_timeout() -> None:
    """client.timeout.settles: also where no Redis is there all the time."""
    session: Calls[str] = Calls(b"queue", b"channel")
    collect(session, "timed", 100)
    collect(session, "untimed")
    session.attempt(0)
    session.lost("refused", 0, 0.0)

    assert isinstance(outcome(session), ConnectionLost), "there was no Redis from the beginning"
    assert session.connect_at() is not None
    session.tick(100)
    assert isinstance(outcome(session), JobTimeout)
