"""The other safe way: as `raw`, but one script publishes and removes in place of the transaction."""

from __future__ import annotations

import hashlib
from typing import Any

from entries.raw import Wire, drain, pack, version

__all__ = ["serve", "version"]

SCRIPT = b"redis.call('PUBLISH', ARGV[1], ARGV[2]) return redis.call('LREM', KEYS[1], -1, ARGV[3])"
NAME = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest().encode()


def acknowledgement(in_process: bytes, channel: bytes, result: bytes, message: bytes) -> bytes:
    """Publish and remove in one script."""
    return pack((b"EVALSHA", NAME, b"1", in_process, channel, result, message))


def serve(url: str, tally: Any, options: Any) -> None:
    wire = Wire(url)
    wire.send(pack((b"SCRIPT", b"LOAD", SCRIPT)))
    wire.reply()
    drain(url, tally, options, acknowledgement, 1)
