"""One connection to Redis: commands go out in one write, replies come back in order.

It drives a connection of redis-py by hand, because redis-py's own commands take more round trips
and may repeat themselves. So TLS, ACL users, Sentinel and custom pools work as redis-py does them.

Every failure is a `ConnectionLost`, whatever redis-py raises, and then the connection is of no use
and has to be closed. It never connects again by itself: whoever owns it has to look at what the
loss has left behind.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from typing import TYPE_CHECKING, Any, TypeVar

from hiredis import pack_command
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobqueue.errors import ConnectionLost
from jobqueue.protocol.commands import ErrorReply, Unavailable
from jobqueue.wire.connection import error_reply, not_connected, packed, read_along, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from redis import ConnectionPool

    from jobqueue.protocol.commands import Command, Flow, Reply

Returned = TypeVar("Returned")

_pack: Callable[[Any], bytes] = pack_command  # hiredis annotates it for one argument only


class Link:
    """A connection taken out of a pool, connected when the constructor returns."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        try:
            connection: Any = pool.get_connection()
        except Exception as error:  # not only redis-py's: a host name can be no name at all
            raise not_connected(error) from error
        self._redis = connection
        self._redis.register_connect_callback(self._refuse_to_connect_again)

    def run(self, flow: Flow[Returned]) -> Returned:
        """Drive a flow from its beginning to its end."""
        commands = next(flow)
        self.send(commands)
        return self.proceed(flow, self.receive(len(commands)))

    def run_all(self, flows: list[Flow[Returned]]) -> Iterator[Returned]:
        """Drive flows whose first commands leave in one write; yield what they return, in order."""
        begun = [(flow, next(flow)) for flow in flows]
        self.send([command for _, commands in begun for command in commands])
        replies = [self.receive(len(commands)) for _, commands in begun]
        for flow, first in zip(flows, replies, strict=True):
            yield self.proceed(flow, first)

    def proceed(self, flow: Flow[Returned], replies: list[Reply]) -> Returned:
        """Drive a flow to its end, from the replies to what it has yielded."""
        try:
            while True:
                commands = flow.send(replies)
                self.send(commands)
                replies = self.receive(len(commands))
        except StopIteration as end:
            returned: Returned = end.value
            return returned

    def send(self, commands: Iterable[Command]) -> None:
        """Write commands, and don't wait for the replies."""
        try:
            self._redis.send_packed_command((packed(commands),), check_health=False)
        except Exception as error:
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error

    def receive(self, count: int) -> list[Reply]:
        """Read the replies to so many commands."""
        read = self._redis.read_response
        replies: list[Reply] = []
        while len(replies) < count:
            try:
                replies.append(reply(read(disable_decoding=True)))
            except ResponseError as error:
                replies.append(error_reply(error))
            except Exception as error:
                raise ConnectionLost(f"the connection to Redis is lost: {error}") from error
            replies += read_along(self._redis, count - len(replies))
        return replies

    def subscribe(self, channel: str) -> None:
        """Subscribe, and return with Redis's reply in hand."""
        self._skip_traces_of_pushes()
        self.send([(b"SUBSCRIBE", channel.encode())])
        answer = self.next_push()
        if not (isinstance(answer, list) and bytes(answer[0]) == b"subscribe"):
            text = answer.text if isinstance(answer, ErrorReply) else "no answer in time"
            raise Unavailable(f"Redis refused to subscribe: {text}")

    def next_push(self, seconds: float | None = None) -> Reply:
        """Wait for what Redis sends next, and return None where nothing comes in time.

        Args:
            seconds: How long that is; as long as the socket's timeout, if left out.
        """
        try:
            return reply(
                self._redis.read_response(
                    disable_decoding=True,
                    timeout=self._redis.socket_timeout if seconds is None else seconds,
                    disconnect_on_error=False,
                    push_request=True,
                )
            )
        except RedisTimeoutError:
            return None
        except ResponseError as error:
            return error_reply(error)
        except Exception as error:
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error

    def wait(self, seconds: float) -> None:
        """Wait until there may be something to read, at most so long; other threads may send.

        redis-py's own way to wait changes the socket's timeout under those threads.
        """
        sock = self._redis._sock  # noqa: SLF001 - which is None where a send has failed
        try:
            if not (isinstance(sock, ssl.SSLSocket) and sock.pending()):
                poll = select.poll()
                poll.register(sock, select.POLLIN)
                poll.poll(seconds * 1000)
        except (OSError, TypeError, ValueError) as error:
            raise ConnectionLost("the connection to Redis is lost: it is closed") from error

    def readable(self) -> bool:
        """Tell whether there is something to read, if only that the peer has closed."""
        try:
            return bool(self._redis.can_read(0))
        except Exception as error:
            raise ConnectionLost(f"the connection to Redis is lost: {error}") from error

    def interrupt(self) -> None:
        """Cut the connection, so that a thread that waits here for Redis learns of it."""
        # redis-py's own way out takes socket and parser away from under the thread that reads, and
        # SSLSocket's shutdown the TLS state.
        if (sock := self._redis._sock) is not None:  # noqa: SLF001
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Disconnect, and give the connection back to its pool; harmless when done twice."""
        self._redis.deregister_connect_callback(self._refuse_to_connect_again)
        self._redis.disconnect()
        self._pool.release(self._redis)

    def _refuse_to_connect_again(self, _: object) -> None:
        # redis-py connects in the middle of a send where somebody has disconnected its connection.
        self._redis.disconnect()
        raise RedisConnectionError("redis-py was about to connect again by itself")

    def _skip_traces_of_pushes(self) -> None:
        # Under RESP3 redis-py's default writes each message to a debug log, even where that is off.
        set_handler = getattr(self._redis._parser, "set_pubsub_push_handler", None)  # noqa: SLF001
        if set_handler is not None:
            set_handler(lambda push: push)
