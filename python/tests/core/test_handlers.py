"""What is decided about a message before its handler runs, and what is said about it in the log."""

import functools
import inspect
import json
import logging
import sys

import pytest
from jobqueue import JobError
from jobqueue.core.handlers import Handlers, failed, succeeded
from jobqueue.protocol.messages import Answer, Dead, Run, Spent, Timed

JOB = Run(b"job", b"channel", "1", "echo", None)


def test_what_has_no_handler_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """server.run.method-not-found: with the channel and the id, on one line."""
    handlers = Handlers(None, awaits=False)

    answer = handlers.decide(b'{"method": "echo", "channel": "c", "id": "x\\ny"}')

    assert isinstance(answer, Answer)
    assert "method-not-found" in answer.result.decode()
    assert "rejected channel=c id=x\\ny" in caplog.text


def test_what_is_given_up_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """server.attempts.limit: whatever handlers there are, with the message's first bytes."""
    handlers = Handlers(["elsewhere:"], awaits=False)

    dead = handlers.decide(Spent(b'{"channel": "c", "id": "1"}', readable=True))

    assert isinstance(dead, Dead)
    assert dead.answer is None, "expected a server to be confined to its prefixes"
    assert caplog.messages == [f"dead message: {dead.reason}: {dead.message!r}"]


def test_outcomes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Each job at the level DEBUG, an error of the handler's choice at INFO, any other at ERROR."""
    with caplog.at_level(logging.DEBUG):
        succeeded(JOB, 1)
        failed(JOB, JobError("shop.sold-out", "none left"))
        failed(JOB, ValueError("bad"))

    lines = [(each.levelno, each.getMessage()) for each in caplog.records]
    where = "method=echo channel=channel id=1"
    assert lines == [
        (logging.DEBUG, f"ran {where}"),
        (logging.INFO, f"failed {where}: shop.sold-out: none left"),
        (logging.ERROR, f"failed {where}: ValueError"),
    ]


@pytest.mark.parametrize("level, lines", [(logging.INFO, 1), (logging.WARNING, 0)])
def test_what_has_expired_is_logged(
    caplog: pytest.LogCaptureFixture, level: int, lines: int
) -> None:
    """server.expiry.refuses: on one line, at the level INFO; it is answered either way."""
    job = Run(b"job", b"channel\n", "1", "echo", None, expires_at_ms=1)
    with caplog.at_level(level):
        answer = Handlers(None, awaits=False).decide(Timed(job, 2.0))

    assert isinstance(answer, Answer)
    assert json.loads(answer.result) == {
        "id": "1",
        "error": {"code": "expired", "message": "the job expired before it was started"},
    }
    assert caplog.messages == ["expired channel=channel\\n id=1"] * lines


def test_an_error_stays_within_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """What a handler says of its error can't pretend to be another line of the log."""
    with caplog.at_level(logging.INFO):
        failed(JOB, JobError("shop.odd", "x\nfailed method=echo channel=channel id=2"))

    assert caplog.messages[0].isprintable()


class UntellableError(Exception):
    """An error that can't be printed."""

    __notes__ = property(lambda _: sys.exit(3))


@pytest.mark.parametrize(
    "error,last", [(ValueError("x"), "ValueError: x"), (UntellableError(), "")]
)
def test_an_error_is_logged_with_where_it_was_raised(
    caplog: pytest.LogCaptureFixture, error: Exception, last: str
) -> None:
    """server.run.goes-on: also one that can't be printed, without its words."""
    with pytest.raises(type(error)):
        raise error

    failed(JOB, error)

    (record,) = caplog.records
    lines = logging.Formatter().format(record).splitlines()
    assert lines[0].endswith(f"id=1: {type(error).__name__}")
    assert any("in test_an_error_is_logged_with_where_it_was_raised" in line for line in lines)
    assert lines[-1] == (last or "RuntimeError: UntellableError, which can't be formatted")


def test_a_coroutine_is_no_value() -> None:
    """server.result.not-serializable: it is closed, and the answer says who would await it."""

    async def wait() -> None: ...

    coroutine = wait()

    answer = succeeded(JOB, coroutine)

    assert b"result-not-serializable" in answer.result
    assert b"jobqueue.aio.Server" in answer.result
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_a_handler_is_found_by_its_method() -> None:
    """server.run.handler: a coroutine function only if the server awaits it."""

    async def wait(_: object) -> None: ...

    class Waiting:
        async def __call__(self, _: object) -> None: ...

    handlers = Handlers(None, awaits=True)
    handlers.register("wait", wait)

    assert handlers["wait"] is wait
    for handler in (wait, Waiting(), functools.partial(wait), functools.partial(Waiting())):
        with pytest.raises(TypeError, match="coroutine"):
            Handlers(None, awaits=False).register("wait", handler)
