"""Values that can't be encoded and errors that can't be told: each is answered, and nothing ends.

A handler may return or raise objects whose own methods fail. The code tells which it was; whatever
can't be read of an error is replaced, in the answer as in the log.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import Client, JobError

from tests.faults.serving import KINDS, Thread, make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis


class ClosedError(RuntimeError):
    """What a lazily loaded row raises once its session is closed."""


def closed(*_: object) -> Any:
    """Be the method of an object that can't be used any more."""
    raise ClosedError("the session is closed")


def leaves(*_: object) -> Any:
    """Be a method that ends the program."""
    raise SystemExit(3)


def exhausts(*_: object) -> Any:
    """Be a method that finds no memory."""
    raise MemoryError


def row(base: type, method: str, failure: object) -> Any:
    """Make a value of a subclass whose method fails."""
    sample = {dict: {"a": 1}, list: [1], tuple: (1,), str: "a", int: 1, float: 1.5, object: None}[
        base
    ]
    kind = type("Row", (base,), {method: failure})
    return kind() if base is object else kind(sample)


VALUES: dict[str, Callable[[], Any]] = {
    "items": lambda: row(dict, "items", closed),
    "items-exits": lambda: row(dict, "items", leaves),
    "items-no-memory": lambda: row(dict, "items", exhausts),
    "items-of-a-member": lambda: {"rows": [row(dict, "items", closed)]},
    "iter": lambda: row(list, "__iter__", closed),
    "class": lambda: row(object, "__class__", property(closed)),
    "repr": lambda: row(object, "__repr__", closed),
    "getattr": lambda: row(object, "__getattribute__", closed),
    "key": lambda: {row(object, "__repr__", closed): 1},
    "bool": lambda: row(object, "__bool__", closed),
}


@dataclasses.dataclass
class SoldOutError(JobError):
    """A dataclass doesn't call `JobError.__init__`, so it has neither code nor message."""

    left: int = 0

    __str__ = JobError.__str__


class Rude(str):
    """A text that can't be turned into one."""

    __slots__ = ()
    __str__ = __repr__ = __format__ = closed
    encode: Any = closed


def with_attribute(name: str, value: object) -> Any:
    """Make an error of which one attribute isn't what a `JobError` has."""
    members = {"code": "shop.odd", "message": "odd", "data": None, "__init__": lambda *_: None}
    return type("Odd", (JobError,), members | {name: value})()


def with_method(base: type[BaseException], name: str, failure: object) -> Any:
    """Make an error of a subclass whose method or attribute fails."""
    return type("Odd", (base,), {name: failure})(
        *["shop.odd", "odd"][: 2 if base is JobError else 1]
    )


ERRORS: dict[str, Callable[[], BaseException]] = {
    "no-attributes": lambda: SoldOutError(3),
    "code": lambda: with_attribute("code", property(closed)),
    "code-exits": lambda: with_attribute("code", property(leaves)),
    "code-no-text": lambda: with_attribute("code", 7),
    "message": lambda: with_attribute("message", property(closed)),
    "data": lambda: with_attribute("data", property(closed)),
    "rude-code": lambda: JobError(Rude("shop.rude"), "x"),
    "rude-message": lambda: JobError("shop.rude", Rude("x")),
    "rude-data": lambda: JobError("shop.rude", "x", row(dict, "items", closed)),
    "str": lambda: with_method(ValueError, "__str__", closed),
    "str-exits": lambda: with_method(ValueError, "__str__", leaves),
    "str-no-memory": lambda: with_method(ValueError, "__str__", exhausts),
    "str-no-text": lambda: with_method(ValueError, "__str__", lambda _: 7),
    "repr": lambda: with_method(ValueError, "__repr__", closed),
    "class": lambda: with_method(ValueError, "__class__", property(closed)),
    "notes": lambda: with_method(ValueError, "__notes__", property(closed)),
    "traceback": lambda: with_method(ValueError, "__traceback__", property(closed)),
    "cause": lambda: with_method(ValueError, "__cause__", property(closed)),
    "getattribute": lambda: with_method(ValueError, "__getattribute__", closed),
    "job-error-str": lambda: with_method(JobError, "__str__", closed),
    "group": lambda: BaseExceptionGroup("g", [with_method(ValueError, "__str__", closed)]),
}


class Lines(logging.Handler):
    """The lines of a log as they would be written, and what failed while they were."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.failures: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line."""
        try:
            self.lines.append(self.format(record))
        except BaseException:
            self.failures.append(record)


@pytest.fixture
def log() -> Iterator[Lines]:
    """What the servers of this test log."""
    lines = Lines()
    logger = logging.getLogger("jobqueue")
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    yield lines
    logger.setLevel(level)
    logger.removeHandler(lines)


def answers(thread: Callable[[Any], Thread], client: Client, redis: Redis, server: Any) -> JobError:
    """Run the server's method "odd", and one behind it; return what the first was answered."""
    server.on("echo", lambda value: value)
    running = thread(server)
    odd, behind = client.run("odd"), client.run("echo", 1)

    assert running.settled(behind).result(0) == 1, "the next job is answered"
    error = running.settled(odd).exception(0)
    assert isinstance(error, JobError)
    running.stop()
    assert running.error is None
    assert redis.lrange("job-queue:in-process:test", 0, -1) == []
    return error


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The four ways to serve."""
    name: str = request.param
    return name


@pytest.mark.parametrize("name", VALUES)
def test_a_value_whose_methods_fail_is_not_serializable(
    kind: str, thread: Any, client: Client, redis: Redis, redis_url: str, log: Lines, name: str
) -> None:
    """server.result.not-serializable, server.run.goes-on: whatever its methods raise."""
    server = make(kind, redis_url)
    server.on("odd", lambda _: VALUES[name]())

    error = answers(thread, client, redis, server)

    assert error.code == "result-not-serializable"
    assert error.message
    assert log.failures == []


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_that_cannot_be_told_is_answered(
    kind: str, thread: Any, client: Client, redis: Redis, redis_url: str, log: Lines, name: str
) -> None:
    """server.run.handler-error, server.run.goes-on: its own code where that can be read.

    One line of the log names the job, and writing it never fails.
    """
    server = make(kind, redis_url)

    def fail(_: Any) -> None:
        error = ERRORS[name]()
        raise error

    server.on("odd", fail)

    error = answers(thread, client, redis, server)

    assert error.code in {"handler-error", "shop.odd", "shop.rude", "result-not-serializable"}
    assert error.message
    assert log.failures == []
    assert sum(line.startswith("failed ") and "id=1" in line for line in log.lines) == 1


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
        server.on("odd", VISIBLE[name])


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("kind", ["threads", "threads-4"])
def test_a_coroutine_that_wasnt_seen_is_told(
    kind: str, thread: Any, client: Client, redis: Redis, redis_url: str, name: str
) -> None:
    """The answer says that a coroutine was returned, and what serves those; it is never left over."""
    server = make(kind, redis_url)
    server.on("odd", HIDDEN[name])

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
