"""What a client decides about its jobs: by example, and in worlds that a seed makes."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from jobqueue.calls import calls
from jobqueue.calls.calls import Calls, State
from jobqueue.calls.links import REPLY_TIMEOUT_SECONDS
from jobqueue.calls.times import deadline_of
from jobqueue.calls.unsettled import Settled, Submission, Unsettled
from jobqueue.errors import ConnectionLost, JobTimeout, NotQueued
from jobqueue.protocol.commands import ErrorReply

from tests.calls import virtual
from tests.calls.sessions import SUBSCRIBED, outcome, result

SEEDS = 2_000


def core(*jobs: str, deadline: float | None = None, links: int = 1) -> Calls[str]:
    """A session that is open at 0, with jobs that are pushed."""
    session: Calls[str] = Calls(b"queue", b"channel")
    session.attempt(0)
    session.connected(links, 0)
    assert session.take_controls(0) == [(links - 1, (b"SUBSCRIBE", b"channel"))]
    session.received(links - 1, [SUBSCRIBED], 0)
    submit(session, *jobs, deadline=deadline)
    if jobs:
        assert session.take_push(0) == (b"LPUSH", b"queue", *map(str.encode, jobs))
    return session


def submit(session: Calls[str], *jobs: str, deadline: float | None = None) -> None:
    """Submit jobs whose bytes are their ids."""
    session.submit([Submission(job, job, job.encode()) for job in jobs], deadline)


def test_whatever_happens_the_invariants_hold() -> None:
    """client.settle.once and what virtual.py lists, in thousands of worlds, with all outcomes."""
    outcomes: Counter[str] = Counter()
    for seed in range(SEEDS):
        world = virtual.run(seed)
        outcomes.update(type(outcome).__name__ for outcome in world.settled.values())
        outcomes["cancelled"] += len(world.cancelled)

    assert min(outcomes.values()) > SEEDS / 10
    assert {"str", "JobTimeout", "NotQueued", "ConnectionLost", "cancelled"} <= set(outcomes)


def test_a_world_that_is_wrong_names_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A core that pushes what is settled is noticed, and the message says how to see it again."""
    monkeypatch.setattr(Unsettled, "remove", lambda jobs, job_id: jobs.calls.get(job_id))

    with pytest.raises(AssertionError, match=r"seed \d+ at"):
        all(map(virtual.run, range(SEEDS)))


def test_jobs_wait_for_the_subscription() -> None:
    """client.subscribe.before-push: pushed in their order, one command for what came together."""
    session: Calls[str] = Calls(b"queue", b"channel")
    assert session.connect_at() is None
    submit(session, "1", "2")
    submit(session, "3")
    at = session.connect_at()
    assert at is not None
    assert at <= 0

    session.attempt(0)
    session.connected(1, 0)
    assert session.take_push(0) is None
    session.received(0, [SUBSCRIBED], 0)

    assert session.take_push(0) == (b"LPUSH", b"queue", b"1", b"2")
    assert session.take_push(0) == (b"LPUSH", b"queue", b"3")
    assert session.take_push(0) is None


def test_what_is_settled_while_it_waits_is_not_pushed() -> None:
    """client.push.settled: neither what timed out nor what was cancelled; no command is empty."""
    session: Calls[str] = Calls(b"queue", b"channel")
    submit(session, "late", "cancelled", deadline=1)
    submit(session, "open")
    session.cancel("cancelled")
    session.attempt(0)
    session.tick(1)
    assert isinstance(outcome(session), JobTimeout)

    session.connected(1, 1)
    session.received(0, [SUBSCRIBED], 1)

    assert session.take_push(1) == (b"LPUSH", b"queue", b"open")
    assert session.waiting_bytes == 0


def test_a_result_overtakes_the_reply_and_counts_once() -> None:
    """client.settle.result, client.settle.once, client.ignore.unknown."""
    session = core("1")

    session.received(0, [result("1"), 1, result("1")], 0)

    assert session.take_settled() == [Settled("1", 7, None)]


@pytest.mark.parametrize("links", [1, 2])
def test_what_a_loss_does(links: int) -> None:
    """client.lost.settles, client.lost.waits: what may have run, and what hasn't been pushed."""
    session = core("1", links=links)
    submit(session, "2", deadline=50)
    session.take_push(0)
    submit(session, "3")

    session.lost("it is cut", 1, 0.5)

    assert isinstance(outcome(session), ConnectionLost)
    assert session.connect_at() == pytest.approx(1, abs=calls.URGENT_SECONDS)
    session.attempt(2)
    session.lost("no way", 2, 0.5)
    assert isinstance(outcome(session), NotQueued)
    assert len(session) == 1
    at = session.connect_at()
    assert at is not None
    assert at > 2


@pytest.mark.parametrize("code", ["READONLY", "LOADING", "MASTERDOWN"])
def test_a_redis_that_cant_serve_ends_the_connection(code: str) -> None:
    """client.settle.not-queued: its own job, and the messages behind the error are read, too."""
    session = core("1")
    submit(session, "2", deadline=9)
    session.take_push(0)

    with pytest.raises(ConnectionLost, match=code):
        session.received(0, [ErrorReply(code, f"{code} now"), result("2")], 0)

    refused, answered = session.take_settled()
    assert isinstance(refused.error, NotQueued)
    assert answered == Settled("2", 7, None)


@pytest.mark.parametrize("code", ["OOM", "WRONGTYPE", "NOPERM"])
def test_a_refusal_settles_its_own_job(code: str) -> None:
    """client.settle.not-queued: the connection is as good as before."""
    session = core("1")
    submit(session, "2")
    session.take_push(0)

    session.received(0, [ErrorReply(code, f"{code} now"), 1, result("2")], 0)

    refused, answered = session.take_settled()
    assert (refused.job, type(refused.error)) == ("1", NotQueued)
    assert answered.value == 7


def test_a_refused_subscription_is_a_failed_attempt() -> None:
    """Section 8: an error on the subscription counts as a lost connection."""
    session: Calls[str] = Calls(b"queue", b"channel")
    submit(session, "1")
    session.attempt(0)
    session.connected(1, 0)

    with pytest.raises(ConnectionLost, match="NOPERM"):
        session.received(0, [ErrorReply("NOPERM", "NOPERM it is")], 0)
    session.lost("refused", 0, 0)

    assert isinstance(outcome(session), NotQueued)


@pytest.mark.parametrize("frame", [1, b"PONG", [], ErrorReply("ERR", "ERR")])
def test_an_unexpected_reply_ends_the_connection(frame: Any) -> None:
    """client.lost.settles: replies that can't be matched any more match nothing."""
    with pytest.raises(ConnectionLost, match="unexpected reply"):
        core().received(0, [frame], 0)


def test_what_redis_tells_unasked_is_ignored() -> None:
    """client.ignore.malformed: messages of other kinds, and no results."""
    session = core("1")
    session.received(0, [[b"invalidate", []], SUBSCRIBED, [b"message", b"channel", b"{"]], 0)
    assert session.take_settled() == []


@pytest.mark.parametrize("links", [1, 2])
def test_a_silent_redis_is_noticed(links: int) -> None:
    """client.connection.silent: a PING on each link, and then the connection is lost."""
    session = core("1", links=links)
    session.received(0, [1], 1)
    silence = REPLY_TIMEOUT_SECONDS
    session.tick(1 + silence)
    assert session.take_controls(0) == [(link, (b"PING",)) for link in range(links)]
    for link in range(links):
        session.received(link, [[b"pong", b""] if link else b"PONG"], 2 + silence)
    session.tick(2 + 2 * silence)
    assert session.take_controls(0)
    assert session.next_tick() == 2 + 3 * silence

    with pytest.raises(ConnectionLost, match="no reply"):
        session.tick(2 + 3 * silence)


def test_an_idle_client_asks_nothing() -> None:
    """A connection without jobs isn't pinged."""
    session = core()
    session.tick(1_000)
    assert session.take_controls(0) == []
    assert session.next_tick() is None


def test_an_attempt_that_never_ends_has_failed() -> None:
    """client.settle.unconnected: whatever connecting waits for."""
    session: Calls[str] = Calls(b"queue", b"channel")
    submit(session, "1")
    session.attempt(0)
    assert session.next_tick() == calls.ATTEMPT_SECONDS

    with pytest.raises(ConnectionLost, match="within"):
        session.tick(calls.ATTEMPT_SECONDS)


def test_closing_pushes_what_waits() -> None:
    """A closed client ends when Redis has what was submitted, and takes nothing more."""
    session = core("1")
    submit(session, "2", deadline=50)
    session.close(0)
    session.close(9)
    submit(session, "3")
    assert isinstance(outcome(session), NotQueued)

    session.tick(0)
    assert len(session) == 2
    session.take_push(0)
    session.received(0, [1, 2], 1)
    session.tick(1)

    assert session.state is State.CLOSED
    assert [type(settled.error) for settled in session.take_settled()] == [ConnectionLost] * 2
    assert session.next_tick() is None
    submit(session, "4")
    assert isinstance(outcome(session), NotQueued)


def test_a_released_session_ends_with_its_last_job() -> None:
    """A caller that waits for a job gets its result, though the client was dropped."""
    session = core("1")
    session.take_push(0)
    session.release()
    session.tick(1)
    assert len(session) == 1

    session.received(0, [1, [b"message", b"channel", b'{"id": "1", "result": 5}']], 2)
    assert session.next_tick() is not None
    session.tick(2)

    assert session.state is State.CLOSED
    assert [settled.value for settled in session.take_settled()] == [5]
    assert session.next_tick() is None


def test_closing_takes_a_short_time_at_most() -> None:
    """What Redis doesn't take within that is given up."""
    session = core("1")
    session.close(0)
    assert session.next_tick() == calls.CLOSE_SECONDS
    session.tick(calls.CLOSE_SECONDS)
    assert session.state is State.CLOSED


def test_an_event_that_cant_happen_changes_nothing() -> None:
    """The table of states has no entry for it."""
    session = core()
    with pytest.raises(ValueError, match="OPEN"):
        session.attempt(0)
    assert session.state is State.OPEN


def test_settled_jobs_leave_no_deadlines_behind() -> None:
    """A client that lives long keeps nothing of what is over."""
    session = core()
    for number in range(1_000):
        submit(session, str(number), deadline=1e6)
        session.take_push(0)
        session.received(0, [result(str(number)), 1], 0)
    assert len(session._jobs._deadlines._heap) < 110
    assert session.next_tick() is None


@pytest.mark.parametrize("timeout", [None, math.inf, 2e9, 2**2000])
def test_a_timeout_without_end_is_none(timeout: float | None) -> None:
    """client.timeout.settles: it never passes."""
    assert deadline_of(timeout, 5) is None


@pytest.mark.parametrize("timeout", [-1, -math.inf, math.nan])
def test_what_is_not_a_timeout_is_refused(timeout: float) -> None:
    """A mistake of the caller."""
    with pytest.raises(ValueError, match="timeout"):
        deadline_of(timeout, 5)
    assert deadline_of(1, 5) == 6
