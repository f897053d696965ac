"""Parses the bytes of a connection into frames, with hiredis.

redis-py reads one reply at a time and handles push messages by itself. A client has both on one
connection, so it parses the bytes without redis-py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hiredis import HiredisError, Reader

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
        reader, frames = self._reader, []
        try:
            reader.feed(data)
            while (frame := reader.gets()) is not _INCOMPLETE:
                frames.append(frame)
        except HiredisError as error:
            raise ConnectionLost(f"the peer doesn't speak Redis's protocol: {error}") from error
        return frames
