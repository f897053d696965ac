"""What a server recovers, and when it looks."""

import pytest
from jobqueue.core import recovery
from jobqueue.core.backoff import FIRST_SECONDS, LIMIT_SECONDS, delay_seconds
from jobqueue.core.recovery import SecondLook
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


def test_the_second_look_is_due_once() -> None:
    """server.recovery.second-look: T after the connection was made."""
    look = SecondLook(10.0, 2.0)

    assert [look.due(now) for now in (10.0, 11.9, 12.0)] == [False, False, True]
    look.done = True
    assert not look.due(13.0)


def test_claims_dont_block_beyond_the_second_look() -> None:
    """server.recovery.second-look: a claim that blocks for T would make it late."""
    look = SecondLook(10.0, 2.0)

    assert look.block_seconds(11.5) == look.remaining(11.5) == 0.5
    assert look.remaining(13.0) == 0.0
    look.done = True
    assert look.block_seconds(13.0) == 2.0


def test_waits_grow_up_to_a_limit() -> None:
    """server.connection.back-off: longer each time, up to a limit, jittered downwards."""
    longest = [delay_seconds(failures, 1.0) for failures in (1, 2, 3, 20, 10_000)]

    assert longest == [FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS, *[LIMIT_SECONDS] * 2]
    assert delay_seconds(1, 0.0) == FIRST_SECONDS / 2
