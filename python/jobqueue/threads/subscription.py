"""The subscription of a client: a thread stays subscribed, and one thread at a time receives.

To be woken by another thread takes a caller as long as a message takes from process to process. So
who waits for the only job under way receives for itself, for a moment, and the thread rests
meanwhile. Where more is under way, or a result takes longer, the thread receives for all.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING

from jobqueue.core.backoff import delay_seconds
from jobqueue.errors import ConnectionLost
from jobqueue.protocol.commands import ErrorReply, Unavailable
from jobqueue.threads.link import Link
from jobqueue.threads.spin import Spin

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import ConnectionPool

log = logging.getLogger("jobqueue.client")

MOMENT_SECONDS = 0.01  # how much later a result may come that nobody waits for, after such a turn


class Subscription:
    """Subscribed to one channel, again after each lost connection.

    Args:
        pool: Where its connections come from.
        channel: The channel.
        arrived: Called with each message, in the thread that has received it.
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
        self._turn = threading.Lock()  # held by the thread that receives
        self._caller: threading.Thread | None = None  # which holds it
        self._spin = Spin()  # of that caller
        self._asked = False  # by a caller, for the turn
        self._needed = threading.Event()  # the thread, to take the turn
        self._connection: Link | None = None
        self._thread: threading.Thread | None = None
        self._attempts = 0
        self._wanted = False
        self._closed = False
        self._error = ConnectionLost("the client is closed")

    @property
    def connection(self) -> Link | None:
        """The connection that is subscribed now."""
        return self._connection

    def require(self, patience: float | None) -> Link | None:
        """Return the subscribed connection, or try at once to make one and wait for the outcome.

        Returns:
            None where the outcome took more seconds than that.

        Raises:
            ConnectionLost: The attempt failed.
        """
        connection = self._connection
        if connection is not None:
            return connection
        if self._runs_callbacks():
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

    def attend(self, settled: Callable[[], bool], seconds: float | None) -> None:
        """Receive in the caller's thread until that is settled; the caller may have to wait on.

        Args:
            settled: Tells whether it is.
            seconds: How long at most. It is no longer than a moment, and no time where another
                thread receives: that will leave the caller the turn when nothing is under way.
        """
        patience = MOMENT_SECONDS if seconds is None else min(seconds, MOMENT_SECONDS)
        until = time.monotonic() + patience
        if not self._turn.acquire(blocking=False):
            self._asked = True
            return
        self._caller = threading.current_thread()
        try:
            while (connection := self._connection) and not settled():
                self._spin.wait(connection.readable)
                if (left := until - time.monotonic()) <= 0:
                    break
                self._receive(connection, left)
        except ConnectionLost:
            pass  # the thread of the subscription meets it, too
        except BaseException:  # a Control-C may have left half a message unread
            self._interrupt()
            raise
        finally:
            self._caller = None
            self._turn.release()
            if self._awaited():
                self.take_over()

    def take_over(self) -> None:
        """Have the thread receive, as soon as it is its turn."""
        if not self._needed.is_set():  # setting it takes a lock, and here every push comes by
            self._needed.set()

    def close(self) -> None:
        """Disconnect, and end the thread; nothing arrives afterwards."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._interrupt()
        if self._thread is not None and not self._runs_callbacks():
            self._thread.join()

    def _interrupt(self) -> None:
        """Give the connection up, and have the thread meet its end."""
        with self._changed:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.interrupt()
        self.take_over()

    def _runs_callbacks(self) -> bool:
        """Tell whether the current thread may be in a callback of a job, and must not wait here."""
        return threading.current_thread() in (self._thread, self._caller)

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

    def _subscribed(self) -> Link:
        connection = Link(self._pool)
        try:
            connection.subscribe(self._channel)
        except ConnectionLost:
            connection.close()
            raise
        return connection

    def _tried(self, connection: Link | None, error: ConnectionLost | None) -> None:
        with self._changed:
            self._connection = connection
            self._error = error or self._error
            self._attempts += 1
            self._wanted = False
            self._changed.notify_all()

    def _listen(self, connection: Link) -> None:
        try:
            self._serve(connection)
        except ConnectionLost as error:
            if not self._closed:
                log.warning("channel=%s %s", self._channel, error)
        finally:
            with self._turn, self._changed:
                self._connection = None
            connection.close()
            self._lost()

    def _serve(self, connection: Link) -> None:
        pinged = False
        while not self._closed:
            with self._turn:
                if self._receive(connection):
                    pinged = False
                elif pinged:
                    raise ConnectionLost("Redis doesn't answer on the subscription")
                elif self._awaited():
                    pinged = True
                    connection.send([(b"PING",)])
            if self._asked and not self._awaited():
                self._rest()

    def _rest(self) -> None:
        """Leave the turn to callers, until none of them has it, or the thread is needed."""
        self._asked = False
        while not self._needed.wait(MOMENT_SECONDS) and self._turn.locked():
            pass
        self._needed.clear()

    def _receive(self, connection: Link, seconds: float | None = None) -> bool:
        """Hand over what comes next; False where nothing has come in time."""
        push = connection.next_push(seconds)
        if isinstance(push, ErrorReply):
            raise Unavailable(f"Redis refused the subscription: {push.text}")
        if isinstance(push, list) and push[0] == b"message":
            self._arrived(push[2])
        return push is not None
