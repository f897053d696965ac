"""The channels of detached jobs, in the core of a client: subscribed to before the push, and left afterwards."""

from __future__ import annotations

from jobqueue.calls.calls import Calls, State
from jobqueue.calls.kept import Keep
from jobqueue.calls.unsettled import Submission
from jobqueue.errors import ConnectionLost, NotQueued
from jobqueue.protocol.handles import Handle

from tests.calls.sessions import (
    COLLECT,
    HANDLE,
    LINKS,
    OWN,
    SUBSCRIBED,
    UNSUBSCRIBED,
    collect,
    core,
    detach,
    opened,
    outcome,
    pushed,
    reconnected,
    result,
    stored,
    subscribed,
)


@LINKS
def test_a_detached_job_has_a_channel_of_its_own(links: int) -> None:
    """client.kept.own-channel, client.subscribe.before-push, client.kept.handle: step by step."""
    session = core(links=links)
    detach(session)
    assert session.take_push(0) is None
    assert session.take_controls(0) == [(links - 1, (b"SUBSCRIBE", b"own"))]
    assert session.take_push(0) is None
    session.received(links - 1, [OWN], 1)
    assert session.take_controls(1) == [], "a new job has no result yet"
    assert session.take_push(1) == (b"LPUSH", b"queue", b"1")
    assert session.take_handles() == []
    session.received(0, [1], 2)

    assert session.take_handles() == [("1", str(HANDLE))]
    session.received(links - 1, [result("1"), result("2", channel=b"own")], 2)
    assert session.take_settled() == [], "another channel, another id"
    session.received(links - 1, [result("1", channel=b"own")], 2)
    assert outcome(session) == 7
    assert session.take_controls(2) == [(links - 1, (b"UNSUBSCRIBE", b"own"))]
    session.received(links - 1, [UNSUBSCRIBED], 2)
    assert session.take_controls(2) == []
    assert not session.has_controls, "nothing is left behind"


def test_a_result_before_the_reply_to_the_push_gives_the_handle() -> None:
    """client.kept.handle: Redis has the job, as its result shows; the reply gives no second one."""
    session = core()
    detach(session)
    subscribed(session)
    session.take_push(0)

    session.received(0, [result("1", channel=b"own"), 1], 1)

    assert session.take_handles() == [("1", str(HANDLE))]


def test_a_forged_result_settles_a_job_like_any_other() -> None:
    """client.settle.result, client.push.settled: it isn't pushed any more, and has no handle."""
    session = core()
    detach(session)
    session.take_controls(0)

    session.received(0, [OWN, result("1", channel=b"own")], 0)

    assert outcome(session) == 7
    assert session.take_push(0) is None
    assert session.take_handles() == []


def test_a_detached_job_is_found_after_a_loss() -> None:
    """client.kept.looks: when its own channel is subscribed to again."""
    session = core()
    detach(session)
    subscribed(session)
    pushed(session)
    reconnected(session)
    assert session.take_controls(2) == [(0, (b"SUBSCRIBE", b"own"))]

    session.received(0, [OWN], 2)

    assert session.take_controls(2) == [(0, COLLECT)]
    session.received(0, [stored("1")], 2)
    assert outcome(session) == 7


def test_an_unpushed_job_waits_for_its_channel_again() -> None:
    """client.subscribe.before-push: on the new connection, before it is pushed."""
    session = core()
    detach(session)
    subscribed(session)
    session.lost("cut", 1, 0.0)
    assert session.connect_at() < 1.1, "somebody waits for the push"
    opened(session, 2)
    assert session.take_push(2) is None
    subscribed(session, 2)

    assert session.take_push(2) == (b"LPUSH", b"queue", b"1")
    assert session.take_push(2) is None


def test_an_unpushed_job_is_not_queued_without_a_connection() -> None:
    """client.settle.unconnected: whether it waits for its channel or for its push."""
    session: Calls[str] = Calls(b"queue", b"channel")
    detach(session, deadline=100)
    session.attempt(0)

    session.lost("refused", 0, 0.0)

    assert isinstance(outcome(session), NotQueued)
    assert session.connect_at() is None


def test_an_unsubscription_waits_for_the_subscription() -> None:
    """client.kept.collects: the reply to one SUBSCRIBE is never taken for that to another."""
    session = core()
    collect(session, "c")
    session.take_controls(0)
    session.cancel("c")
    assert session.take_controls(0) == []
    session.received(0, [OWN], 0)
    assert session.take_controls(0) == [(0, (b"UNSUBSCRIBE", b"own"))]
    collect(session, "d")
    assert session.take_controls(0) == [(0, (b"SUBSCRIBE", b"own"))]
    session.received(0, [UNSUBSCRIBED], 0)
    assert session.take_controls(0) == []

    session.received(0, [OWN], 0)

    assert session.take_controls(0) == [(0, COLLECT)]


@LINKS
def test_a_handle_that_names_the_shared_channel_takes_it_from_nobody(links: int) -> None:
    """client.kept.collects, client.lost.waits: its result is found or arrives, and the channel stays."""
    session = core("1", links=links)
    forged = Handle.of(b"x", "1", "channel")
    for job in ("found", "arrives"):
        keep = Keep.collected(forged, delete=False)
        session.submit([Submission(job, job, None, None, keep)], None)
    assert all(command != b"UNSUBSCRIBE" for _, (command, _) in session.take_controls(0))
    session.received(links - 1, [SUBSCRIBED], 0)
    ((_, (asks, key)),) = session.take_controls(0)
    assert (asks, key) == (b"GET", b"queue:result:" + forged.digest)
    session.received(0, [stored("1", "8")], 0)
    assert outcome(session) == 8, "the job of this client with the same id isn't settled by it"

    session.received(links - 1, [result("1", "9")], 0)
    assert [each.job for each in session.take_settled()] == ["arrives", "1"]
    assert session.take_controls(0) == [], "the channel of all other jobs is kept"
    session.cancel("2")
    late = Keep.collected(forged, delete=False)
    session.submit([Submission("late", "late", None, None, late)], None)
    session.cancel("late")
    assert all(command == b"GET" for _, (command, _) in session.take_controls(0))


class _Channel(bytes):
    """A channel that counts how often one is looked for."""

    counted = 0

    def __hash__(self) -> int:
        _Channel.counted += 1
        return super().__hash__()


def test_a_detached_job_costs_the_same_however_many_others_wait() -> None:
    """Nothing walks through the channels of other jobs, as long as the connection lasts."""
    session = core()
    costs = []
    _Channel.counted = 0
    for job in map(str, range(100)):
        keep = Keep(job, 60)
        keep.channel = _Channel(b"own" + job.encode())
        session.submit([Submission(job, job, job.encode(), None, keep)], None)
        session.take_controls(0)
        session.received(0, [[b"subscribe", keep.channel, 2]], 0)
        assert session.take_push(0) is not None
        session.received(0, [1], 0)
        session.tick(0)
        session.take_controls(0)
        session.next_tick()
        costs.append(_Channel.counted)
        _Channel.counted = 0
    assert not session.has_controls
    for job in map(str, range(100)):
        own = _Channel(b"own" + job.encode())
        session.received(0, [result(job, channel=own)], 0)
        session.take_controls(0)
        session.received(0, [[b"unsubscribe", own, 2]], 0)
        session.take_controls(0)
        costs.append(_Channel.counted)
        _Channel.counted = 0

    assert len(session.take_settled()) == 100
    assert max(costs) <= 20, "and not as many as there are jobs"


def test_a_closed_client_pushes_detached_jobs_first() -> None:
    """What was submitted is pushed, and then the client ends."""
    session = core()
    detach(session)
    session.close(0)
    session.tick(0)
    subscribed(session)
    pushed(session)

    session.tick(0)

    assert session.state is State.CLOSED
    assert session.take_handles() == [("1", str(HANDLE))]
    assert isinstance(outcome(session), ConnectionLost)
