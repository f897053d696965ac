"""What servers do to the signal handlers of their process, and what those do to servers."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue.host.signals import stopped_by_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def received() -> Iterator[list[str]]:
    """Who received a signal, in this order; the application's handler is one of them."""
    names: list[str] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, lambda *_: names.append("application"))
    yield names
    for number, handler in before.items():
        signal.signal(number, handler)


def test_servers_are_told_before_the_application(received: list[str]) -> None:
    """Each of them once, for each signal."""
    with (
        stopped_by_signals(lambda: received.append("a")),
        stopped_by_signals(lambda: received.append("b")),
    ):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    assert received == ["a", "b", "application"] * 2


def test_a_server_that_has_ended_is_told_no_more(received: list[str]) -> None:
    """The others are, whichever began first."""
    with ExitStack() as later:
        with stopped_by_signals(lambda: received.append("a")):
            later.enter_context(stopped_by_signals(lambda: received.append("b")))
        signal.raise_signal(signal.SIGTERM)

    assert received == ["b", "application"]


@pytest.mark.parametrize("number", SIGNALS)
def test_what_the_applications_handler_raises_waits(
    received: list[str], number: signal.Signals
) -> None:
    """A job that runs isn't ended by it: it is raised when the last server has ended."""

    def leave(*_: object) -> None:
        raise SystemExit(3)

    def serve() -> None:
        with stopped_by_signals(lambda: received.append("stop")):
            signal.raise_signal(number)
            received.append("the job's end")

    signal.signal(number, leave)
    with pytest.raises(SystemExit):
        serve()

    assert received == ["stop", "the job's end"]
    assert signal.getsignal(number) is leave


def test_a_handler_may_call_the_one_that_it_has_replaced(received: list[str]) -> None:
    """If handlers call each other: each is called once, and one SIGINT doesn't count as two."""
    with ExitStack() as servers:
        servers.enter_context(stopped_by_signals(lambda: received.append("a")))
        ours: Any = signal.getsignal(signal.SIGINT)

        def chain(number: int, frame: Any) -> None:
            received.append("chain")
            ours(number, frame)

        signal.signal(signal.SIGINT, chain)
        servers.enter_context(stopped_by_signals(lambda: received.append("b")))
        signal.raise_signal(signal.SIGINT)

    signal.raise_signal(signal.SIGINT)  # when no server runs any more

    assert received == ["a", "b", "chain", "chain"]
    assert signal.getsignal(signal.SIGINT) is chain


def test_a_handler_may_call_ours_when_no_server_runs(received: list[str]) -> None:
    """Then ours stands for the handler in whose place it stood."""
    with stopped_by_signals(lambda: received.append("stop")):
        ours: Any = signal.getsignal(signal.SIGTERM)

        def chain(number: int, frame: Any) -> None:
            received.append("chain")
            ours(number, frame)

        signal.signal(signal.SIGTERM, chain)
    signal.raise_signal(signal.SIGTERM)

    assert received == ["chain", "application"]
    assert signal.getsignal(signal.SIGTERM) is chain


def test_a_handler_that_is_put_back_too_late_is_the_applications(received: list[str]) -> None:
    """Another handler may have replaced ours for longer than the server ran: no signal is lost by that."""
    with stopped_by_signals(lambda: received.append("stop")):
        ours = signal.signal(signal.SIGTERM, lambda *_: received.append("other"))
        mine = signal.getsignal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is mine
    signal.signal(signal.SIGTERM, ours)

    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)

    assert received == ["application"] * 2


def test_a_second_sigint_interrupts(received: list[str]) -> None:
    """The application's handler hears of both; a SIGTERM between them doesn't count."""
    with stopped_by_signals(lambda: received.append("stop")):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with stopped_by_signals(lambda: received.append("stop")):
        signal.raise_signal(signal.SIGINT)  # the first one of another server

    assert received == ["stop", "application"] * 4


def test_asyncio_does_not_cancel_a_server_that_drains(received: list[str]) -> None:
    """The handler of SIGINT that `asyncio.run` sets is none of the application's."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

    async def main() -> str:
        with stopped_by_signals(lambda: received.append("stop")):
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)
            return "drained"

    assert asyncio.run(main()) == "drained"
    assert received == ["stop"]


@pytest.mark.usefixtures("received")
def test_signals_that_were_blocked_are_blocked_again() -> None:
    """They come while a server runs, and only then."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        with stopped_by_signals(lambda: None):
            during = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        after = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    assert set(SIGNALS).isdisjoint(during)
    assert after & set(SIGNALS) == {signal.SIGTERM}
