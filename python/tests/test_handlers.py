"""What is decided about a message before its handler runs, and what is said about it in the log."""

import logging

import pytest
from jobqueue import JobError
from jobqueue.core.handlers import Handlers, failed, succeeded
from jobqueue.protocol.messages import Answer, Run

JOB = Run(b"job", b"channel", "1", "echo", None)


def test_what_has_no_handler_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """server.run.method-not-found: with the channel and the id, on one line."""
    handlers = Handlers(None, awaits=False)

    answer = handlers.decide(b'{"method": "echo", "channel": "c", "id": "x\\ny"}')

    assert isinstance(answer, Answer)
    assert "method-not-found" in answer.result.decode()
    assert "refused channel=c id=x\\ny" in caplog.text


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


def test_a_handler_is_found_by_its_method() -> None:
    """server.run.handler: a coroutine function only where somebody awaits it."""

    async def wait(_: object) -> None: ...

    handlers = Handlers(None, awaits=True)
    handlers.register("wait", wait)

    assert handlers["wait"] is wait
    with pytest.raises(TypeError, match="coroutine"):
        Handlers(None, awaits=False).register("wait", wait)
