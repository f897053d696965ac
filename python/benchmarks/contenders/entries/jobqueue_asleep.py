"""JobQueue's reference with threads, whose server doesn't wait awake for its next job."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from entries import jobqueue

version, call = jobqueue.version, jobqueue.call


def serve(url: str, tally: Any, options: Any) -> None:
    # Version 1.0, which may be measured for comparison, has it elsewhere.
    spin: Any = import_module(f"jobqueue{'.threads' if find_spec('jobqueue.threads') else ''}.spin")
    spin.SPIN_SECONDS = 0.0
    jobqueue.serve(url, tally, options)
