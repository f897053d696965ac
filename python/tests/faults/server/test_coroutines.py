"""Coroutine functions as handlers: refused or answered with an error by `Server`, awaited by `aio.Server`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.server.test_answers import answers
from tests.faults.serving import make

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue import Client
    from redis import Redis


async def soon(value: Any) -> Any:
    """Return the value, as a coroutine."""
    return value


class Later:
    """A handler whose call is a coroutine."""

    async def __call__(self, value: Any) -> Any:
        """Return the value."""
        return value

    async def method(self, value: Any) -> Any:
        """Return the value."""
        return value


@functools.wraps(soon)
def decorated(value: Any) -> Any:
    """Look like a coroutine function, and be called like one."""
    return soon(value)


VISIBLE: dict[str, Callable[[Any], Any]] = {
    "function": soon,
    "method": Later().method,
    "partial": functools.partial(soon),
    "callable": Later(),
    "partial-of-callable": functools.partial(Later()),
    "partial-of-method": functools.partial(Later().method),
}


def undecorated(value: Any) -> Any:
    """Return a coroutine, which a plain function doesn't show."""
    return soon(value)


HIDDEN: dict[str, Callable[[Any], Any]] = {"plain": undecorated, "decorated": decorated}


@pytest.mark.parametrize("name", VISIBLE)
def test_a_coroutine_function_is_refused_where_it_is_seen(redis_url: str, name: str) -> None:
    """A server of threads refuses it at `on` by a TypeError that says what takes it."""
    server = make("threads", redis_url)

    with pytest.raises(TypeError, match=r"aio\.Server"):
        server.on("hostile", VISIBLE[name])


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("kind", ["threads", "threads-4"])
def test_a_coroutine_that_wasnt_seen_is_told(
    kind: str, thread: Any, client: Client, redis: Redis, redis_url: str, name: str
) -> None:
    """The answer says that a coroutine was returned, and what serves those; it is never left over."""
    server = make(kind, redis_url)
    server.on("hostile", HIDDEN[name])

    error = answers(thread, client, redis, server)

    assert error.code == "result-not-serializable"
    assert "coroutine" in error.message
    assert "aio.Server" in error.message


@pytest.mark.parametrize("name", [*VISIBLE, *HIDDEN])
@pytest.mark.parametrize("kind", ["asyncio", "asyncio-4"])
def test_asyncio_awaits_whatever_can_be_awaited(
    kind: str, thread: Any, client: Client, redis_url: str, name: str
) -> None:
    """However a coroutine function is wrapped, its value is the result."""
    server = make(kind, redis_url)
    server.on("soon", VISIBLE.get(name) or HIDDEN[name])

    assert thread(server).settled(client.run("soon", [1])).result(0) == [1]
