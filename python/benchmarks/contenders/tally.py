"""How many jobs a server's process has run, and when its first and its last one ran.

It is a mapped file, so that it can be read while the process runs, at no cost to it.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

_FORM = struct.Struct("=qqdd")


class Count(NamedTuple):
    """A tally at one moment; the times are those of the monotonic clock, in seconds."""

    jobs: int
    pid: int
    first: float
    last: float


class Tally:
    """Counts the runs of one process. `hit()` is the whole of a trivial handler.

    Each number is written by itself, in one piece: `Struct.pack_into` clears all of them first, and
    who reads at that moment finds a server that has run nothing.
    """

    def __init__(self, mapped: mmap.mmap) -> None:
        self._integers = memoryview(mapped).cast("q")
        self._times = memoryview(mapped).cast("d")
        self._integers[1] = os.getpid()
        self._jobs = 0

    @classmethod
    def create(cls, path: Path) -> Tally:
        """Make a tally in a file of this process, next to `path` and named after it and the pid."""
        file = path.with_name(f"{path.name}.{os.getpid()}")
        file.write_bytes(bytes(_FORM.size))
        with file.open("r+b") as opened:
            return cls(mmap.mmap(opened.fileno(), _FORM.size))

    def hit(self) -> None:
        """Count one run."""
        now = time.monotonic()
        if not self._jobs:
            self._times[2] = now
        self._times[3] = now
        self._jobs += 1
        self._integers[0] = self._jobs


def read(path: Path) -> list[Count]:
    """Return the counts of all processes that share `path` and have run a job."""
    found = (file.read_bytes() for file in path.parent.glob(f"{path.name}.*"))
    counts = [Count(*_FORM.unpack(form)) for form in found if len(form) == _FORM.size]
    return [count for count in counts if count.jobs]
