"""SIGTERM and SIGINT while servers run, and which exceptions of a handler are a Ctrl-C.

One signal handler stops all servers of the process, and then calls the application's handler that it
replaced. When the last server has ended, the application's handlers are restored. A child that is
forked meanwhile gets the default handlers of both signals.
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

DEFAULT_HANDLERS: dict[int, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at either signal inside the `with` block; has no effect outside the main thread.

    A second SIGINT raises KeyboardInterrupt wherever the main thread is. So these are plain signal
    handlers, in an event loop too: the loop's own would wait for a blocking handler. What the
    application's signal handler raises is raised when the last server has ended.
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
    """Return the exceptions that come from a signal rather than from a handler: Ctrl-C, if any."""
    main = threading.current_thread() is threading.main_thread()
    return (KeyboardInterrupt,) if main else ()


class _Servers:
    """The servers of this process that signals stop. Only the main thread uses it, except for forks."""

    def __init__(self) -> None:
        self._ours = self._handle  # one object, so that `is` recognizes it
        self._masks = threading.local()
        self._previous: dict[int, Any] = {}  # the handlers that ours replaces or has replaced
        self._reset()

    def _reset(self) -> None:
        self._stops: list[Callable[[], None]] = []
        self._blocked: set[int] = set()
        self._interrupted = False
        self._calling: FrameType | None = None
        self._raised: BaseException | None = None

    def add(self, stop: Callable[[], None]) -> None:
        """Call it at each signal from now on."""
        first = not self._stops
        self._stops.append(stop)
        for number in DEFAULT_HANDLERS:
            previous = signal.getsignal(number)
            if previous is not self._ours:
                self._previous[number] = previous
                signal.signal(number, self._ours)
        if first and hasattr(signal, "pthread_sigmask"):
            # The parent of this process may have blocked them.
            self._blocked = (
                signal.pthread_sigmask(signal.SIG_UNBLOCK, DEFAULT_HANDLERS)
                & DEFAULT_HANDLERS.keys()
            )

    def remove(self, stop: Callable[[], None]) -> None:
        """Stop calling it. After the last one, restore the handlers that nothing else has replaced."""
        self._stops.remove(stop)
        if self._stops:
            return
        if self._blocked:
            signal.pthread_sigmask(signal.SIG_BLOCK, self._blocked)
        for number, previous in self._previous.items():
            if signal.getsignal(number) is self._ours:
                signal.signal(number, previous or signal.SIG_DFL)
        raised = self._raised
        self._reset()
        if raised is not None:
            raise raised

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if frame is not None and frame is self._calling:
            return  # the application's handler calls the one that it has replaced, which is this
        previous: Any = self._previous.get(number, DEFAULT_HANDLERS[number])
        if not self._stops:
            self._pass_on(number, frame, previous)
            return
        for stop in self._stops:
            stop()
        again, self._interrupted = self._interrupted, self._interrupted or number == signal.SIGINT
        if _set_by_application(previous):
            try:
                self._call(number, frame, previous)
            except BaseException as error:  # it would end a job half-way
                self._raised = error
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt

    def _pass_on(self, number: int, frame: FrameType | None, previous: Any) -> None:
        """Act as if ours weren't set: code that had replaced it calls it, or has restored it, too late."""
        current = signal.getsignal(number)
        if current is self._ours:
            signal.signal(number, previous or signal.SIG_DFL)
            signal.raise_signal(number)
        elif callable(previous) and previous is not current:
            self._call(number, frame, previous)

    def _call(self, number: int, frame: FrameType | None, previous: Any) -> None:
        outer, self._calling = self._calling, frame
        try:
            previous(number, frame)
        finally:
            self._calling = outer

    def before_fork(self) -> None:
        """Block the signals: a child would lose one that arrives before its handlers are the default."""
        if self._stops:
            self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, DEFAULT_HANDLERS)

    def after_fork_in_parent(self) -> None:
        """Unblock the signals."""
        before = self._masks.__dict__.pop("before", None)
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def after_fork_in_child(self) -> None:
        """Restore the default handlers: the child is not one of the servers."""
        for number, default in DEFAULT_HANDLERS.items():
            if signal.getsignal(number) is self._ours:
                signal.signal(number, default)
        self._previous = {}
        self._reset()
        self.after_fork_in_parent()


def _set_by_application(previous: Any) -> bool:
    """Tell whether the application has set this handler, rather than Python or asyncio."""
    by_asyncio = getattr(getattr(previous, "func", None), "__module__", None) == "asyncio.runners"
    return callable(previous) and previous is not signal.default_int_handler and not by_asyncio


_servers = _Servers()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_servers.before_fork,
        after_in_parent=_servers.after_fork_in_parent,
        after_in_child=_servers.after_fork_in_child,
    )
