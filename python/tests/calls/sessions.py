"""A client's core step by step, as its tests take it: what it is given to do, and what Redis replies."""

from __future__ import annotations

from typing import Any

import pytest
from jobqueue.calls.calls import Calls
from jobqueue.calls.kept import Keep
from jobqueue.calls.unsettled import Submission
from jobqueue.protocol.commands import ErrorReply
from jobqueue.protocol.handles import Handle

SUBSCRIBED = [b"subscribe", b"channel", 1]
OWN = [b"subscribe", b"own", 2]
UNSUBSCRIBED = [b"unsubscribe", b"own", 1]
HANDLE = Handle.of(b"1", "1", "own")
COLLECT = (b"GET", b"queue:result:" + HANDLE.digest)
NOPERM = ErrorReply("NOPERM", "NOPERM this user has no permissions")
LINKS = pytest.mark.parametrize("links", [1, 2])


def look(job: str) -> tuple[int, tuple[bytes, ...]]:
    """The look-up of the result of the job whose bytes are its id."""
    return 0, (b"GET", b"queue:result:" + Handle.of(job.encode(), job, "channel").digest)


def result(job: str, value: str = "7", channel: bytes = b"channel") -> list[Any]:
    """A message with the result of a job."""
    return [b"message", channel, stored(job, value)]


def stored(job: str, value: str = "7") -> bytes:
    """A stored result."""
    return f'{{"id": "{job}", "result": {value}}}'.encode()


def opened(session: Calls[str], now: float, links: int = 1) -> None:
    """Connect, and be subscribed."""
    session.attempt(now)
    session.connected(links, now)
    session.take_controls(now)
    session.received(links - 1, [SUBSCRIBED], now)


def reconnected(session: Calls[str]) -> None:
    """Lose the connection at 1, and be subscribed on another one at 2."""
    session.lost("cut", 1, 0.0)
    opened(session, 2)


def core(*jobs: str, deadline: float | None = None, links: int = 1, seconds: float = 60) -> Any:
    """A session that is open at 0, with kept jobs that Redis has."""
    session: Calls[str] = Calls(b"queue", b"channel")
    opened(session, 0, links)
    for job in jobs:
        keep = Keep(job, seconds)
        session.submit([Submission(job, job, job.encode(), None, keep)], deadline)
        assert session.take_push(0) == (b"LPUSH", b"queue", job.encode())
    session.received(0, [1] * len(jobs), 0)
    return session


def detach(session: Calls[str], job: str = "1", deadline: float | None = None) -> None:
    """Submit a job with a channel of its own."""
    keep = Keep(job, 60, channel="own")
    session.submit([Submission(job, job, job.encode(), None, keep)], deadline)


def subscribed(session: Calls[str], now: float = 0) -> None:
    """Subscribe to the job's own channel, as Redis confirms."""
    session.take_controls(now)
    session.received(0, [OWN], now)


def pushed(session: Calls[str]) -> None:
    """Push one job, as Redis confirms."""
    session.take_push(0)
    session.received(0, [1], 0)


def collect(
    session: Calls[str], job: str = "c", deadline: float | None = None, *, delete: bool = False
) -> None:
    """Collect the result of job 1 by its handle."""
    keep = Keep.collected(HANDLE, delete=delete)
    session.submit([Submission(job, job, None, None, keep)], deadline)


def outcome(session: Calls[str]) -> Any:
    """The one outcome that there is."""
    (settled,) = session.take_settled()
    return settled.error or settled.value
