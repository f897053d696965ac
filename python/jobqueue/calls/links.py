"""The links of a client's connection: what is to be written, what is unanswered, and who is silent.

A connection has one or two links. Jobs are pushed on the first link; messages arrive on the last
one. With RESP3 these are the same. Redis answers in order, so each reply belongs to the oldest
request of its link.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from jobqueue.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.calls.kept import Keep
    from jobqueue.protocol.commands import Command

REPLY_TIMEOUT_SECONDS = 5.0  # without a reply that is due; and without anything, before a PING


class Request(NamedTuple):
    """A command whose reply is outstanding, and what it was for."""

    at: float
    pushed: Sequence[str] | None = None  # the ids of the jobs
    asks_time: bool = False
    looks_up: str | None = None  # the id of the job whose stored result it reads
    channel: bytes | None = None  # to which it subscribes, if that is a job's own
    kept: Sequence[tuple[Keep, Any]] = ()  # of the pushed jobs, those whose results are kept


class Links:
    """Those of one connection after the other."""

    def __init__(self) -> None:
        self._controls: list[tuple[int, Command]] = []
        self._outstanding: list[deque[Request]] = []  # for each link, oldest first
        self._received_at: list[float] = []  # for each link, when anything last came

    @property
    def last(self) -> int:
        """The number of the link on which messages arrive."""
        return len(self._outstanding) - 1

    def open(self, links: int, now: float) -> None:
        """Note that there is a connection."""
        self._outstanding = [deque() for _ in range(links)]
        self._received_at = [now] * links

    def close(self) -> None:
        """Note that there is none."""
        self._outstanding, self._received_at, self._controls = [], [], []

    def ask(self, link: int, command: Command, request: Request) -> None:
        """Have a command written."""
        self._controls.append((link, command))
        self._outstanding[link].append(request)

    def written(self, request: Request) -> None:
        """Note what is written to the first link by the caller."""
        self._outstanding[0].append(request)

    def take_controls(self) -> list[tuple[int, Command]]:
        """Return the commands to write now, each with the number of its link."""
        controls, self._controls = self._controls, []
        return controls

    def heard(self, link: int, now: float) -> None:
        """Note that something came."""
        self._received_at[link] = now

    def answered(self, link: int, reply: object) -> Request:
        """Return what a reply belongs to.

        Raises:
            ConnectionLost: No reply is outstanding.
        """
        if not self._outstanding[link]:
            raise ConnectionLost(f"Redis sent an unexpected reply: {reply!r:.100}")
        return self._outstanding[link].popleft()

    def first(self) -> Request:
        """Return the oldest request of the first link."""
        return self._outstanding[0][0]

    def pushes(self) -> bool:
        """Tell whether a push is unanswered."""
        return bool(self._outstanding) and any(request.pushed for request in self._outstanding[0])

    def tick(self, now: float, *, wanted: bool) -> None:
        """Ask a silent Redis for a sign of life, if one is wanted.

        Raises:
            ConnectionLost: It doesn't answer.
        """
        # client.connection.silent
        for link, outstanding in enumerate(self._outstanding):
            silent = now >= self._quiet_since(link) + REPLY_TIMEOUT_SECONDS
            if silent and outstanding:
                raise ConnectionLost(f"no reply from Redis within {REPLY_TIMEOUT_SECONDS:g} s")
            if silent and wanted:
                self.ask(link, (b"PING",), Request(now))

    def next_tick(self, *, wanted: bool) -> list[float]:
        """Return when to call `tick`."""
        return [
            self._quiet_since(link) + REPLY_TIMEOUT_SECONDS
            for link, outstanding in enumerate(self._outstanding)
            if outstanding or wanted
        ]

    def _quiet_since(self, link: int) -> float:
        # A stream of messages proves that Redis is alive, however late the reply behind it is.
        received_at, outstanding = self._received_at[link], self._outstanding[link]
        return max(outstanding[0].at, received_at) if outstanding else received_at
