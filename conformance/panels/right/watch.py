"""Takeover by WATCH and MULTI in place of the script; all else is the kit's own server.

What `adopt` asks for is watched first, so that EXEC does nothing where one of the answers isn't true any more. The
registry is watched as a whole, as a hash can only be: where another server changes it, the adoption begins again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "mutants"))

from takeover_server import TakeoverServer


class WatchServer(TakeoverServer):
    """One that adopts in two round trips."""

    def adopt(self, key: bytes) -> bytes | None:
        """Take over the oldest entry of a list, mark the list, or remove its registration."""
        while True:
            self.unanswered += 1
            changes = self.changes(key)
            done = self.execute(changes)
            self.unanswered -= 1
            if done is not None:
                moved: bytes | None = done[0] if changes and changes[0][0] == "LMOVE" else None
                return moved

    def changes(self, key: bytes) -> list[tuple[str | bytes | int, ...]]:
        """What has to be done about a list, as commands, by what is watched from now on."""
        assert self.claims is not None
        call = self.claims.call
        call("WATCH", self.processors, self.lease, self.lease_of(key), key)
        if call("GET", self.lease) != self.token.encode() or call("EXISTS", self.lease_of(key)):
            return []
        written = call("HGET", self.processors, key)
        if written is None:
            return []
        seconds, micros = call("TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        value, entries = self.lapsed_at(written, now_ms), call("LLEN", key)
        if value == 0:
            return [("HSET", self.processors, key, now_ms)]
        if value > 0 and now_ms - value < self.lease_ms:
            return []
        changes: list[tuple[str | bytes | int, ...]] = []
        if entries:
            changes.append(("LMOVE", key, self.list, "RIGHT", "LEFT"))
        if entries <= 1 and value > 0:
            changes.append(("HSET", self.processors, key, -now_ms))
        elif not entries and now_ms + value >= self.grace_ms:
            changes.append(("HDEL", self.processors, key))
        return changes

    def execute(self, changes: list[tuple[str | bytes | int, ...]]) -> list[Any] | None:
        """The replies to the commands; None where something watched has changed, so that none was executed."""
        assert self.claims is not None
        if not changes:
            self.claims.call("UNWATCH")
            return []
        replies = self.pipelined(("MULTI",), *changes, ("EXEC",))
        *_, done = replies
        if isinstance(done, Exception):
            raise done
        executed: list[Any] | None = done
        return executed


if __name__ == "__main__":
    sys.exit(WatchServer(os.environ).serve())
