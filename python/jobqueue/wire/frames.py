"""Parses the bytes of a connection into frames, with hiredis.

redis-py reads one reply at a time, which costs more than parsing it, and handles push messages by
itself. A client has both on one connection, and a server reads the replies to many commands at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hiredis import HiredisError, PushNotification, Reader

from jobqueue.errors import ConnectionLost
from jobqueue.wire.connection import error_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.protocol.commands import Reply

_INCOMPLETE = object()


class Frames:
    """The parser of one connection. Errors become `ErrorReply`; messages are lists."""

    def __init__(self) -> None:
        make: Callable[..., Any] = Reader  # hiredis annotates less than it takes
        self._reader = make(replyError=error_of, notEnoughData=_INCOMPLETE)

    def of(self, data: bytes) -> list[Reply]:
        """Return the frames that these bytes complete.

        Raises:
            ConnectionLost: The bytes are not a valid part of Redis's protocol.
        """
        try:
            self._reader.feed(data)
            return list(iter(self._reader.gets, _INCOMPLETE))
        except HiredisError as error:
            raise ConnectionLost(f"the peer doesn't speak Redis's protocol: {error}") from error

    def replies(self, data: bytes) -> list[Reply]:
        """Do the same without push messages, which a server has no use for."""
        return [frame for frame in self.of(data) if type(frame) is not PushNotification]
