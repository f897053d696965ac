"""The lock of an in-process list: against other servers, other users and the handlers' own deeds.

Whatever is where the lock should be, the server touches nothing of it, serves, and says what it
can't notice.
"""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import Client, ProcessorInUse

from tests.conftest import until
from tests.faults.serving import AnyServer, Program, Thread, make

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("redis")

PRECIOUS = b"not for truncation\n"

PROGRAM = Path(__file__).with_name("lock_program.py")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the locks are."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir()
    return tmp_path / "runtime" / "jobqueue"


@pytest.fixture
def server(redis_url: str) -> AnyServer:
    """A server that answers "echo"."""
    return serving(redis_url)


@pytest.fixture
def start(command: Callable[..., Program], redis_url: str) -> Callable[..., Program]:
    """Starts `lock_program.py`, a server with unusual handlers, and waits until it answers."""

    def run(how: str = "threads", **options: Any) -> Program:
        started = command(str(PROGRAM), redis_url, how, **options)
        assert started.line() == "runs"
        return started

    return run


def serving(url: str) -> AnyServer:
    """Make a server that answers "echo"."""
    server = make("threads", url)
    server.on("echo", lambda value: value)
    return server


def lock_file(folder: Path, thread: Callable[[AnyServer], Thread], url: str) -> Path:
    """Find out by a first server where the lock file is, and remove it."""
    first = thread(serving(url))
    with Client(url) as jobs:
        first.settled(jobs.run("echo"))
    first.stop()
    (file,) = folder.iterdir()
    file.unlink()
    return file


def contents(folder: Path) -> dict[Path, bytes]:
    """Read all files below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def link(file: Path, victim: Path) -> None:
    """Let the lock file's name lead to another file."""
    file.symlink_to(victim)


def hard_link(file: Path, victim: Path) -> None:
    """Give another file the lock file's name."""
    file.hardlink_to(victim)


def open_to_all(file: Path, _: Path) -> None:
    """Let everybody write to the lock file."""
    file.touch()
    file.chmod(0o666)


def pipe(file: Path, _: Path) -> None:
    """Put something there that an open waits for forever."""
    os.mkfifo(file)


def folder_is_a_link(file: Path, victim: Path) -> None:
    """Let the folder's name lead to another folder, in which a file has the lock file's name."""
    file.parent.rmdir()
    file.parent.symlink_to(victim.parent)
    victim.rename(victim.with_name(file.name))


def folder_is_everybodys(file: Path, victim: Path) -> None:
    """Let everybody put files into the folder."""
    file.parent.chmod(0o777)
    victim.rename(file)


@pytest.mark.parametrize(
    "trap", [link, hard_link, open_to_all, pipe, folder_is_a_link, folder_is_everybodys]
)
def test_what_somebody_else_may_have_put_there_is_left_alone(
    server: AnyServer,
    thread: Callable[[AnyServer], Thread],
    client: Client,
    folder: Path,
    tmp_path: Path,
    redis_url: str,
    trap: Callable[[Path, Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No link is followed, nothing is truncated; the server serves without a lock, and logs a warning."""
    file = lock_file(folder, thread, redis_url)
    (tmp_path / "elsewhere").mkdir()
    victim = tmp_path / "elsewhere" / "victim"
    victim.write_bytes(PRECIOUS)
    victim.chmod(0o600)
    trap(file, victim)
    before = contents(tmp_path)

    with caplog.at_level(logging.WARNING):
        running = thread(server)
        assert running.settled(client.run("echo", 1)).result(0) == 1

    assert contents(tmp_path) == before
    assert "no lock file" in caplog.text


@pytest.mark.parametrize("which", ["folder", "file"])
def test_another_users_place_is_not_used(
    server: AnyServer,
    thread: Callable[[AnyServer], Thread],
    client: Client,
    folder: Path,
    redis_url: str,
    which: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The owner of the directory or the file can replace or lock it: neither is trusted."""
    file = lock_file(folder, thread, redis_url)
    file.write_bytes(PRECIOUS)
    file.chmod(0o600)
    strange = folder if which == "folder" else file
    real = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        if found.st_ino != strange.stat().st_ino:
            return found
        return os.stat_result([*found[:4], found.st_uid + 1, *found[5:10]])

    monkeypatch.setattr(os, "fstat", fstat)
    with caplog.at_level(logging.WARNING):
        running = thread(server)
        assert running.settled(client.run("echo", 1)).result(0) == 1

    assert file.read_bytes() == PRECIOUS
    assert "belongs to another user" in caplog.text


def test_two_servers_that_start_at_once_are_noticed(
    redis_url: str,
    thread: Callable[[AnyServer], Thread],
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that comes while another of its name is still taking the lock is refused."""
    real = fcntl.lockf
    late: list[Thread] = []

    def lockf(*arguments: Any) -> None:
        if not late:
            late.append(thread(make("threads", redis_url)))
            until(lambda: late[0].ended, "a refusal")
        real(*arguments)

    monkeypatch.setattr(fcntl, "lockf", lockf)
    first = thread(serving(redis_url))

    assert first.settled(client.run("echo", 1)).result(0) == 1
    assert isinstance(late[0].error, ProcessorInUse)


def test_a_server_of_the_same_process_is_noticed_without_a_file_too(
    redis_url: str, thread: Callable[[AnyServer], Thread], client: Client, folder: Path
) -> None:
    """A read-only disk hides servers of other processes only."""
    folder.touch()
    first = thread(serving(redis_url))
    first.settled(client.run("echo"))

    second = thread(serving(redis_url))

    until(lambda: second.ended, "a refusal")
    assert isinstance(second.error, ProcessorInUse)


def test_a_forked_child_is_told_who_holds_the_lock(
    start: Callable[..., Program], client: Client
) -> None:
    """A child that a handler forks is another process, and the lock isn't its own."""
    running = start()

    sentence, holder = running.settled(client.run("fork")).result(0)

    assert f"in use by a server in process {holder}" in sentence


@pytest.mark.parametrize("how", ["threads", "threads-4"])
def test_a_handler_may_close_all_descriptors(
    start: Callable[..., Program], client: Client, how: str
) -> None:
    """What a handler closes is opened again; the lock is lost, which is logged, and the end is clean."""
    running = start(how)

    assert running.settled(client.run("close")).exception(0) is None
    assert running.settled(client.run("echo", 1)).result(0) == 1
    running.process.send_signal(signal.SIGTERM)

    assert running.status() == 0
    assert "Traceback" not in running.stderr
    assert "a handler closed the lock file" in running.stderr


def test_a_descriptor_that_has_become_another_files_is_not_closed(
    start: Callable[..., Program], client: Client, tmp_path: Path
) -> None:
    """Numbers of descriptors are given again: the lock's may be the application's by the end."""
    (tmp_path / "own").touch()
    running = start("swapped", stdin=subprocess.PIPE)
    assert running.process.stdin is not None
    with running.process.stdin as stdin:
        file = running.settled(client.run("swap", str(tmp_path / "own"))).result(0)
        running.process.send_signal(signal.SIGTERM)
        assert running.line() == "stopped"
        print(file, file=stdin, flush=True)

        assert running.line() == str(tmp_path / "own")


def test_a_full_disk_keeps_no_server_from_serving(
    start: Callable[..., Program], client: Client, redis_url: str, thread: Any
) -> None:
    """The holder's number can't be written then; the lock holds all the same."""
    running = start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))

    second = thread(make("threads", redis_url, processor="program"))

    until(lambda: second.ended, "a refusal")
    assert isinstance(second.error, ProcessorInUse)
    assert running.settled(client.run("echo", 1)).result(0) == 1
