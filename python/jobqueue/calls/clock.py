"""The time of Redis's clock, for a client: read by TIME, and good for a minute.

The clocks of hosts differ, and any of them can be set; only Redis's is the same for all parties. An
offset that is read once is wrong after Redis's clock was set, so it is read again every minute.
"""

from __future__ import annotations

GOOD_SECONDS = 60.0


class Clock:
    """Converts this process's monotonic clock, in seconds, to Redis's, in milliseconds."""

    def __init__(self) -> None:
        self._asked_at = 0.0
        self._redis_ms = 0.0
        self._known = False

    def forget(self) -> None:
        """Know nothing: the connection is lost, and the next one may lead to another Redis."""
        self._known = False

    def tell(self, asked_at: float, time: list[bytes]) -> None:
        """Note the reply to a TIME, and when that was sent."""
        self._known = True
        seconds, microseconds = map(int, time)
        self._asked_at = asked_at
        self._redis_ms = seconds * 1_000 + microseconds / 1_000

    def good(self, now: float) -> bool:
        """Tell whether Redis was asked at most a minute ago."""
        # client.expiry.clock
        return self._known and now - self._asked_at <= GOOD_SECONDS

    def redis_ms(self, at: float) -> int:
        """Return Redis's time at this moment, once it has told it: perhaps too late, never too early."""
        return round(self._redis_ms + (at - self._asked_at) * 1_000)
