"""Streams of the command that are closed, full or gone: a sentence, and a status that tells what was lost."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.serving import make

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from redis import Redis

    from tests.faults.serving import AnyServer, Program, Thread

SERVER = """
from jobqueue import Server
server = Server(processor="app", block_timeout=0.05)
server.on("echo", lambda value: print("said by a handler") or value)
server.on("open", lambda _: __import__("os").path.realpath("/proc/self/fd/1"))
"""


@pytest.fixture
def shell(
    command: Callable[..., Program], redis_url: str, tmp_path: Path
) -> Callable[[str], Program]:
    """Runs a line of a shell's, in which `$jobqueue` is the command, next to an application."""
    (tmp_path / "app.py").write_text(SERVER)

    def run(line: str) -> Program:
        run_it = "import os, sys; os.execv('/bin/sh', ['sh', '-c', sys.argv[1]])"
        jobqueue = f"{os.sys.executable} -m jobqueue"  # type: ignore[attr-defined]
        return command(
            "-c",
            run_it,
            line.replace("$jobqueue", jobqueue),
            cwd=tmp_path,
            env={"REDIS_URL": redis_url, "PATH": os.defpath},
        )

    return run


@pytest.mark.parametrize(
    "line",
    [
        *("status", "status --json", "dead list", "run echo 1", "requeue web-1"),
        *("--version", "--help", "-h", "serve --help", "dead --help", "dead drop --help"),
    ],
)
@pytest.mark.parametrize(
    "stdout,sentence",
    [
        (">&-", "jobqueue: standard output is closed, so the output is lost\n"),
        (">/dev/full", "jobqueue: can't write to standard output: No space left on device\n"),
    ],
)
def test_output_that_is_lost_is_told(
    shell: Callable[[str], Program],
    redis: Redis,
    redis_url: str,
    thread: Callable[[AnyServer], Thread],
    line: str,
    stdout: str,
    sentence: str,
) -> None:
    """One sentence and status 1, however much there is to say."""
    redis.lpush("job-queue:dead", *(b"%d" % number * 1000 for number in range(100)))
    server = make("threads", redis_url)
    server.on("echo", lambda value: value)
    thread(server)

    ended = shell(f"exec $jobqueue {line} {stdout}")

    assert (ended.status(), ended.stderr) == (1, sentence)


@pytest.mark.parametrize("stdout", [">&-", ">/dev/full"])
@pytest.mark.parametrize("options", ["", "--processes 1"])
def test_a_server_that_says_nothing_loses_nothing(
    shell: Callable[[str], Program], client: Any, stdout: str, options: str
) -> None:
    """Where the output is closed, or full and unused, a stop is a perfect stop."""
    running = shell(f"exec $jobqueue serve app:server {options} {stdout}")
    method = "echo" if stdout == ">&-" else "open"
    value = running.settled(client.run(method)).result(0)

    running.process.send_signal(signal.SIGTERM)

    assert (running.status(), "Traceback" in running.stderr) == (0, False)
    assert value in {None, "/dev/full"}


def test_what_a_handler_says_in_vain_is_told_at_the_end(
    shell: Callable[[str], Program], client: Any
) -> None:
    """The job is answered, the stop is graceful; the status says that something was lost."""
    running = shell("exec $jobqueue serve app:server >/dev/full")
    assert running.settled(client.run("echo", 1)).result(0) == 1

    running.process.send_signal(signal.SIGTERM)

    assert running.status() == 1
    assert "Traceback" not in running.stderr
    assert running.stderr.splitlines()[-1] == (
        "jobqueue: can't write to standard output: No space left on device"
    )


@pytest.mark.usefixtures("redis")
def test_the_number_of_a_closed_stream_is_given_to_nothing_else(
    shell: Callable[[str], Program], client: Any
) -> None:
    """What writes to descriptor 1, as programs do that a handler starts, never writes to Redis."""
    running = shell("exec $jobqueue serve app:server >&-")

    assert running.settled(client.run("open")).result(0) == os.devnull


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    "line,status",
    [("status --redis http://localhost", 2), ("status --redis redis://127.0.0.1:1", 4)],
)
def test_the_status_stays_where_nobody_can_be_told(
    shell: Callable[[str], Program], stderr: str, line: str, status: int
) -> None:
    """A sentence that can't be written changes no status."""
    assert shell(f"exec $jobqueue {line} {stderr}").status() == status


@pytest.mark.usefixtures("redis")
def test_a_closed_input_is_told(shell: Callable[[str], Program]) -> None:
    """Parameters that can't be read are reported as those of a file."""
    ended = shell("exec $jobqueue run echo - <&-")

    assert ended.status() == 2
    assert ended.stderr == "jobqueue: the parameters can't be read: standard input is closed\n"
