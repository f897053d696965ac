"""The connection that jobs are pushed on. A push doesn't wait: a task reads what Redis replies.

As `jobqueue.threads.pusher`. A push is never sent twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

from jobqueue.aio.link import Link
from jobqueue.errors import ConnectionLost, NotQueued
from jobqueue.protocol.commands import ErrorReply
from jobqueue.wire.pools import REPLY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import ConnectionPool

    from jobqueue.threads.pusher import Push


class Pusher:
    """Pushes to one queue, on one connection at a time.

    Args:
        pool: Where its connections come from.
        queue: The queue.
        refused: Called with the ids of jobs that Redis refused, and its words.
        lost: Called with the ids of jobs that may or may not have been pushed, and why.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        queue: bytes,
        refused: Callable[[Sequence[str], str], None],
        lost: Callable[[Sequence[str], ConnectionLost], None],
    ) -> None:
        self._pool = pool
        self._queue = queue
        self._refused = refused
        self._lost = lost
        self._opening = asyncio.Lock()
        self._connection: Link | None = None
        self._closed = False
        self._unanswered: deque[Push] = deque()
        self._task: asyncio.Task[None] | None = None

    async def push(self, messages: Sequence[bytes], job_ids: Sequence[str]) -> None:
        """Push messages in their order, in one command.

        Raises:
            NotQueued: There is no connection to push on; nothing was sent.
        """
        try:
            connection = self._connection or await self._usable()
        except ConnectionLost as error:
            raise NotQueued(f"no connection to push on: {error}") from error
        self._unanswered.append((job_ids, time.monotonic()))
        try:
            # client.push.left, client.push.once
            await connection.send([(b"LPUSH", self._queue, *messages)])
        except ConnectionLost:  # the task that reads settles what is unanswered
            if self._connection is connection:
                self._connection = None

    async def close(self) -> None:
        """Disconnect."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _usable(self) -> Link:
        async with self._opening:
            if self._closed:
                raise ConnectionLost("the client is closed")
            if self._connection is None:
                connection = await Link.open(self._pool, REPLY_SECONDS)
                self._connection, self._unanswered = connection, deque()
                self._task = asyncio.create_task(self._read(connection, self._unanswered))
            return self._connection

    async def _read(self, connection: Link, unanswered: deque[Push]) -> None:
        overdue: Push | None = None
        try:
            while True:
                try:
                    async with asyncio.timeout(REPLY_SECONDS):
                        while True:
                            self._answered(await connection.next_reply(), unanswered)
                except TimeoutError:
                    # Overdue twice: a loop that was held up has looked for a reply in between.
                    if unanswered and unanswered[0] is overdue:
                        raise ConnectionLost("Redis doesn't answer to a push") from None
                    overdue = unanswered[0] if unanswered else None
        except ConnectionLost as error:
            if self._connection is connection:
                self._connection = None
            # client.lost.settles: nobody knows whether these were pushed.
            for job_ids, _ in unanswered:
                self._lost(job_ids, error)
        finally:
            await connection.close()

    def _answered(self, reply: object, unanswered: deque[Push]) -> None:
        job_ids, _ = unanswered.popleft()
        if isinstance(reply, ErrorReply):
            # client.settle.not-queued
            self._refused(job_ids, reply.text)
