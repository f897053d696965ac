"""Which jobs an event settles, without a client."""

import pytest
from jobqueue.core.unsettled import Unsettled


@pytest.fixture
def jobs() -> Unsettled[str]:
    """Two jobs that were pushed, with a timeout and without, and two that weren't yet."""
    unsettled: Unsettled[str] = Unsettled()
    unsettled.register("1", "pushed", None)
    unsettled.register("2", "pushed, waits", 20.0)
    unsettled.register("3", "not pushed", None)
    unsettled.register("4", "not pushed, waits", 10.0)
    assert unsettled.pushing("1")
    assert unsettled.pushing("2")
    return unsettled


def test_a_job_is_settled_once(jobs: Unsettled[str]) -> None:
    """client.settle.once, client.ignore.unknown: who comes second gets nothing."""
    assert jobs.settle("1") == "pushed"
    assert jobs.settle("1") is None
    assert jobs.settle("never heard of") is None
    assert len(jobs) == 3


def test_a_settled_job_isnt_pushed(jobs: Unsettled[str]) -> None:
    """A job whose timeout passed while there was no connection never reaches the queue."""
    jobs.settle("3")

    assert not jobs.pushing("3")


def test_a_lost_subscription_settles_what_has_no_timeout(jobs: Unsettled[str]) -> None:
    """client.lost.settles, client.lost.waits: pushed and without a timeout; the rest waits on."""
    assert jobs.lost() == ["pushed"]
    assert jobs.settle("2") == "pushed, waits"
    assert jobs.settle("3") == "not pushed"


def test_a_lost_push_settles_its_own_jobs(jobs: Unsettled[str]) -> None:
    """client.lost.settles: only jobs that the connection carried are in doubt."""
    assert jobs.lost(["2", "3", "unknown"]) == []
    assert jobs.lost(["1"]) == ["pushed"]


def test_jobs_expire_in_the_order_of_their_deadlines(jobs: Unsettled[str]) -> None:
    """client.timeout.settles, client.timeout.local: not before the deadline, and not twice."""
    assert jobs.next_deadline() == 10.0
    assert jobs.expire(9.9) == []
    assert jobs.expire(20.0) == ["not pushed, waits", "pushed, waits"]
    assert jobs.expire(99.0) == []
    assert jobs.next_deadline() is None


def test_a_settled_job_doesnt_expire(jobs: Unsettled[str]) -> None:
    """client.settle.once: a deadline of a settled job is forgotten."""
    jobs.settle("4")

    assert jobs.next_deadline() == 20.0
    assert jobs.expire(10.0) == []


def test_closing_takes_all(jobs: Unsettled[str]) -> None:
    """Nothing is left to settle after the client is closed."""
    assert sorted(jobs.close()) == ["not pushed", "not pushed, waits", "pushed", "pushed, waits"]
    assert len(jobs) == 0
    assert jobs.next_deadline() is None


def test_deadlines_of_settled_jobs_dont_pile_up() -> None:
    """A million jobs with long timeouts leave no more behind than a few."""
    unsettled: Unsettled[int] = Unsettled()
    unsettled.register("keeps", -1, 5.0)
    for number in range(1_000):
        unsettled.register(str(number), number, 1_000.0)
        unsettled.settle(str(number))

    assert len(unsettled._deadlines) < 200
    assert unsettled.expire(5.0) == [-1]
