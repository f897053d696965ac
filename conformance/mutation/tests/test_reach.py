"""A noting copy does the same as the original, and tells which test reached which of its statements."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mutation import reach
from mutation.edits import edits

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = '''"""What it is."""
from __future__ import annotations
import os

def f(a):
    """What it does."""
    if a == "one":
        return 1
    try:
        b = int(a)
    except ValueError:
        os._exit(7)
    finally:
        c = 3
    return b
'''
IF, THEN, TRY, FAILS, LAST = (7, 4), (8, 8), (10, 8), (12, 8), (15, 4)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder next to a noting copy, with its notes."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "code.py").write_text(SOURCE)
    reach.install(tmp_path / "library", ["code.py"], tmp_path / "notes")
    return tmp_path


def call(copy: Path, argument: str, test: str) -> int | str:
    """Call the function in a process that belongs to a test; its result, or how the process ended."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import library.code as code; print(code.f({argument!r}), code.__doc__)",
        ],
        cwd=copy,
        env={**os.environ, "PROOF_TEST": test},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.returncode


def test_the_copy_does_the_same_and_notes_where_each_test_came(copy: Path) -> None:
    """Each statement knows the tests whose processes reached it, and those that none reached aren't listed."""
    assert call(copy, "one", "t1") == "1 What it is."
    assert call(copy, "5", "t2") == "5 What it is."

    reached = reach.read((copy / "notes").read_text())

    assert reached["code.py", IF] == {"t1", "t2"}
    assert reached["code.py", THEN] == {"t1"}
    assert reached["code.py", TRY] == reached["code.py", LAST] == {"t2"}
    assert ("code.py", FAILS) not in reached


def test_a_process_that_ends_abruptly_has_told_all(copy: Path) -> None:
    """What is noted is written at once."""
    assert call(copy, "none", "t3") == 7

    assert reach.read((copy / "notes").read_text())["code.py", FAILS] == {"t3"}


def test_every_edit_stands_in_a_statement_that_can_be_noted(copy: Path) -> None:
    """Edits and notes name statements alike: where all of the code has run, every edit has its tests."""
    for number, argument in enumerate(("one", "5", "none")):
        call(copy, argument, f"t{number}")

    reached = reach.read((copy / "notes").read_text())

    found = {each.statement for each in edits(SOURCE.encode())}
    assert {("code.py", statement) for statement in found} <= reached.keys()
    assert len(found) >= 5
