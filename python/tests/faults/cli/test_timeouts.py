"""Timeouts of `jobqueue run`: whatever number is given, it is obeyed or refused in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.serving import make

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from tests.faults.serving import AnyServer, Program, Thread


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize("seconds", ["inf", "Infinity", "1e308", "1e10", "4294967.296"])
def test_a_timeout_that_never_comes_is_none(
    command: Callable[..., Program],
    redis_url: str,
    thread: Callable[[AnyServer], Thread],
    seconds: str,
) -> None:
    """The result is waited for, however long no clock could."""
    server = make("threads", redis_url)
    server.on("echo", lambda value: value)
    thread(server)

    ended = command(
        "-m", "jobqueue", "run", "echo", "7", "--timeout", seconds, "--redis", redis_url
    )

    assert (ended.status(), ended.line(), ended.stderr) == (0, "7", "")


@pytest.mark.parametrize("seconds", ["nan", "-1", "-inf"])
def test_a_timeout_that_is_none_is_refused(
    command: Callable[..., Program], redis_url: str, redis: Redis, seconds: str
) -> None:
    """Status 2, before anything is queued."""
    ended = command("-m", "jobqueue", "run", "echo", f"--timeout={seconds}", "--redis", redis_url)

    assert ended.status() == 2
    assert "Traceback" not in ended.stderr
    assert "timeout" in ended.stderr
    assert not redis.keys()
