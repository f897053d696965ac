"""What the command refuses, and what it says of the code that it judged."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import mutate
import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--only=12345678", "--publish"], "--publish is for a random sample"),
        (["--only=12345678"], "there is no edit 12345678"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_run(
    arguments: list[str], sentence: str
) -> None:
    """A chosen sample isn't published, and an unknown name is an error."""
    called = subprocess.run(
        [sys.executable, mutate.__file__, *arguments], capture_output=True, text=True, check=False
    )

    assert called.returncode == 2
    assert sentence in called.stderr


def test_a_commit_with_changes_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample of code that isn't committed as it was judged doesn't claim that commit alone."""
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "code.py").write_text("1")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=first"]):
        subprocess.run(["git", *identity, *command], cwd=tmp_path, check=True)

    committed = mutate.commit()
    (tmp_path / "code.py").write_text("2")

    assert mutate.commit() == f"{committed} with changes"
    assert " " not in committed
