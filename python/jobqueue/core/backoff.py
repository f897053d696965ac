"""How long to wait before the next attempt to connect."""

from __future__ import annotations

FIRST_SECONDS = 0.02
LIMIT_SECONDS = 2.0


def delay_seconds(failures: int, jitter: float) -> float:
    """Return the wait after so many failures in a row: longer each time, up to a limit.

    Args:
        failures: How many attempts have failed, at least 1.
        jitter: From 0 to 1, drawn anew each time: a hundred servers don't come back at once.
    """
    # server.connection.back-off
    return float(min(LIMIT_SECONDS, FIRST_SECONDS * 2 ** min(failures - 1, 16)) * (1 + jitter) / 2)
