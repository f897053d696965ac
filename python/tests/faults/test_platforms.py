"""Platforms that lack what only some have: clients work there, and a server says what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.serving import make

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue import Client

    from tests.faults.serving import AnyServer, Program, Thread

# What Windows has not, of all that the package or a platform's standard library could use.
BARE = """
import sys
sys.modules["fcntl"] = sys.modules["resource"] = sys.modules["pwd"] = None
import os, signal
for module, names in {
    os: "fork register_at_fork sched_yield getuid geteuid O_NOFOLLOW O_DIRECTORY O_CLOEXEC",
    signal: "SIGHUP SIGKILL SIGALRM pthread_sigmask valid_signals sigwait",
}.items():
    for name in names.split():
        vars(module).pop(name, None)
"""


@pytest.mark.parametrize("package", ["jobqueue", "jobqueue.aio", "jobqueue.cli", "jobqueue.admin"])
def test_each_package_can_be_imported(command: Callable[..., Program], package: str) -> None:
    """No import needs what only some platforms have."""
    ended = command("-c", f"{BARE}\nimport {package}\nprint('imported')")

    assert (ended.status(), ended.stderr) == (0, "")
    assert ended.line() == "imported"


def test_a_client_runs_jobs(
    command: Callable[..., Program],
    redis_url: str,
    client: Client,  # noqa: ARG001 - the queue is emptied first
    thread: Callable[[AnyServer], Thread],
) -> None:
    """Pushing and waiting take nothing but sockets and threads."""
    server = make("threads", redis_url)
    server.on("echo", lambda value: value)
    thread(server)
    ended = command(
        "-c",
        f"{BARE}\nfrom jobqueue import Client\n"
        f"with Client({redis_url!r}) as jobs: print(jobs.run('echo', 7).result())",
    )

    assert ended.line() == "7", ended.stderr
    assert ended.status() == 0


@pytest.mark.parametrize(
    "run",
    [
        "jobqueue.Server({url!r}).run()",
        "asyncio.run(jobqueue.aio.Server({url!r}).run())",
    ],
)
def test_a_server_says_what_it_needs(
    command: Callable[..., Program], redis_url: str, run: str
) -> None:
    """One sentence names the module that is missing, before anything is claimed."""
    ended = command(
        "-c", f"{BARE}\nimport asyncio, jobqueue, jobqueue.aio\n{run.format(url=redis_url)}"
    )

    assert ended.status() == 1
    assert ended.stderr.splitlines()[-1].startswith("RuntimeError: a server needs the module fcntl")
