"""What a server has claimed and not yet seen removed."""

from __future__ import annotations

import asyncio
from collections import Counter


class Running:
    """A multiset of messages."""

    def __init__(self) -> None:
        self._messages: Counter[bytes] = Counter()
        self._total = 0
        self._failure: BaseException | None = None
        self._changed = asyncio.Event()

    def add(self, message: bytes) -> None:
        """Take a message in."""
        self._messages[message] += 1
        self._total += 1

    def discard(self, message: bytes) -> None:
        """Forget a message, whose removal Redis has confirmed."""
        self._messages[message] -= 1
        if not self._messages[message]:
            del self._messages[message]
        self._total -= 1
        self._changed.set()

    def fail(self, failure: BaseException) -> None:
        """Have it raised to whoever waits here: a task has ended, and some messages never will."""
        self._failure = failure
        self._changed.set()

    def snapshot(self) -> list[bytes]:
        """Return what is in here now."""
        return list(self._messages.elements())

    async def wait_for_room(self, limit: int) -> int:
        """Wait until fewer than `limit` messages are in here, and return how many fewer."""
        while self._total >= limit and self._failure is None:
            self._changed.clear()
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure
        return limit - self._total

    async def wait_until_empty(self) -> None:
        """Wait until everything is removed."""
        await self.wait_for_room(1)
