"""The times that a caller gives for a job: its timeout, when it expires, for how long its result is kept."""

from __future__ import annotations

from typing import Literal, TypeAlias

TIMEOUT_LIMIT_SECONDS = 1e9  # a longer timeout is the same as none: no wait of Python takes it
KEEP_LIMIT_MS = 10**12  # a longer time means the same: each server has its own limit

Expires: TypeAlias = float | Literal["timeout"] | None


def deadline_of(timeout: float | None, now: float, name: str = "timeout") -> float | None:
    """Return the time at which a timeout that starts now ends; None if it never does.

    Raises:
        ValueError: The timeout is negative or not a number.
    """
    # client.timeout.local
    if timeout is None:
        return None
    if not timeout >= 0:  # NaN, too
        raise ValueError(f"{name} must be a number of seconds, 0 or more, not {timeout}")
    return None if timeout > TIMEOUT_LIMIT_SECONDS else now + timeout


def expiry_of(
    expires: Expires, by_default: Expires, timeout: float | None, now: float
) -> float | None:
    """Return the time at which a job that is run now expires; None if it never does.

    Args:
        expires: Seconds, or "timeout" for those of the timeout; None is the default.
        by_default: The same, for jobs that don't say it.
        timeout: The job's timeout, in seconds.
        now: The time.

    Raises:
        ValueError: It is negative, not a number, or another word.
    """
    seconds = by_default if expires is None else expires
    if isinstance(seconds, str):
        if seconds != "timeout":
            raise ValueError(f"expires must be a number of seconds or 'timeout', not {seconds!r}")
        seconds = timeout
    return deadline_of(seconds, now, "expires")


def keep_ms_of(keep: float | None, by_default: float | None = None) -> int:
    """Return for how many milliseconds a job's result is to be kept; 0 is not at all.

    Args:
        keep: Seconds; None is the default.
        by_default: The same, for jobs that don't say it.

    Raises:
        ValueError: It is negative or not a number.
    """
    seconds = by_default if keep is None else keep
    if seconds is None or seconds == 0:
        return 0
    if not seconds > 0:  # NaN, too
        raise ValueError(f"keep must be a number of seconds, 0 or more, not {seconds}")
    # client.kept.member
    return max(1, int(min(seconds * 1_000, KEEP_LIMIT_MS)))
