"""What the tests of how a server answers a batch have in common: jobs, replies, and times."""

from __future__ import annotations

from typing import Any

from jobqueue.core.answers import Answers
from jobqueue.core.keeping import Keeping
from jobqueue.core.reconnect import Backoff
from jobqueue.core.steps import Moment
from jobqueue.core.takeover import Takeover
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Answer, Run

TIME = [b"50", b"250000"]  # 50,250 ms
DONE = [b"OK", b"QUEUED", b"QUEUED", [1, 1]]  # Redis's replies to an answer


def job_of(job_id: str, expires_at_ms: float | None = None) -> Run:
    """A job of which the message is the id."""
    return Run(job_id.encode(), b"c", job_id, "echo", None, expires_at_ms)


def answer_to(job: Run) -> Answer:
    """An outcome."""
    return Answer(job.message, b"c", job.id, b"result of " + job.message)


def at(seconds: float) -> Moment:
    """A time at which no stop is requested."""
    return Moment(seconds, stopping=False)


def answers_of(unconfirmed: list[Any], takeover: Takeover | None = None) -> Answers:
    """The answers of a server, without a lease unless another takeover is given."""
    keys = Keys.of("q", "p")
    takeover = takeover or Takeover(keys)
    return Answers(keys, unconfirmed, Backoff(), takeover, Keeping(), transactions=True)
