"""Walks a server through its commands, one at a time, so that a test can look at Redis before each.

The walk begins when `steps` is called, so what it is about is pushed afterwards.
"""

from collections.abc import Callable, Iterator

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.proxy.events import Event
from jobqueue_conformance.proxy.proxy import Hold, Matches, Proxy


def steps(
    proxy: Proxy, peer: Peer, matches: Matches, done: Callable[[], object], requirement: str
) -> Iterator[Event]:
    """Each event that matches, held while the loop's body looks, until no more can come.

    Args:
        proxy: what holds.
        peer: what waits.
        matches: what is held.
        done: whether everything has happened.
        requirement: what is broken where it never does.
    """
    return _walk(proxy, peer, matches, done, requirement, proxy.hold(matches))


def _walk(
    proxy: Proxy,
    peer: Peer,
    matches: Matches,
    done: Callable[[], object],
    requirement: str,
    hold: Hold,
) -> Iterator[Event]:
    while True:
        held = hold
        peer.wait(lambda: held.event or done(), requirement, "the next step, or the last")  # noqa: B023 - asked in this turn only
        if held.event is None:
            break
        yield held.event
        hold = proxy.hold(matches)
        held.release()
    proxy.forget(hold)
    hold.release()
