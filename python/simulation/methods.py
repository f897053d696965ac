"""What the jobs of a world do: the handlers that every simulated server has."""

from __future__ import annotations

from typing import Any

from jobqueue.core.handlers import Handlers
from jobqueue.errors import JobError


def _answer(parameters: Any) -> Any:
    return parameters


def _refuse(parameters: Any) -> Any:
    raise JobError("test.refused", "as asked", parameters)


def _crash(parameters: Any) -> Any:
    raise ValueError(parameters)


def _no_json(_: Any) -> Any:
    return {1, 2}


def _kill(_: Any) -> Any:
    raise SystemError("its server is dead")


HANDLERS = Handlers(None, awaits=False)
for _method, _handler in (
    ("answer", _answer),
    ("refuse", _refuse),
    ("crash", _crash),
    ("no-json", _no_json),
    ("kill", _kill),
):
    HANDLERS.register(_method, _handler)
