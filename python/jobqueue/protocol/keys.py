"""The names that a queue gives to its Redis keys and channels (section 5 of the protocol).

All of them begin with the queue's name, so that the keys of a queue named `{job-queue}` are in one
slot of a cluster.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Self

QUEUE = "job-queue"


def in_process(queue: str, processor: str) -> str:
    """Return the key of the jobs that the processor has claimed and not finished."""
    # server.list.name
    return f"{queue}:in-process:{processor}"


def dead(queue: str) -> str:
    """Return the key of the messages that no server can answer."""
    return f"{queue}:dead"


def results(queue: str, uuid: str) -> str:
    """Return the channel of the client that generated the UUID."""
    # client.channel.name
    return f"{queue}:results:{uuid}"


def attempts(queue: bytes, message: bytes) -> bytes:
    """Return the key that counts how often a message was found and started."""
    return b"%b:attempts:%b" % (queue, digest(message))


def result(queue: bytes, message_digest: bytes) -> bytes:
    """Return the key of the stored result of the message with this digest."""
    return b"%b:result:%b" % (queue, message_digest)


def digest(message: bytes) -> bytes:
    """Return the digest that names a message in keys and handles, as `redis.sha1hex` in scripts."""
    return hashlib.sha1(message, usedforsecurity=False).hexdigest().encode()


def encoded(name: str) -> bytes:
    """Return a name as bytes: the exact ones if Python has read it from the operating system."""
    return name.encode(errors="surrogateescape")


def name(key: bytes) -> str:
    """Return the name of any bytes; `encoded` is the inverse."""
    return key.decode(errors="surrogateescape")


def text(key: bytes | str) -> str:
    """Return a key as readable text; bytes that aren't UTF-8 become escapes."""
    return key if isinstance(key, str) else key.decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of the three lists that one server moves messages between, as bytes."""

    queue: bytes
    in_process: bytes
    dead: bytes

    @property
    def processors(self) -> bytes:
        """The registry of in-process lists, a hash."""
        return self.queue + b":processors"

    @property
    def scanned(self) -> bytes:
        """The key that says that the registry needs no scan yet."""
        return self.queue + b":scanned"

    @property
    def lease(self) -> bytes:
        """The lease of the in-process list."""
        return self.lease_of(self.in_process)

    def lease_of(self, in_process: bytes) -> bytes:
        """Return the key of the lease of a list."""
        return b"%b:lease:%b" % (self.queue, in_process)

    @classmethod
    def of(cls, queue: str, processor: str, in_process_key: str | None = None) -> Self:
        """Return a server's keys; a whole in-process key overrides the processor's name."""
        key = in_process(queue, processor) if in_process_key is None else in_process_key
        return cls(encoded(queue), encoded(key), encoded(dead(queue)))
