"""The subscription of a client: one thread that stays subscribed and hands over what arrives."""

from __future__ import annotations

import logging
import random
import threading
from typing import TYPE_CHECKING

from jobqueue.backoff import delay_seconds
from jobqueue.connection import Connection
from jobqueue.errors import ConnectionLost
from jobqueue.flows import Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import ConnectionPool

log = logging.getLogger("jobqueue.client")


class Subscription:
    """Subscribed to one channel, again after each lost connection.

    Args:
        pool: Where its connections come from.
        channel: The channel.
        arrived: Called with each message, in the thread of the subscription.
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
        self._changed = threading.Condition()
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None
        self._attempts = 0
        self._wanted = False
        self._closed = False
        self._error = ConnectionLost("the client is closed")

    @property
    def connection(self) -> Connection | None:
        """The connection that is subscribed now."""
        return self._connection

    def require(self, patience: float | None) -> Connection | None:
        """Return the subscribed connection, or try at once to make one and wait for the outcome.

        Returns:
            None where the outcome took more seconds than that.

        Raises:
            ConnectionLost: The attempt failed.
        """
        connection = self._connection
        if connection is not None:
            return connection
        if self._thread is threading.current_thread():  # in a callback of a job
            raise ConnectionLost("the subscription was lost a moment ago")
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._run, name="jobqueue subscription", daemon=True
                )
                self._thread.start()
            attempts = self._attempts
            self._wanted = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._connection is not None or self._attempts != attempts or self._closed,
                patience,
            )
            if self._connection is None and (self._attempts != attempts or self._closed):
                raise self._error
            return self._connection

    def close(self) -> None:
        """Disconnect, and end the thread; nothing arrives afterwards."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            connection = self._connection
        if connection is not None:
            connection.interrupt()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        failures = 0
        while not self._closed:
            try:
                connection = self._subscribed()
            except ConnectionLost as error:
                failures += 1
                self._tried(None, error)
            else:
                failures = 0
                self._tried(connection, None)
                self._listen(connection)
            with self._changed:
                # client.lost.resubscribes: at once where somebody waits, else after a back-off.
                delay = delay_seconds(failures + 1, random.random())  # noqa: S311 - no secret
                self._changed.wait_for(lambda: self._wanted or self._closed, delay)

    def _subscribed(self) -> Connection:
        connection = Connection(self._pool)
        try:
            connection.subscribe(self._channel)
        except ConnectionLost:
            connection.close()
            raise
        return connection

    def _tried(self, connection: Connection | None, error: ConnectionLost | None) -> None:
        with self._changed:
            self._connection = connection
            self._error = error or self._error
            self._attempts += 1
            self._wanted = False
            self._changed.notify_all()

    def _listen(self, connection: Connection) -> None:
        try:
            self._receive(connection)
        except ConnectionLost as error:
            if not self._closed:
                log.warning("channel=%s %s", self._channel, error)
        finally:
            with self._changed:
                self._connection = None
            connection.close()
            self._lost()

    def _receive(self, connection: Connection) -> None:
        pinged = False
        while not self._closed:
            push = connection.next_push()
            if push is None:
                if pinged:
                    raise ConnectionLost("Redis doesn't answer on the subscription")
                if self._awaited():
                    pinged = True
                    connection.send([(b"PING",)])
                continue
            pinged = False
            if isinstance(push, Refusal):
                raise Refused(f"Redis refused the subscription: {push.text}")
            if isinstance(push, list) and push[0] == b"message":
                self._arrived(push[2])
