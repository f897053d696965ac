"""The names that a queue gives to its Redis keys and channels (section 5 of the protocol).

All of them begin with the queue's name, so that a queue named with braces, `{job-queue}`, lies in
one slot of a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

QUEUE = "job-queue"


def in_process(queue: str, processor: str) -> str:
    """Name the list of what the processor has claimed and not finished."""
    # server.list.name
    return f"{queue}:in-process:{processor}"


def dead(queue: str) -> str:
    """Name the list of the messages that no server can answer."""
    return f"{queue}:dead"


def results(queue: str, uuid: str) -> str:
    """Name the channel of the client that drew the UUID."""
    # client.channel.name
    return f"{queue}:results:{uuid}"


def encoded(name: str) -> bytes:
    """Return a name as Redis takes it: the exact bytes of a name that Python read from its system."""
    return name.encode(errors="surrogateescape")


def name(key: bytes) -> str:
    """Return the name that `encoded` makes the very same bytes of, whatever these are."""
    return key.decode(errors="surrogateescape")


def text(key: bytes | str) -> str:
    """Write a key as text to be read; bytes that aren't UTF-8 appear as escapes."""
    return key if isinstance(key, str) else key.decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class Keys:
    """The three lists that one server moves messages between, as Redis takes them."""

    queue: bytes
    in_process: bytes
    dead: bytes

    @classmethod
    def of(cls, queue: str, processor: str, in_process_key: str | None = None) -> Self:
        """Name a server's lists; a whole in-process key wins over the processor's name."""
        key = in_process(queue, processor) if in_process_key is None else in_process_key
        return cls(encoded(queue), encoded(key), encoded(dead(queue)))
