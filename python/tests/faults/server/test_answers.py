"""Values that can't be encoded and errors that can't be described: each is answered, and nothing ends.

A handler may return or raise objects whose own methods fail. The code tells which it was; whatever
can't be read of an error is replaced, in the answer as in the log.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import Client, JobError

from tests.conftest import until
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
    members = {
        "code": "shop.hostile",
        "message": "hostile",
        "data": None,
        "__init__": lambda *_: None,
    }
    return type("Hostile", (JobError,), members | {name: value})()


def with_method(base: type[BaseException], name: str, failure: object) -> Any:
    """Make an error of a subclass whose method or attribute fails."""
    return type("Hostile", (base,), {name: failure})(
        *["shop.hostile", "hostile"][: 2 if base is JobError else 1]
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
    """Run the server's method "hostile", and one behind it; return what the first was answered."""
    server.on("echo", lambda value: value)
    running = thread(server)
    hostile, behind = client.run("hostile"), client.run("echo", 1)

    assert running.settled(behind).result(0) == 1, "the next job is answered"
    error = running.settled(hostile).exception(0)
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
    server.on("hostile", lambda _: VALUES[name]())

    error = answers(thread, client, redis, server)

    assert error.code == "result-not-serializable"
    assert error.message
    assert log.failures == []
    assert sum(line.startswith("failed ") and "id=1" in line for line in log.lines) == 1


def secretive(*_: object) -> Any:
    """Be a method that tells what the value holds."""
    raise ValueError("the card 4711 isn't valid")


UNPUBLISHABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "of a type": (lambda: {4711}, "result-not-serializable: the handler returned set"),
    "by its own words": (
        lambda: row(dict, "items", secretive),
        "result-not-serializable: the handler returned Row",
    ),
    "of a type of many lines": (
        type("a\nb", (), {}),
        r"result-not-serializable: the handler returned a\nb",
    ),
    "of a size": (lambda: "4711" * 300_000, "result-too-large: the handler returned str"),
}


@pytest.mark.parametrize("name", UNPUBLISHABLE)
def test_a_value_that_isnt_published_is_told_by_its_type_alone(
    kind: str, thread: Any, client: Client, redis: Redis, redis_url: str, log: Lines, name: str
) -> None:
    """server.result.not-serializable, server.result.too-large: one error, without what it holds."""
    value, words = UNPUBLISHABLE[name]
    server = make(kind, redis_url)
    server.on("hostile", lambda _: value())

    answers(thread, client, redis, server)

    (line,) = [line for line in log.lines if line.startswith("failed ")]
    assert line.startswith("failed method=hostile channel=job-queue:results:")
    assert line.endswith(f" id=1: {words}")
    assert not any("4711" in line for line in log.lines)


def test_a_job_that_may_not_be_answered_is_told(
    kind: str, thread: Any, client: Client, redis: Redis, redis_url: str, log: Lines
) -> None:
    """server.publish.noperm: what is buried after its run leaves as much as what never ran."""
    rules = "on >secret resetchannels &job-queue:results:* allkeys +@all"
    redis.execute_command("ACL", "SETUSER", "confined", *rules.split())  # type: ignore[no-untyped-call]
    server = make(kind, redis_url.replace("//", "//confined:secret@"))
    server.on("echo", lambda value: value)
    running = thread(server)

    redis.lpush("job-queue", '{"method": "echo", "channel": "elsewhere", "id": "9"}')

    assert running.settled(client.run("echo", 1)).result(0) == 1
    until(lambda: any("elsewhere" in line for line in log.lines), "a line about it")
    (line,) = [line for line in log.lines if "elsewhere" in line]
    assert line.startswith("dead message: NOPERM")


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

    server.on("hostile", fail)

    error = answers(thread, client, redis, server)

    assert error.code in {"handler-error", "shop.hostile", "shop.rude", "result-not-serializable"}
    assert error.message
    assert log.failures == []
    assert sum(line.startswith("failed ") and "id=1" in line for line in log.lines) == 1
