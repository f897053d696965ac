"""Jobs whose results are kept, in the core of a client: what it asks Redis, and what settles them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from jobqueue.calls.calls import AGAIN_SECONDS, RETRY_SECONDS, Calls, State
from jobqueue.calls.kept import Keep
from jobqueue.calls.times import KEEP_LIMIT_MS, keep_ms_of
from jobqueue.calls.unsettled import Submission
from jobqueue.errors import ConnectionLost, JobError, JobTimeout, NotQueued
from jobqueue.protocol.commands import ErrorReply
from jobqueue.protocol.handles import Handle
from jobqueue.protocol.messages import encode_job

SUBSCRIBED = [b"subscribe", b"channel", 1]
UNSUBSCRIBED = [b"unsubscribe", b"own", 1]
OWN = [b"subscribe", b"own", 2]
NOPERM = ErrorReply("NOPERM", "NOPERM this user has no permissions")
LOADING = ErrorReply("LOADING", "LOADING Redis is loading the dataset in memory")
HANDLE = Handle.of(b"1", "1", "own")
COLLECT = (b"GET", b"queue:result:" + HANDLE.digest)
BUSY = ErrorReply("BUSY", "BUSY Redis is busy running a script")
ASK = ErrorReply("ASK", "ASK 7 redis:6379")
LINKS = pytest.mark.parametrize("links", [1, 2])


def look(job: str) -> tuple[int, tuple[bytes, ...]]:
    """The look-up of the result of the job whose bytes are its id."""
    return 0, (b"GET", b"queue:result:" + Handle.of(job.encode(), job, "channel").digest)


def result(job: str, value: str = "7", channel: bytes = b"channel") -> list[Any]:
    """A message with the result of a job."""
    return [b"message", channel, stored(job, value)]


def stored(job: str, value: str = "7") -> bytes:
    """A stored result."""
    return f'{{"id": "{job}", "result": {value}}}'.encode()


def opened(session: Calls[str], now: float, links: int = 1) -> None:
    """Connect, and be subscribed."""
    session.attempt(now)
    session.connected(links, now)
    session.take_controls(now)
    session.received(links - 1, [SUBSCRIBED], now)


def core(*jobs: str, deadline: float | None = None, links: int = 1, seconds: float = 60) -> Any:
    """A session that is open at 0, with kept jobs that Redis has."""
    session: Calls[str] = Calls(b"queue", b"channel")
    opened(session, 0, links)
    for job in jobs:
        keep = Keep(job, seconds)
        session.submit([Submission(job, job, job.encode(), None, keep)], deadline)
        assert session.take_push(0) == (b"LPUSH", b"queue", job.encode())
    session.received(0, [1] * len(jobs), 0)
    return session


def detach(session: Calls[str], job: str = "1", deadline: float | None = None) -> None:
    """Submit a job with a channel of its own."""
    keep = Keep(job, 60, channel="own")
    session.submit([Submission(job, job, job.encode(), None, keep)], deadline)


def collect(
    session: Calls[str], job: str = "c", deadline: float | None = None, *, delete: bool = False
) -> None:
    """Collect the result of job 1 by its handle."""
    keep = Keep.collected(HANDLE, delete=delete)
    session.submit([Submission(job, job, None, None, keep)], deadline)


def outcome(session: Calls[str]) -> Any:
    """The one outcome that there is."""
    (settled,) = session.take_settled()
    return settled.error or settled.value


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
    session.take_push(0)
    session.received(0, [1], 0)
    session.submit([Submission("3", "3", b"3", None, Keep("3", 60))], 100)
    session.cancel("1")
    session.lost("cut", 1, 0.0)
    opened(session, 2)

    assert session.take_controls(2) == []
    assert session.take_push(2) == (b"LPUSH", b"queue", b"3")


@pytest.mark.parametrize(
    "found", [None, b"", b"{", stored("2"), b'{"id": "1"}', NOPERM, ErrorReply("WRONGTYPE", "W")]
)
def test_what_is_found_may_be_anything(found: object) -> None:
    """client.kept.looks, client.ignore.malformed: only a valid result with its id settles a job."""
    session = core("1", deadline=100)
    session.lost("cut", 1, 0.0)
    opened(session, 2)
    session.take_controls(2)

    session.received(0, [found], 2)

    assert session.take_settled() == []
    session.received(0, [result("1")], 2)
    assert outcome(session) == 7


def test_a_redis_that_loads_is_asked_again() -> None:
    """client.kept.looks: the connection counts as lost, and the look is repeated."""
    session = core("1", deadline=100)
    session.lost("cut", 1, 0.0)
    opened(session, 2)
    session.take_controls(2)

    with pytest.raises(ConnectionLost):
        session.received(0, [LOADING], 2)
    session.lost("loading", 2, 0.0)
    opened(session, 3)
    assert session.take_controls(3) == [look("1")]


def test_a_result_settles_while_the_look_is_outstanding() -> None:
    """client.settle.once: and what is found then is ignored, also for a job that was cancelled."""
    session = core("1", "2", deadline=100)
    session.lost("cut", 1, 0.0)
    opened(session, 2)
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
    session.take_controls(0)
    session.received(0, [OWN], 0)
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
    session.take_controls(0)
    session.received(0, [OWN], 0)
    session.take_push(0)
    session.received(0, [1], 0)
    session.lost("cut", 1, 0.0)
    opened(session, 2)
    assert session.take_controls(2) == [(0, (b"SUBSCRIBE", b"own"))]

    session.received(0, [OWN], 2)

    assert session.take_controls(2) == [(0, COLLECT)]
    session.received(0, [stored("1")], 2)
    assert outcome(session) == 7


def test_an_unpushed_job_waits_for_its_channel_again() -> None:
    """client.subscribe.before-push: on the new connection, before it is pushed."""
    session = core()
    detach(session)
    session.take_controls(0)
    session.received(0, [OWN], 0)
    session.lost("cut", 1, 0.0)
    assert session.connect_at() < 1.1, "somebody waits for the push"
    opened(session, 2)
    assert session.take_push(2) is None
    session.take_controls(2)
    session.received(0, [OWN], 2)

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
    session.take_controls(0)
    session.received(0, [OWN], 0)
    session.take_push(0)

    session.received(0, [ErrorReply("OOM", "OOM command not allowed")], 0)

    assert isinstance(outcome(session), NotQueued)
    assert session.take_handles() == []


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
    session.take_controls(0)
    session.received(0, [OWN], 0)
    session.take_controls(0)
    session.received(0, [None, result("1", "8", b"channel")], 0)
    assert session.take_controls(0) == [], "there is no polling"
    for now in (1, 100):
        session.lost("cut", now, 0.0)
        session.attempt(now)
        session.lost("refused", now, 0.0)
        opened(session, now)
        session.take_controls(now)
        session.received(0, [OWN], now)
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


def test_a_collected_result_may_be_deleted() -> None:
    """It is deleted when it was collected, and a refusal doesn't matter."""
    session = core()
    collect(session, delete=True)
    session.take_controls(0)
    session.received(0, [OWN], 0)
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


def test_who_may_not_look_collects_nothing() -> None:
    """client.kept.collects: to wait for the timeout would hide the missing permission."""
    session = core()
    collect(session, deadline=100)
    session.take_controls(0)
    session.received(0, [OWN], 0)
    session.take_controls(0)

    session.received(0, [NOPERM], 0)

    error = outcome(session)
    assert isinstance(error, ConnectionLost)
    assert "NOPERM" in str(error)


@pytest.mark.parametrize("error", [BUSY, ASK])
def test_a_busy_redis_is_asked_again(error: ErrorReply) -> None:
    """client.kept.looks, client.kept.collects: a second later, as often as it takes."""
    session = core("1", deadline=100)
    session.lost("cut", 1, 0.0)
    opened(session, 2)
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
    session.take_controls(0)
    session.received(0, [OWN], 0)
    session.take_push(0)
    session.received(0, [1], 0)
    session.lost("cut", 1, 0.0)
    opened(session, 2)
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
    session.take_controls(0)
    session.received(0, [[b"subscribe", b"own", 2]], 0)
    session.take_push(0)
    session.received(0, [1], 0)
    session.lost("cut", 1, 0.0)
    opened(session, 2)
    session.take_controls(2)
    session.received(0, [BUSY, result("2"), BUSY], 2)  # for the channel, and for job 1
    assert session.take_controls(2) == [], "2 is settled"
    session.cancel("1")
    session.cancel("3")
    assert session.take_controls(3) == []
    assert session.next_tick() is None

    collect(session, deadline=100)
    session.take_controls(3)
    session.received(0, [OWN], 3)
    session.take_controls(3)
    session.received(0, [result("1", channel=b"own"), BUSY], 3)
    session.take_controls(4)
    session.received(0, [UNSUBSCRIBED], 4)
    assert session.take_controls(9) == [], "it was settled while the look was outstanding"

    collect(session, deadline=100)
    session.take_controls(10)
    session.received(0, [OWN], 10)
    session.take_controls(10)
    session.received(0, [BUSY], 10)
    session.lost("cut", 10, 0.0)
    opened(session, 20)
    assert session.take_controls(20) == [(0, (b"SUBSCRIBE", b"own"))]
    assert session.take_controls(30) == [], "not before it is subscribed to again"


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
    session.take_controls(0)
    session.received(0, [OWN], 0)
    session.take_push(0)
    session.received(0, [1], 0)

    session.tick(0)

    assert session.state is State.CLOSED
    assert session.take_handles() == [("1", str(HANDLE))]
    assert isinstance(outcome(session), ConnectionLost)


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
