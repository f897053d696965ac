"""One function that reconnects: when it tries again, how long it waits, and when it gives up."""

from __future__ import annotations

from typing import Any

import pytest
from jobqueue.core.reconnect import LAST_SECONDS, Backoff, run_with_reconnect
from jobqueue.core.steps import (
    Connect,
    Jitter,
    Moment,
    Now,
    Pause,
    Room,
    Sleep,
    Step,
    Steps,
    Unreachable,
)
from jobqueue.errors import ConnectionLost

LOST = ConnectionLost("the connection is lost")
ABSENT = Unreachable("there is no Redis")


def waiting(_: Backoff) -> Steps[None]:
    """A session of one step that may fail."""
    yield Room(1)


def fail(session: Steps[None], error: Exception, *, at: float = 0, stopping: bool = False) -> Step:
    """Lose the connection at this time; return how the session waits, and have it connect again."""
    assert session.throw(error) == Now()
    assert session.send(Moment(at, stopping)) == Jitter()
    wait = session.send(1.0)
    assert session.send(None) == Connect()
    return wait


def test_a_session_that_ends_is_over() -> None:
    """No connection is made for nothing."""
    session = run_with_reconnect(waiting)

    assert [next(session), session.send(None)] == [Connect(), Room(1)]
    with pytest.raises(StopIteration):
        session.send(1)


def test_what_is_lost_is_replaced_for_ever() -> None:
    """server.connection.survives, server.connection.back-off: longer and longer waits."""
    session = run_with_reconnect(waiting)
    next(session)
    session.send(None)

    waits = [fail(session, error, at=n) for n, error in enumerate([LOST, ABSENT] * 50)]

    assert waits[:3] == [Pause(0.02), Pause(0.04), Pause(0.08)]
    assert waits[-1] == Pause(2.0)


def test_the_back_off_ends_where_redis_serves() -> None:
    """server.connection.back-off: a connection alone doesn't prove that."""

    def session(backoff: Backoff) -> Steps[None]:
        yield Room(1)
        backoff.reset()
        yield Room(2)

    lasting = run_with_reconnect(session)
    next(lasting)
    waits: list[Any] = []
    for served in (False, False, True):
        lasting.send(None)
        if served:
            lasting.send(None)
        waits.append(fail(lasting, LOST))

    assert waits == [Pause(0.02), Pause(0.04), Pause(0.02)]


@pytest.mark.parametrize("error,gives_up", [(ABSENT, True), (LOST, False)])
def test_a_redis_that_isnt_there_at_the_start_is_told(
    error: ConnectionLost, gives_up: bool
) -> None:
    """server.connection.start: unless another session was connected, or it hung up."""
    session, other = run_with_reconnect(waiting), run_with_reconnect(waiting, persist=True)
    next(session)
    next(other)

    assert fail(other, error) == Pause(0.02)
    if gives_up:
        with pytest.raises(Unreachable):
            session.throw(error)
    else:
        assert fail(session, error) == Pause(0.02)


@pytest.mark.parametrize("error", [LOST, ABSENT], ids=["refuses", "is away"])
def test_a_stop_gives_up_after_seconds_without_success(error: ConnectionLost) -> None:
    """server.stop.unreachable: whether Redis is away or refuses what it is sent."""
    session = run_with_reconnect(waiting)
    next(session)
    session.send(None)
    assert fail(session, error, at=100.0) == Pause(0.02)

    assert fail(session, error, at=100.1, stopping=True) == Sleep(0.04)
    session.throw(error)
    with pytest.raises(type(error)):
        session.send(Moment(100.0 + LAST_SECONDS, stopping=True))
