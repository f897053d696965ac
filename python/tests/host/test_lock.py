"""One server per in-process list and host."""

import logging
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from jobqueue.errors import ProcessorInUse
from jobqueue.host.lock import ProcessorLock

HOLD = """
from jobqueue.host.lock import ProcessorLock
with ProcessorLock("redis", "list"):
    print("held", flush=True)
    input()
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the locks are."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "jobqueue"


def test_a_list_is_locked_once(folder: Path) -> None:
    """server.list.own: in one process, too; another list or another Redis has another lock."""
    with ProcessorLock("localhost:6379/0", "q:in-process:a"):
        with pytest.raises(ProcessorInUse, match=r"q:in-process:a.*this process"):
            ProcessorLock("localhost:6379/0", "q:in-process:a").__enter__()
        with ProcessorLock("localhost:6379/0", "q:in-process:b"):
            pass
        with ProcessorLock("localhost:6379/1", "q:in-process:a"):
            pass

    with ProcessorLock("localhost:6379/0", "q:in-process:a"):
        assert len(list(folder.iterdir())) == 3


def test_another_process_is_named(folder: Path) -> None:
    """server.list.own: the refusal says which process to look for; kill -9 frees the lock."""
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        with pytest.raises(ProcessorInUse, match=f"process {holder.pid}"):
            ProcessorLock("redis", "list").__enter__()

        holder.kill()
        holder.wait()
        with ProcessorLock("redis", "list"):
            assert folder.exists()


def test_a_lock_is_its_owners(folder: Path) -> None:
    """Others can't read who serves what, and the name of the list isn't part of a path."""
    with ProcessorLock("redis", "../../list\n"):
        (file,) = folder.iterdir()

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_without_a_place_for_locks_a_server_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server works on a read-only disk; the log says what it can't detect."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "file"))

    with caplog.at_level(logging.WARNING), ProcessorLock("redis", "list"):
        pass

    assert "no lock file" in caplog.text
