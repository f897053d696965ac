"""One connection after another: what is lost is replaced, after waits that grow."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

from jobqueue.aio.link import Link
from jobqueue.core.backoff import delay_seconds
from jobqueue.errors import ConnectionLost
from jobqueue.threads.connections import LAST_ATTEMPTS
from jobqueue.wire.connection import Unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import ConnectionPool

    from jobqueue.aio.stop import Stop

log = logging.getLogger("jobqueue.server")


class Connections:
    """The connections of one conversation that goes on until it comes to its end."""

    def __init__(self, pool: ConnectionPool, stop: Stop, patience: float) -> None:
        self._pool = pool
        self._stop = stop
        self._patience = patience
        self._failures = 0

    async def converse(
        self, conversation: Callable[[Link], Awaitable[None]], *, persist: bool
    ) -> None:
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
                connection = await Link.open(self._pool, self._patience)
                persist = True
                try:
                    await conversation(connection)
                    return
                finally:
                    await connection.close()
            except ConnectionLost as error:
                hopeless = self._stop.requested and self._failures >= LAST_ATTEMPTS
                if isinstance(error, Unreachable) and (hopeless or not persist):
                    raise
                # server.connection.survives
                self._failures += 1
                delay = delay_seconds(self._failures, random.random())  # noqa: S311 - no secret
                log.warning("%s; connecting again in %.2f s", error, delay)
                await self._stop.sleep(delay)

    def works(self) -> None:
        """Note that Redis serves: the next wait is a short one again."""
        self._failures = 0
