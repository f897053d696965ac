"""JobQueue's reference with threads, whose server doesn't wait awake for its next job."""

from __future__ import annotations

from typing import Any

from entries import jobqueue
from jobqueue.threads import spin

version, call = jobqueue.version, jobqueue.call


def serve(url: str, tally: Any, options: Any) -> None:
    spin.SPIN_SECONDS = 0.0
    jobqueue.serve(url, tally, options)
