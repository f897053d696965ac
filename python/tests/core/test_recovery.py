"""What a server recovers, and when it looks."""

import pytest
from jobqueue.core import recovery
from jobqueue.core.backoff import FIRST_SECONDS, LIMIT_SECONDS, delay_seconds
from jobqueue.core.recovery import Looks
from jobqueue.protocol.messages import Answer, Dead

FIRST = Answer(b"a", b"c", "1", b"first")
SECOND = Answer(b"a", b"c", "1", b"second")
OTHER = Dead(b"b", "junk")


@pytest.mark.parametrize(
    "entries,running,expected",
    [
        ([], [], []),
        ([b"a", b"b"], [], [b"a", b"b"]),
        ([b"a", b"b"], [b"a"], [b"b"]),
        ([b"a", b"b", b"a"], [b"a"], [b"b", b"a"]),
        ([b"a", b"a"], [b"a", b"a", b"a"], []),
        ([b"b"], [b"a"], [b"b"]),
    ],
)
def test_strays_are_a_difference_of_multisets(
    entries: list[bytes], running: list[bytes], expected: list[bytes]
) -> None:
    """server.recovery.running: of identical entries, as many are recovered as aren't running."""
    assert recovery.strays(entries, running) == expected


def test_what_is_finished_is_published_again() -> None:
    """server.publish.again: the same bytes once more, unless the entry is gone from the list."""
    work = recovery.unfinished([b"x", b"a", b"a", b"a"], [FIRST, OTHER, SECOND])

    assert work == [b"x", FIRST, SECOND, b"a"]


def test_the_list_is_looked_at_on_each_connection_and_every_5_seconds() -> None:
    """server.recovery.second-look, server.recovery.stray: whatever T is now."""
    looks = Looks(0.3)
    looks.connected(10.0)

    assert looks.due(10.0)
    looks.looked(10.1)
    assert [looks.due(now) for now in (10.2, 15.0, 15.1)] == [False, False, True]
    looks.looked(15.2)
    assert [looks.due(now) for now in (20.1, 20.2)] == [False, True]
    looks.connected(16.0)
    assert looks.due(16.0)


def test_claims_block_for_t_and_not_beyond_the_next_look() -> None:
    """server.recovery.block: a claim that blocks for T would make the look late."""
    looks = Looks(2.0)
    looks.looked(10.0)

    assert [looks.claiming(now) for now in (10.0, 13.0, 14.5)] == [2.0, 2.0, 0.5]


def test_a_stop_waits_for_a_lost_claim_and_for_no_other() -> None:
    """server.stop.drains: T after the connection that replaced the claim's, across further losses."""
    looks = Looks(2.0)
    looks.connected(10.0)
    looks.claiming(10.0)
    looks.claimed()
    looks.connected(11.0)
    assert looks.last_look(11.0) is None  # the claim was answered

    looks.claiming(11.0)
    looks.connected(12.0)  # the claim was lost
    looks.looked(12.0)
    assert looks.last_look(12.5) == 1.5
    looks.connected(13.0)  # another loss, without a claim
    looks.looked(13.9)
    assert looks.last_look(13.9) == pytest.approx(0.1)
    assert looks.last_look(14.5) == 0.0
    looks.looked(14.5)
    assert looks.last_look(14.5) is None


def test_a_lost_adoption_may_have_moved_what_a_look_finds() -> None:
    """server.attempts.counts: until a look T later; a lost claim is another matter."""
    looks = Looks(2.0)
    looks.connected(10.0)
    looks.adopting()
    looks.claimed()
    looks.claiming(10.0)
    looks.connected(11.0)  # the claim was lost, the adoption wasn't
    assert not looks.looked(11.0)

    looks.adopting()
    looks.connected(12.0)
    assert looks.looked(12.0)
    looks.adopting()
    looks.claimed()
    looks.connected(13.0)
    assert [looks.looked(now) for now in (13.9, 14.0, 14.1)] == [True, True, False]


def test_waits_grow_up_to_a_limit() -> None:
    """server.connection.back-off: longer each time, up to a limit, jittered downwards."""
    longest = [delay_seconds(failures, 1.0) for failures in (1, 2, 3, 20, 10_000)]

    assert longest == [FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS, *[LIMIT_SECONDS] * 2]
    assert delay_seconds(1, 0.0) == FIRST_SECONDS / 2
