"""The processes of one measurement: started in groups of their own, and all of a group ended at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessFailed(Exception):
    """A contender ended in another way than it was to; the message is its last word."""


@contextlib.contextmanager
def started(
    command: list[str], stdout: int | IO[str] | None = None, stderr: int | IO[str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start a process, and end it with all that it started."""
    process = subprocess.Popen(
        command, stdout=stdout, stderr=stderr, start_new_session=True, text=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answer(command: list[str], longest_s: float) -> dict[str, Any]:
    """Run a command to its end, and return the JSON of its last line.

    Raises:
        ProcessFailed: It didn't end in time, or not well.
    """
    with (
        tempfile.TemporaryFile("w+") as said,
        started(command, stdout=subprocess.PIPE, stderr=said) as process,
    ):
        try:
            output, _ = process.communicate(timeout=longest_s)
        except subprocess.TimeoutExpired:
            raise ProcessFailed(f"no end within {longest_s:.0f} s") from None
        if process.returncode:
            raise ProcessFailed(last_line(said) or f"exit status {process.returncode}")
    try:
        found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise ProcessFailed(f"its last line is not valid JSON: {error}") from error
    return found


def last_line(said: IO[str]) -> str:
    """Return the last line of what a process has said."""
    said.seek(0)
    return next((line.strip() for line in reversed(said.readlines()) if line.strip()), "")


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process's threads, which Linux counts in nanoseconds."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    resident_pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return resident_pages * PAGE_BYTES / 2**20
