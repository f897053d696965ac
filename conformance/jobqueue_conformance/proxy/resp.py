"""Splits a stream of bytes into the frames of RESP2 and RESP3, and takes commands apart.

Pure: bytes in, bytes out. A frame is never changed, and its values are read only on demand.
"""

import shlex

import hiredis

MESSAGES = frozenset({b"message", b"pmessage", b"smessage", b"invalidate"})
ELEMENTS_PER_COUNT = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}
WITH_LENGTH = frozenset({b"$", b"=", b"!"})


class InvalidFrame(ValueError):
    """These bytes are not valid RESP."""


class Splitter:
    """Takes bytes as they arrive and returns whole frames."""

    def __init__(self, *, inline: bool = False) -> None:
        """Split replies, or commands, which can be `inline`: words on a line, as typed into telnet."""
        self._buffer = bytearray()
        self._inline = inline

    def feed(self, received: bytes) -> None:
        """Add what was received."""
        self._buffer += received

    def next(self) -> bytes | None:
        """The next whole frame; None while some of it is missing."""
        if not self._buffer:
            return None
        if self._inline and self._buffer[:1] != b"*":
            end = self._buffer.find(b"\n") + 1 or None
        else:
            end = frame_end(self._buffer)
        if end is None:
            return None
        frame = bytes(self._buffer[:end])
        del self._buffer[:end]
        return frame

    def __len__(self) -> int:
        """How many bytes are buffered."""
        return len(self._buffer)

    @property
    def rest(self) -> bytes:
        """Everything that is buffered."""
        return bytes(self._buffer)

    def take(self) -> bytes:
        """Everything that is buffered, which is forgotten."""
        rest = self.rest
        self._buffer.clear()
        return rest


def frame_end(buffer: bytes | bytearray, start: int = 0) -> int | None:
    """Where the frame that begins at `start` ends; None while some of it is missing."""
    at, missing = start, 1
    while missing:
        line_end = buffer.find(b"\r\n", at)
        if line_end < 0:
            return None
        kind = bytes(buffer[at : at + 1])
        missing -= 1
        if kind in ELEMENTS_PER_COUNT:
            count = max(_number(buffer, at, line_end), 0)  # a nil array counts -1
            missing += count * ELEMENTS_PER_COUNT[kind]
            missing += kind == b"|"  # an attribute stands before the frame that it belongs to
        at = line_end + 2 + (_size(buffer, at, line_end) if kind in WITH_LENGTH else 0)
    return at if at <= len(buffer) else None


def _size(buffer: bytes | bytearray, at: int, line_end: int) -> int:
    length = _number(buffer, at, line_end)
    return 0 if length < 0 else length + 2


def _number(buffer: bytes | bytearray, at: int, line_end: int) -> int:
    try:
        return int(buffer[at + 1 : line_end])
    except ValueError as error:
        raise InvalidFrame(f"expected a length in {bytes(buffer[at : at + 40])!r}") from error


def command(*parts: str | bytes) -> bytes:
    """The frame of a command."""
    encoded = [
        part.encode(errors="surrogateescape") if isinstance(part, str) else part for part in parts
    ]
    bulks = [b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded]
    return b"*%d\r\n" % len(encoded) + b"".join(bulks)


def arguments(command: bytes) -> tuple[bytes, ...]:
    """The arguments of a command's frame, its name in capitals first."""
    if command[:1] == b"*":
        parts = _bulks(command)
    else:
        parts = tuple(word.encode("latin-1") for word in shlex.split(command.decode("latin-1")))
    return (parts[0].upper(), *parts[1:]) if parts else ()


def _bulks(frame: bytes) -> tuple[bytes, ...]:
    at = frame.index(b"\r\n") + 2
    parts = []
    while at < len(frame):
        line_end = frame.index(b"\r\n", at)
        size = int(frame[at + 1 : line_end])
        parts.append(frame[line_end + 2 : line_end + 2 + size])
        at = line_end + 4 + size
    return tuple(parts)


def value(reply: bytes) -> object:
    """What a reply's frame says: bytes, numbers, lists, dicts, None, or a `hiredis.ReplyError`."""
    reader = hiredis.Reader()
    reader.feed(reply)
    said: object = reader.gets()
    return said


def first_word(frame: bytes) -> bytes:
    """The first element of an array's or push's frame where it is a string, else nothing."""
    if frame[:1] not in b"*>":
        return b""
    element = frame.find(b"\r\n") + 2
    if frame[element : element + 1] != b"$":
        return b""
    line_end = frame.find(b"\r\n", element)
    return frame[line_end + 2 : line_end + 2 + int(frame[element + 1 : line_end])]


def replies_to(command: tuple[bytes, ...], subscribed: int) -> int:
    """How many frames answer this command: one for each channel that it subscribes or leaves."""
    name = command[0] if command else b""
    if name in {b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE"}:
        return max(len(command) - 1, 1)
    if name in {b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE"}:
        return len(command) - 1 or max(subscribed, 1)
    return 1
