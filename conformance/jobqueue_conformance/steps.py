"""Walks a server through its commands, one at a time, so that a test can look at Redis before each.

The walk begins when `steps` is called, so what it is about is pushed afterwards.
"""

from collections.abc import Callable, Iterator

from jobqueue_conformance.passage import Passage
from jobqueue_conformance.peer import Peer
from jobqueue_conformance.tap import Hold, Matches, Tap


def steps(
    tap: Tap, peer: Peer, matches: Matches, done: Callable[[], object], requirement: str
) -> Iterator[Passage]:
    """Each passage that matches, held while the loop's body looks, until there is no more to come.

    Args:
        tap: what holds.
        peer: what waits.
        matches: what is held.
        done: whether everything has happened.
        requirement: what is broken where it never does.
    """
    return _walk(tap, peer, matches, done, requirement, tap.hold(matches))


def _walk(
    tap: Tap,
    peer: Peer,
    matches: Matches,
    done: Callable[[], object],
    requirement: str,
    hold: Hold,
) -> Iterator[Passage]:
    while True:
        held = hold
        peer.wait(lambda: held.passage or done(), requirement, "the next step, or the last")  # noqa: B023
        if held.passage is None:
            break
        yield held.passage
        hold = tap.hold(matches)
        held.release()
    tap.forget(hold)
    hold.release()
