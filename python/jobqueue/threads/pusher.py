"""The connection that jobs are pushed on. A push doesn't wait: a thread reads what Redis replies.

So a push costs one write, however slow Redis is, and a job can be settled by its result before the
reply to its push is there. A push is never sent twice.

The thread rests between two looks: waking at each reply, it would take the interpreter from the
threads that push and that settle jobs, in the middle of a round trip.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from jobqueue.errors import ConnectionLost, NotQueued
from jobqueue.protocol.commands import ErrorReply
from jobqueue.threads.link import Link
from jobqueue.wire.pools import REPLY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis import ConnectionPool

    Push = tuple[Sequence[str], float]  # the ids of the jobs in one LPUSH, and when it was sent

REST_SECONDS = 0.01  # how much later a refused push or a lost connection may be noticed


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
        self._lock = threading.Lock()
        self._connection: Link | None = None
        self._closed = False
        self._unanswered: deque[Push] = deque()

    def push(self, messages: Sequence[bytes], job_ids: Sequence[str]) -> None:
        """Push messages in their order, in one command.

        Raises:
            NotQueued: There is no connection to push on; nothing was sent.
        """
        with self._lock:
            try:
                connection = self._usable()
            except ConnectionLost as error:
                raise NotQueued(f"no connection to push on: {error}") from error
            push = (job_ids, time.monotonic())
            self._unanswered.append(push)
            try:
                # client.push.left, client.push.once
                connection.send([(b"LPUSH", self._queue, *messages)])
            except ConnectionLost:
                self._connection = None
                connection.interrupt()  # the thread that reads settles what is unanswered

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.interrupt()

    def _usable(self) -> Link:
        if self._closed:
            raise ConnectionLost("the client is closed")
        connection = self._connection
        if connection is not None and not self._unanswered and _closed(connection):
            connection = None
        if connection is None:
            self._connection = connection = Link(self._pool)
            self._unanswered = deque()
            threading.Thread(
                target=self._read,
                args=(connection, self._unanswered),
                name="jobqueue pusher",
                daemon=True,
            ).start()
        return connection

    def _read(self, connection: Link, unanswered: deque[Push]) -> None:
        try:
            while True:
                connection.wait(REPLY_SECONDS)
                self._answered(connection, unanswered)
                time.sleep(REST_SECONDS)
                if unanswered and time.monotonic() - unanswered[0][1] > REPLY_SECONDS:
                    raise ConnectionLost("Redis doesn't answer to a push")  # noqa: TRY301
        except ConnectionLost as error:
            with self._lock:
                if self._connection is connection:
                    self._connection = None
                connection.close()
            # client.lost.settles: nobody knows whether these were pushed.
            for job_ids, _ in unanswered:
                self._lost(job_ids, error)

    def _answered(self, connection: Link, unanswered: deque[Push]) -> None:
        refused = []
        with self._lock:  # TLS allows no read while another thread writes
            while connection.readable():
                reply = connection.next_push()
                if not isinstance(reply, int | ErrorReply):
                    continue  # under RESP3 Redis may tell of other things, unasked
                job_ids, _ = unanswered.popleft()
                if isinstance(reply, ErrorReply):
                    refused.append((job_ids, reply.text))
        for job_ids, text in refused:
            # client.settle.not-queued
            self._refused(job_ids, text)


def _closed(connection: Link) -> bool:
    """Tell whether an idle connection was closed by the peer; noticed in time, that costs no job."""
    try:
        if not connection.readable():
            return False
    except ConnectionLost:
        return True
    connection.interrupt()  # all that Redis could have to say now is that it is going
    return True
