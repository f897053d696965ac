"""One connection after another: what is lost is replaced, after waits that grow."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

from jobqueue.core.backoff import delay_seconds
from jobqueue.errors import ConnectionLost
from jobqueue.threads.link import Link
from jobqueue.wire.connection import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import ConnectionPool

    from jobqueue.threads.stop import Stop

log = logging.getLogger("jobqueue.server")

LAST_ATTEMPTS = 8  # in a row before a stop gives up, which takes about 4 seconds


class Connections:
    """The connections of one conversation that goes on until it comes to its end."""

    def __init__(self, pool: ConnectionPool, stop: Stop) -> None:
        self._pool = pool
        self._stop = stop
        self._failures = 0

    def converse(self, conversation: Callable[[Link], None], *, persist: bool) -> None:
        """Call the conversation, with a new connection each time that it raises ConnectionLost.

        Args:
            conversation: Returns when it has come to its end.
            persist: Whether to try again even where no connection was ever made.

        Raises:
            Unreachable: The first attempt found no Redis, or was refused; or many did in a row, and
                a stop is requested.
        """
        while True:
            try:
                connection = Link(self._pool)
                persist = True
                try:
                    conversation(connection)
                    return
                finally:
                    connection.close()
            except ConnectionLost as error:
                hopeless = self._stop.requested and self._failures >= LAST_ATTEMPTS
                if isinstance(error, Unreachable) and (hopeless or not persist):
                    raise
                # server.connection.survives
                self._failures += 1
                delay = delay_seconds(self._failures, random.random())  # noqa: S311 - no secret
                log.warning("%s; connecting again in %.2f s", error, delay)
                self._stop.sleep(delay)

    def works(self) -> None:
        """Note that Redis serves: the next wait is a short one again."""
        self._failures = 0
