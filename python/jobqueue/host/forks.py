"""What forks: which process this is, and what a handler's child is not.

A child that a handler forks is not a server: it ends when it would leave the handler.
"""

from __future__ import annotations

import os
import sys
import traceback
import types
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Generator
    from concurrent.futures import Future


class Process:
    """The current process; to ask the system for its number would be a system call for each job."""

    id = os.getpid()

    @classmethod
    def after_fork_in_child(cls) -> None:
        """Be another one."""
        cls.id = os.getpid()


class ParentOnly:
    """A `with` block that only the process that created it can leave. It may be entered again.

    A child would continue on its parent's connections. It ends as by `os._exit`, with the exit status
    of its exception: nothing that it has inherited is flushed, called or closed.
    """

    _used = False  # whether this process is, or was, a server

    discarded = False  # whether Python discards what awaits here, as it does with a closed loop

    def __init__(self) -> None:
        self._pid = Process.id
        ParentOnly._used = True

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        if Process.id != self._pid:
            _end(exc)

    @types.coroutine
    def awaiting(self, steps: Any, step: Any) -> Generator[Any, Any, Any]:
        """Go on awaiting inside the block. No child leaves it so: the event loop is its parent's.

        Args:
            steps: The iterator of what is awaited.
            step: What it yielded first.
        """
        while True:
            if Process.id != self._pid:
                _end(RuntimeError("a child of a handler can't await in its parent's event loop"))
            error: BaseException | None = None
            try:
                yield step
            except GeneratorExit:
                self.discarded = True
                steps.close()
                raise
            except BaseException as thrown:
                error = thrown
            try:
                step = next(steps) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value

    @classmethod
    def after_fork_in_child(cls) -> None:
        """Have a child end that would become a thread without work of its parent's executor.

        A function that a handler runs by `asyncio.to_thread` may fork, too.
        """
        threads: Any = sys.modules.get("concurrent.futures.thread")
        frame: types.FrameType | None = sys._getframe()  # noqa: SLF001 - to see where it was forked
        if not cls._used or threads is None:
            return
        work = threads._WorkItem.run.__code__  # noqa: SLF001 - a thread has nothing public to ask
        while frame is not None and frame.f_code is not work:
            frame = frame.f_back
        if frame is not None:
            frame.f_locals["self"].future.add_done_callback(_end_with)


def _end_with(outcome: Future[Any]) -> NoReturn:
    _end(outcome.exception())


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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Process.after_fork_in_child)
    os.register_at_fork(after_in_child=ParentOnly.after_fork_in_child)
