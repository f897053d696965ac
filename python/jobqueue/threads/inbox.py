"""What other threads tell the thread of a session, and the bell that wakes it.

Putting something in is one call in C, and so is ringing: nothing is locked that an interrupted
thread could leave locked, and a signal handler may do the same in the middle of it.
"""

from __future__ import annotations

import contextlib
import socket
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.calls.unsettled import Submission
    from jobqueue.errors import ConnectionLost
    from jobqueue.threads.job import Job
    from jobqueue.threads.stream import Stream


class Submit(NamedTuple):
    """Register these jobs and push them."""

    batch: list[Submission[Job]]
    deadline: float | None


class Cancel(NamedTuple):
    """Remove these jobs."""

    jobs: list[Job]


class Connected(NamedTuple):
    """The outcome of an attempt to connect."""

    attempt: int
    outcome: list[Stream] | ConnectionLost


class Close(NamedTuple):
    """Push what was submitted, and end."""


class Release(NamedTuple):
    """End as soon as every job is settled."""


Item: TypeAlias = Submit | Cancel | Connected | Close | Release


class Inbox:
    """Filled from any thread. One thread opens it, takes the items, and sleeps until the bell rings."""

    def __init__(self) -> None:
        self.asleep = False  # whether `put` has to ring
        self._items: SimpleQueue[Item] = SimpleQueue()
        self._opened = contextlib.ExitStack()

    def __len__(self) -> int:
        return self._items.qsize()

    def put(self, item: Item) -> None:
        """Put something in, and wake who sleeps."""
        try:
            self._items.put(item)
        finally:  # of two calls in C nothing is between but the test: Control-C can't part them
            if self.asleep:
                with contextlib.suppress(OSError):  # it rings already, or is closed
                    self._bell.send(b"!")

    def take(self) -> Iterator[Item]:
        """Take what is there now."""
        with contextlib.suppress(Empty):  # two threads may do so at the end
            for _ in range(len(self)):
                yield self._items.get_nowait()

    def open(self) -> socket.socket:
        """Return what can be read when it rings."""
        self._ear, self._bell = socket.socketpair()
        for end in (self._ear, self._bell):
            self._opened.callback(end.close)
            end.settimeout(0)
        return self._ear

    def hear(self) -> None:
        """Note that it has rung."""
        self._ear.recv(4096)

    def close(self) -> None:
        """Ring no more; items that are put in stay in the queue."""
        with contextlib.suppress(OSError):  # somebody has closed all descriptors
            self._opened.close()
