"""What a server has claimed and not yet seen removed, shared by the threads that work on it."""

from __future__ import annotations

import threading
from collections import Counter


class Running:
    """A multiset of messages."""

    def __init__(self) -> None:
        self._messages: Counter[bytes] = Counter()
        self._total = 0
        self._failure: BaseException | None = None
        self._changed = threading.Condition()

    def add(self, message: bytes) -> None:
        """Take a message in."""
        with self._changed:
            self._messages[message] += 1
            self._total += 1

    def discard(self, message: bytes) -> None:
        """Forget a message, whose removal Redis has confirmed."""
        with self._changed:
            self._messages[message] -= 1
            if not self._messages[message]:
                del self._messages[message]
            self._total -= 1
            self._changed.notify_all()

    def fail(self, failure: BaseException) -> None:
        """Have it raised to whoever waits here: a thread has ended, and some messages never will."""
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def snapshot(self) -> list[bytes]:
        """Return what is in here now."""
        with self._changed:
            return list(self._messages.elements())

    def wait_for_room(self, limit: int) -> int:
        """Wait until fewer than `limit` messages are in here, and return how many fewer."""
        with self._changed:
            self._changed.wait_for(lambda: self._total < limit or self._failure)
            if self._failure is not None:
                raise self._failure
            return limit - self._total

    def wait_until_empty(self) -> None:
        """Wait until everything is removed."""
        self.wait_for_room(1)
