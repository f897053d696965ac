"""Runs a session over a series of connections: a lost one is replaced, with exponential back-off.

This is the only place that connects. A session calls `Backoff.reset` when Redis has served it; a
connection alone doesn't prove that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.core.backoff import delay_seconds
from jobqueue.core.log import Log
from jobqueue.core.steps import (
    Connect,
    Jitter,
    Now,
    Pause,
    Refused,
    Sleep,
    Unreachable,
)
from jobqueue.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.core.lease import Lease
    from jobqueue.core.steps import Moment, Release, Rest, Steps

log = Log("jobqueue.server")

LAST_SECONDS = 4.0  # without success, before a requested stop gives up


class Backoff:
    """How long to wait before the next attempt to connect, and when to give up."""

    generation = 0  # of the connection, see `core.lease`

    def __init__(self) -> None:
        self._failures = 0
        self._failing_since = 0.0

    def reset(self) -> None:
        """Note that Redis serves: the next wait is short again."""
        self._failures = 0

    def failed(self, moment: Moment) -> None:
        """Note that a connection was lost or couldn't be made."""
        if not self._failures:
            self._failing_since = moment.seconds
        self._failures += 1

    def gives_up(self, moment: Moment) -> bool:
        """Tell whether a stop was requested and Redis has served nothing for 4 seconds."""
        # server.stop.unreachable
        return moment.stopping and moment.seconds - self._failing_since >= LAST_SECONDS

    def delay_seconds(self, jitter: float) -> float:
        """Return the next wait in seconds, given a random number from 0 to 1."""
        return delay_seconds(self._failures, jitter)


def run_with_reconnect(
    session: Callable[[Backoff], Steps[None]],
    lease: Lease | None = None,
    *,
    persist: bool = False,
    on_loss: Rest | Release | None = None,
) -> Steps[None]:
    """Connect and start the session, again each time that its connection is lost.

    Args:
        session: Returns when the session is finished. State that has to survive a lost connection
            is kept outside of the generator.
        lease: Which ends with the connection, for all sessions that share it.
        persist: Whether to try again even if the first attempt fails.
        on_loss: What gives back hands to the other queues of a server meanwhile.

    Raises:
        Unreachable: The first attempt found no Redis, or was refused; or a permission is missing.
        ConnectionLost: A stop was requested, and for 4 seconds Redis was away or refused what it
            was sent.
    """
    backoff = Backoff()
    while True:
        if lease is not None:
            backoff.generation = lease.generation
        try:
            yield Connect()
            persist = True
            yield from session(backoff)
        except ConnectionLost as error:
            # server.connection.start
            if isinstance(error, Unreachable) and (isinstance(error, Refused) or not persist):
                raise
            if lease is not None:
                lease.ends(backoff.generation)
            lost = error
        else:
            return
        if on_loss is not None:
            yield on_loss
        moment: Moment = yield Now()
        backoff.failed(moment)
        if backoff.gives_up(moment):
            raise lost
        # server.connection.survives
        delay = backoff.delay_seconds((yield Jitter()))
        if lease is not None:
            delay = min(delay, lease.seconds / 3)
        log.warning("%s; reconnecting in %.2f s", lost, delay)
        yield Sleep(delay) if moment.stopping else Pause(delay)
