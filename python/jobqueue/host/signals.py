"""SIGTERM and SIGINT while servers run, and the Control-C that nobody else handles.

The servers of a process are guests among its signal handlers. One handler of ours stops all of them
and then calls the application's, which it found in its place; when the last server has ended, all is
as before. What is forked meanwhile gets the ordinary meaning of both signals.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

ORDINARY: dict[int, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at either signal, inside the `with` block; only the main thread can do so.

    A second SIGINT raises KeyboardInterrupt, wherever the main thread is. So these are plain signal
    handlers in an event loop, too: the loop's own would wait until a handler that blocks is done.
    What the application's own handler raises is raised when the last server has ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        _servers.add(stop)
        yield
    finally:
        _servers.remove(stop)


def interrupts() -> tuple[type[BaseException], ...]:
    """Return what is not the application's own where it is raised here: Control-C, in the main thread."""
    main = threading.current_thread() is threading.main_thread()
    return (KeyboardInterrupt,) if main else ()


class _Servers:
    """Those that are stopped by signals in this process. Only the main thread uses it, but for forks."""

    def __init__(self) -> None:
        self._ours = self._handle  # one object, which can be recognized
        self._masks = threading.local()
        self._found: dict[int, Any] = {}  # the handlers in whose place ours stands, or stood
        self._reset()

    def _reset(self) -> None:
        self._stops: list[Callable[[], None]] = []
        self._blocked: set[int] = set()
        self._interrupted = False
        self._telling: FrameType | None = None
        self._raised: BaseException | None = None

    def add(self, stop: Callable[[], None]) -> None:
        """Have it called at each signal."""
        first = not self._stops
        self._stops.append(stop)
        for number in ORDINARY:
            found = signal.getsignal(number)
            if found is not self._ours:
                self._found[number] = found
                signal.signal(number, self._ours)
        if first and hasattr(signal, "pthread_sigmask"):
            # Whoever has started this process may have blocked them.
            self._blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDINARY) & ORDINARY.keys()

    def remove(self, stop: Callable[[], None]) -> None:
        """Have it called no more. After the last one, all is as it was found, or as others left it."""
        self._stops.remove(stop)
        if self._stops:
            return
        if self._blocked:
            signal.pthread_sigmask(signal.SIG_BLOCK, self._blocked)
        for number, found in self._found.items():
            if signal.getsignal(number) is self._ours:
                signal.signal(number, found or signal.SIG_DFL)
        raised = self._raised
        self._reset()
        if raised is not None:
            raise raised

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if frame is not None and frame is self._telling:
            return  # the application's handler calls the one that it has found, which is this
        found: Any = self._found.get(number, ORDINARY[number])
        if not self._stops:
            self._pass_on(number, frame, found)
            return
        for stop in self._stops:
            stop()
        again, self._interrupted = self._interrupted, self._interrupted or number == signal.SIGINT
        if _is_the_applications(found):
            try:
                self._tell(number, frame, found)
            except BaseException as error:  # or it would end a job in the middle
                self._raised = error
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt

    def _pass_on(self, number: int, frame: FrameType | None, found: Any) -> None:
        """Be as if ours weren't there: whoever had replaced it, calls it or has put it back too late."""
        current = signal.getsignal(number)
        if current is self._ours:
            signal.signal(number, found or signal.SIG_DFL)
            signal.raise_signal(number)
        elif callable(found) and found is not current:
            self._tell(number, frame, found)

    def _tell(self, number: int, frame: FrameType | None, found: Any) -> None:
        outer, self._telling = self._telling, frame
        try:
            found(number, frame)
        finally:
            self._telling = outer

    def before_fork(self) -> None:
        """Let no signal come to a child before its handlers are the ordinary ones: it would be lost."""
        if self._stops:
            self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, ORDINARY)

    def after_fork_in_parent(self) -> None:
        """Let the signals come again."""
        before = self._masks.__dict__.pop("before", None)
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def after_fork_in_child(self) -> None:
        """Be none of the servers, whose handlers were inherited."""
        for number, ordinary in ORDINARY.items():
            if signal.getsignal(number) is self._ours:
                signal.signal(number, ordinary)
        self._found = {}
        self._reset()
        self.after_fork_in_parent()


def _is_the_applications(found: Any) -> bool:
    """Tell a handler that somebody has set from what Python and asyncio do where nobody has."""
    by_asyncio = getattr(getattr(found, "func", None), "__module__", None) == "asyncio.runners"
    return callable(found) and found is not signal.default_int_handler and not by_asyncio


_servers = _Servers()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_servers.before_fork,
        after_in_parent=_servers.after_fork_in_parent,
        after_in_child=_servers.after_fork_in_child,
    )
