"""Signals of `jobqueue serve` and of its child processes."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import until
from tests.faults.serving import obeys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jobqueue import Client

    from tests.faults.serving import Program

APPLICATION = """
import os, signal
from jobqueue import Server, aio

def hear(number, frame):
    print("heard", flush=True)

def ending(child):
    if not child:
        os.kill(os.getpid(), signal.SIGHUP)
        os._exit(8)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

if os.environ.get("HEARS"):
    signal.signal(signal.SIGHUP, hear)
threads = Server(processor="app", block_timeout=0.05)
asyncio = aio.Server(processor="app", block_timeout=0.05)
for server in (threads, asyncio):
    server.on("echo", lambda value: value)
    server.on("pid", lambda _: os.getpid())
    server.on("hang-up", lambda _: ending(os.fork()))
"""
SERVED = [
    ["app:threads"],
    ["app:asyncio"],
    ["app:threads", "--processes", "2"],
]


@pytest.fixture
def serve(
    command: Callable[..., Program], redis_url: str, client: Client, tmp_path: Path
) -> Callable[..., Program]:
    """Starts `jobqueue serve` next to an application, and waits until it answers."""
    (tmp_path / "app.py").write_text(APPLICATION)

    def start(*arguments: str, hears: str = "", **options: Any) -> Program:
        environment = {"REDIS_URL": redis_url, "PATH": os.defpath, "HEARS": hears}
        started = command(
            "-m", "jobqueue", "serve", *arguments, cwd=tmp_path, env=environment, **options
        )
        started.settled(client.run("echo"))
        return started

    return start


@pytest.mark.parametrize("arguments", SERVED)
def test_a_hangup_stops_gracefully(serve: Callable[..., Program], arguments: list[str]) -> None:
    """A terminal that is closed, or a supervisor, gets the same end as by SIGTERM."""
    running = serve(*arguments)

    running.process.send_signal(signal.SIGHUP)

    until(lambda: running.ended, "the end of a parent that was asked to stop")
    assert (running.status(), "Traceback" in running.stderr) == (0, False)


@pytest.mark.parametrize("arguments", SERVED)
def test_a_hangup_ends_what_a_handler_has_forked(
    serve: Callable[..., Program], client: Client, arguments: list[str]
) -> None:
    """A child is not a server, so SIGHUP has its default effect."""
    running = serve(*arguments)

    assert running.settled(client.run("hang-up")).result(0) == -signal.SIGHUP


@pytest.mark.parametrize("arguments", SERVED)
def test_a_hangup_that_is_ignored_stays_ignored(
    serve: Callable[..., Program], client: Client, arguments: list[str]
) -> None:
    """That is what nohup is for; SIGTERM still stops."""
    running = serve(*arguments, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))

    running.process.send_signal(signal.SIGHUP)

    assert not obeys(lambda: running.ended, client)
    running.process.send_signal(signal.SIGTERM)
    assert running.status() == 0


@pytest.mark.parametrize("arguments", SERVED)
def test_a_hangup_that_the_application_handles_is_its_own(
    serve: Callable[..., Program], client: Client, arguments: list[str]
) -> None:
    """An application may reload at SIGHUP."""
    running = serve(*arguments, hears="1")

    running.process.send_signal(signal.SIGHUP)

    assert running.line() == "heard"
    assert not obeys(lambda: running.ended, client)


def test_a_parent_hears_signals_that_it_inherits_as_blocked(serve: Callable[..., Program]) -> None:
    """Its parent may have blocked them, and each server inherits that."""
    running = serve(
        "app:threads",
        "--processes",
        "2",
        preexec_fn=lambda: signal.pthread_sigmask(
            signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
        ),
    )

    running.process.send_signal(signal.SIGTERM)

    until(lambda: running.ended, "the end of a parent that was asked to stop")
    assert running.status() == 0


@pytest.mark.parametrize(
    "number", [signal.SIGRTMIN, signal.SIGRTMIN + 6, signal.SIGRTMAX, signal.SIGSEGV]
)
def test_a_server_that_any_signal_has_killed_is_replaced(
    serve: Callable[..., Program], client: Client, number: int
) -> None:
    """The parent names the signal, or its number where it has no name, and starts another server."""
    running = serve("app:threads", "--processes", "1")
    killed = running.settled(client.run("pid")).result(0)
    os.kill(killed, number)

    job = client.run("pid")

    assert running.settled(job).result(0) != killed
    running.process.send_signal(signal.SIGTERM)
    assert running.status() == 0
    assert "Traceback" not in running.stderr
    assert "restarting it" in running.stderr
    until(lambda: not running.members(), "no process that is left")
