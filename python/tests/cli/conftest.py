"""Runs `jobqueue` in this process, and starts Python in processes of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest
from jobqueue import JobError, __main__

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = Path(__file__).parents[2]


class Ended(NamedTuple):
    status: int
    stdout: str
    stderr: str


class Command(Protocol):
    def __call__(self, line: str, stdin: str = "") -> Ended:
        """Run the command."""


@pytest.fixture
def jobqueue(
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Command:
    """Run a line of a shell's in this process, and return what it came to."""

    def run(line: str, stdin: str = "") -> Ended:
        (tmp_path / "stdin").write_text(stdin)
        with (tmp_path / "stdin").open() as file, monkeypatch.context() as patch:
            patch.setenv("REDIS_URL", redis_url)
            patch.setattr(sys, "argv", ["jobqueue", *shlex.split(line)])
            patch.setattr(sys, "stdin", file)
            with pytest.raises(SystemExit) as end:
                __main__.main()
        return Ended(int(end.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def kind() -> str:
    """Serve in one way: the command line sees no difference."""
    return "threads"


@pytest.fixture
def server(serve: Callable[..., Any]) -> None:
    """Serve some methods."""

    def fail(parameters: object) -> None:
        raise JobError("billing.declined", "no\x1b[31m cover", parameters)

    serve({"echo": lambda parameters: parameters, "fail": fail})


def start(
    *arguments: str, stdout: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen[str]:
    """Start Python in a process of its own, which sees nothing of the caller's environment."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={"PATH": os.defpath, "PYTHONPATH": str(PACKAGES)} | environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_one_sentence(text: str) -> None:
    """Fail unless the text is one line of `jobqueue`'s."""
    assert text.startswith("jobqueue: ")
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert "Traceback" not in text
