"""SIGTERM and SIGINT, while a server runs, and the Control-C that nobody else handles."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at either signal, inside the `with` block; only the main thread can do so.

    A second SIGINT raises KeyboardInterrupt, wherever the main thread is. So these are plain signal
    handlers in an event loop, too: the loop's own would wait until a handler that blocks is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _: object) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def interrupts() -> tuple[type[BaseException], ...]:
    """Return what is not the application's own where it is raised here: Control-C, in the main thread."""
    main = threading.current_thread() is threading.main_thread()
    return (KeyboardInterrupt,) if main else ()
