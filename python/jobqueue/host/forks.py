"""A child that a handler forks is not a server: it ends when it would leave the handler."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import TracebackType


class ParentOnly:
    """A `with` block that only the process that created it can leave. It may be entered again.

    A child would continue on its parent's connections. It ends as by `os._exit`, with the exit status
    of its exception: nothing that it has inherited is flushed, called or closed.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if os.getpid() != self._pid:
            _end(exc)


def _end(error: BaseException | None) -> NoReturn:
    status = 1
    try:
        if error is None:
            status = 0
        elif not isinstance(error, SystemExit):
            _say("".join(traceback.format_exception(error)))
        elif error.code is None or isinstance(error.code, int):
            status = (error.code or 0) & 0xFF
        else:
            _say(f"{error.code}\n")
    finally:
        os._exit(status)  # even if formatting the error raises


def _say(text: str) -> None:
    # Not sys.stderr, whose lock another thread of the parent may have held.
    os.write(2, text.encode(errors="backslashreplace"))
