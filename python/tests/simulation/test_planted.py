"""Bugs can be planted in the real core, are found, and say so when the core has changed under them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from simulation.bugs import BUGS, Bug
from simulation.planted import PAGE

QUICK = [
    "a stop doesn't wait for handlers",
    "a lost connection doesn't end the others, so that renewals go on at the old primary",
    "a release deletes the lease, whoever has it",
    "a server removes its registration whenever its list is empty at a stop",
    "a queue that rests keeps its hands",
    "a look starts what is running",
    "a client pushes behind a SUBSCRIBE that isn't confirmed",
    "a result is stored after it is published",
    "a server decides by its own clock what has expired",
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_can_be_planted(bug: Bug) -> None:
    """Its piece is in the module once, what stands there instead is Python, and the page has its row."""
    compile(bug.source(), str(bug.path), "exec")

    assert f"| {bug.name} |" in PAGE.read_text("utf-8")


def test_a_bug_whose_piece_is_gone_is_refused() -> None:
    """A core that has changed makes the search fail, and not the bug pass as unfound."""
    with pytest.raises(ValueError, match="has 0 pieces"):
        BUGS[0]._replace(pieces=(("no such piece", ""),)).source()


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found(name: str) -> None:
    """The world of one of the first seeds breaks a law; so the bug was in the core that ran."""
    number = [bug.name for bug in BUGS].index(name)

    done = subprocess.run(
        [sys.executable, "-m", "simulation.planted", "--bug", str(number)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    seeds, _, sentence = done.stdout.split("\t")
    assert int(seeds) < 100
    assert sentence
