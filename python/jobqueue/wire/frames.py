"""From the bytes of a connection to what Redis says in them, by the parser of hiredis.

redis-py reads one reply at a time and decides by itself what is a message, so a client that has
both on one connection reads its socket by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hiredis import HiredisError, Reader

from jobqueue.errors import ConnectionLost
from jobqueue.protocol.commands import ErrorReply

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.protocol.commands import Reply

_INCOMPLETE = object()


class Frames:
    """What one connection has received; errors appear as `ErrorReply`, messages as lists."""

    def __init__(self) -> None:
        make: Callable[..., Any] = Reader  # hiredis annotates less than it takes
        self._reader = make(replyError=_error, notEnoughData=_INCOMPLETE)

    def of(self, data: bytes) -> list[Reply]:
        """Return the frames that are complete with these bytes.

        Raises:
            ConnectionLost: The bytes are not Redis's protocol.
        """
        reader, frames = self._reader, []
        try:
            reader.feed(data)
            while (frame := reader.gets()) is not _INCOMPLETE:
                frames.append(frame)
        except HiredisError as error:
            raise ConnectionLost(f"this isn't Redis: {error}") from error
        return frames


def _error(text: str) -> ErrorReply:
    return ErrorReply(text.partition(" ")[0], text)
