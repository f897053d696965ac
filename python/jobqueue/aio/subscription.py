"""The subscription of a client: a task that stays subscribed and hands over what arrives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING

from jobqueue.aio.link import Link
from jobqueue.core.backoff import delay_seconds
from jobqueue.errors import ConnectionLost
from jobqueue.protocol.commands import ErrorReply, Unavailable
from jobqueue.wire.pools import REPLY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import ConnectionPool

log = logging.getLogger("jobqueue.client")


class Subscription:
    """Subscribed to one channel, again after each lost connection.

    Args:
        pool: Where its connections come from.
        channel: The channel.
        arrived: Called with each message.
        lost: Called after each loss, when `connection` is None already.
        awaited: Tells whether anybody waits for a message; else a dead peer does no harm.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        channel: str,
        arrived: Callable[[bytes], None],
        lost: Callable[[], None],
        awaited: Callable[[], bool],
    ) -> None:
        self._pool = pool
        self._channel = channel
        self._arrived = arrived
        self._lost = lost
        self._awaited = awaited
        self._connection: Link | None = None
        self._task: asyncio.Task[None] | None = None
        self._attempt: asyncio.Future[Link | ConnectionLost] | None = None
        self._wanted = asyncio.Event()

    @property
    def connection(self) -> Link | None:
        """The connection that is subscribed now."""
        return self._connection

    async def require(self, patience: float | None) -> Link | None:
        """Return the subscribed connection, or try at once to make one and wait for the outcome.

        Returns:
            None where the outcome took more seconds than that.

        Raises:
            ConnectionLost: The attempt failed.
        """
        if self._connection is not None:
            return self._connection
        if self._attempt is None:
            self._attempt = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        self._wanted.set()
        try:
            async with asyncio.timeout(patience):
                outcome = await asyncio.shield(self._attempt)
        except TimeoutError:
            return None
        if isinstance(outcome, ConnectionLost):
            raise ConnectionLost(str(outcome))
        return outcome

    async def close(self) -> None:
        """Disconnect, and end the task; nothing arrives afterwards."""
        self._tried(ConnectionLost("the client is closed"))
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                connection = await self._subscribed()
            except ConnectionLost as error:
                failures += 1
                self._tried(error)
            else:
                failures = 0
                self._connection = connection
                self._tried(connection)
                await self._listen(connection)
            # client.lost.resubscribes: at once where somebody waits, else after a back-off.
            delay = delay_seconds(failures + 1, random.random())  # noqa: S311 - no secret
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), delay)

    async def _subscribed(self) -> Link:
        connection = await Link.open(self._pool, REPLY_SECONDS)
        try:
            await connection.subscribe(self._channel)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _tried(self, outcome: Link | ConnectionLost) -> None:
        self._wanted.clear()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.set_result(outcome)

    async def _listen(self, connection: Link) -> None:
        try:
            await self._receive(connection)
        except ConnectionLost as error:
            log.warning("channel=%s %s", self._channel, error)
        finally:
            self._connection = None
            await connection.close()
            self._lost()

    async def _receive(self, connection: Link) -> None:
        heard, pinged = True, False
        while True:
            try:
                async with asyncio.timeout(REPLY_SECONDS):
                    while True:  # one timeout for many messages, which costs each of them nothing
                        push = await connection.next_push()
                        heard, pinged = True, False
                        if isinstance(push, ErrorReply):
                            raise Unavailable(f"Redis refused the subscription: {push.text}")
                        if isinstance(push, list) and push[0] == b"message":
                            self._arrived(push[2])
            except TimeoutError:
                if pinged:
                    raise ConnectionLost("Redis doesn't answer on the subscription") from None
                if not heard and self._awaited():
                    pinged = True
                    await connection.send([(b"PING",)])
                heard = False
