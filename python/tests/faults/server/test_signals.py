"""Signals of a process in which one or several servers run next to an application's own handlers.

A server that handles signals is a guest: it stops at SIGTERM and SIGINT, whatever else handles
of them does, and what it finds at its start is there again at its end.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import Client

from tests.conftest import until
from tests.faults.serving import KINDS, AnyServer, Program, in_the_main_thread, make, obeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


pytestmark = pytest.mark.usefixtures("redis", "received")  # emptied; and no signal ends the tests

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def received() -> Iterator[list[int]]:
    """The signals that the application's own handlers received."""
    signals: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, lambda number, _: signals.append(number))
    yield signals
    for number, handler in before.items():
        signal.signal(number, handler)


def serving(kind: str, url: str, queue: str = "job-queue") -> AnyServer:
    """Make a server that answers "echo"."""
    server = make(kind, url, queue=queue)
    server.on("echo", lambda value: value)
    return server


def answers(jobs: Client, ended: Callable[[], bool] = lambda: False) -> None:
    """Wait until a server answers, or has ended."""
    job = jobs.run("echo", 1)
    until(lambda: job.done() or ended(), "an answer")
    assert job.done(), "expected the server to answer, but it has ended"
    assert job.result(0) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", SIGNALS)
def test_the_applications_handler_hears_the_signal_too(
    kind: str,
    redis_url: str,
    received: list[int],
    number: signal.Signals,
) -> None:
    """The server stops, and the handler that stood there before is called, once."""
    mine = signal.getsignal(number)

    def during(ends: Any) -> None:
        with Client(redis_url) as jobs:
            answers(jobs)
            os.kill(os.getpid(), number)
            assert obeys(ends[server].is_set, jobs)

    server = serving(kind, redis_url)
    in_the_main_thread([server], during)

    assert received == [number]
    assert signal.getsignal(number) is mine


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_server_can_leave_the_signals_alone(
    kind: str,
    redis_url: str,
    received: list[int],
    number: signal.Signals,
) -> None:
    """With `run(handle_signals=False)` the application alone hears them, and the server goes on."""
    mine = signal.getsignal(number)
    seen: list[Any] = []

    def during(ends: Any) -> None:
        with Client(redis_url) as jobs:
            answers(jobs, ends[server].is_set)
            seen.append(signal.getsignal(number))
            os.kill(os.getpid(), number)
            assert not obeys(ends[server].is_set, jobs)

    server = serving(kind, redis_url)
    in_the_main_thread([server], during, handle_signals=False)

    assert seen == [mine]
    assert received == [number]


@pytest.mark.parametrize("kind", ["threads", "asyncio", "asyncio-4"])
def test_a_handler_that_is_set_meanwhile_stays(
    kind: str,
    redis_url: str,
    received: list[int],
) -> None:
    """A server restores only what is its own: what the application set later is left alone."""

    def later(number: int, _: Any) -> None:
        received.append(-number)

    def install(_: Any) -> None:
        signal.signal(signal.SIGTERM, later)

    def during(_: Any) -> None:
        with Client(redis_url) as jobs:
            job = jobs.run("install")
            until(job.done, "an answer")
            assert job.exception(0) is None

    server = serving(kind, redis_url)
    server.on("install", install)  # in these kinds a plain handler runs in the main thread
    in_the_main_thread([server], during)

    assert signal.getsignal(signal.SIGTERM) is later


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler])
def test_what_stood_there_before_is_restored(
    kind: str,
    redis_url: str,
    before: Any,
) -> None:
    """After `run`, both signals do what they did before."""
    for number in SIGNALS:
        signal.signal(number, before)

    def during(_: Any) -> None:
        with Client(redis_url) as jobs:
            answers(jobs)

    in_the_main_thread([serving(kind, redis_url)], during)

    assert [signal.getsignal(number) for number in SIGNALS] == [before, before]


@pytest.mark.parametrize("kind", ["asyncio", "asyncio-4"])
@pytest.mark.parametrize("number", SIGNALS)
def test_one_signal_stops_all_servers_of_a_process(
    kind: str,
    redis_url: str,
    received: list[int],
    number: signal.Signals,
) -> None:
    """Both drain and end."""
    servers = [serving(kind, redis_url, queue) for queue in ("a", "b")]

    def during(ends: Any) -> None:
        with Client(redis_url, queue="a") as a, Client(redis_url, queue="b") as b:
            answers(a)
            answers(b)
            os.kill(os.getpid(), number)
            stopped = [
                obeys(ends[server].is_set, jobs)
                for server, jobs in zip(servers, (a, b), strict=True)
            ]
            assert stopped == [True, True]

    in_the_main_thread(servers, during)

    assert received in (
        [],
        [number],
    )  # whether the application receives it is another test's business


@pytest.mark.parametrize("kind", ["asyncio", "asyncio-4"])
@pytest.mark.parametrize("first", [0, 1])
def test_servers_may_end_in_any_order(
    kind: str,
    redis_url: str,
    first: int,
) -> None:
    """Whichever of two ends first, the other one still obeys, and afterwards all is as before."""
    servers = [serving(kind, redis_url, queue) for queue in ("a", "b")]
    mine = signal.getsignal(signal.SIGTERM)
    stopped = []

    def during(ends: Any) -> None:
        with Client(redis_url, queue="a") as a, Client(redis_url, queue="b") as b:
            answers(a)
            answers(b)
            servers[first].stop()
            assert ends[servers[first]].wait(20)
            os.kill(os.getpid(), signal.SIGTERM)
            left = 1 - first
            stopped.append(obeys(ends[servers[left]].is_set, (a, b)[left]))

    in_the_main_thread(servers, during)

    assert stopped == [True]
    assert signal.getsignal(signal.SIGTERM) is mine


@pytest.mark.parametrize("kind", ["asyncio", "asyncio-4"])
def test_the_loops_own_signal_handlers_hear_the_signal_too(
    kind: str,
    redis_url: str,
) -> None:
    """`loop.add_signal_handler` of the application works next to a server, before and after it."""
    heard: list[str] = []

    async def application() -> None:
        loop = asyncio.get_running_loop()
        twice = asyncio.Event()

        def hear() -> None:
            heard.append("signal")
            if len(heard) == 2:
                twice.set()

        loop.add_signal_handler(signal.SIGTERM, hear)
        server = serving(kind, redis_url)
        running = asyncio.create_task(server.run())  # type: ignore[arg-type]
        with Client(redis_url) as jobs:
            await asyncio.to_thread(answers, jobs)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            await running
            os.kill(os.getpid(), signal.SIGTERM)
            await twice.wait()
        loop.remove_signal_handler(signal.SIGTERM)

    asyncio.run(application())


@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_that_is_inherited_as_blocked_stops(
    program: Callable[..., Program], client: Client
) -> None:
    """The server's parent may have blocked the signal; a server unblocks what it handles."""
    running = program(
        preexec_fn=lambda: signal.pthread_sigmask(
            signal.SIG_BLOCK, SIGNALS
        )  # as a careless supervisor does
    )

    running.process.send_signal(signal.SIGTERM)

    assert obeys(lambda: running.ended, client)
    assert running.status() == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", SIGNALS)
def test_signals_that_are_inherited_as_ignored_stop(
    program: Callable[..., Program], client: Client, number: signal.Signals
) -> None:
    """A shell starts programs in the background with SIGINT ignored; a server handles it."""
    running = program(preexec_fn=lambda: [signal.signal(each, signal.SIG_IGN) for each in SIGNALS])

    running.process.send_signal(number)

    assert obeys(lambda: running.ended, client)
    assert running.status() == 0
