"""How long to wait before the next attempt to connect."""

from __future__ import annotations

FIRST_SECONDS = 0.02
LIMIT_SECONDS = 2.0


def delay_seconds(failures: int, jitter: float, limit: float = LIMIT_SECONDS) -> float:
    """Return the wait in seconds after a number of failures in a row: exponential, up to a limit.

    Args:
        failures: The number of failed attempts, at least 1.
        jitter: A new random number from 0 to 1, so that many don't reconnect together.
        limit: The longest wait in seconds.
    """
    # server.connection.back-off
    return float(min(limit, FIRST_SECONDS * 2 ** min(failures - 1, 16)) * (1 + jitter) / 2)
