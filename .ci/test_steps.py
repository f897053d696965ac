"""The runner of the steps: what it says of each, and when the run fails."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import steps
from steps import Ran, Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAN = """
[ci]
limit_s = {limit}
[[ci.steps]]
name = "first"
run = "echo 3 passed in 1 s"
budget_s = 60
figure = '\\d+ passed'
[[ci.steps]]
name = "second"
run = "echo $SUITE; {second}"
budget_s = 60
[[ci.steps]]
name = "third"
run = "echo third was run"
budget_s = 60

[nightly]
limit_s = 60
[[nightly.steps]]
name = "first"
run = "echo 3 passed in 1 s"
budget_s = 60
figure = '\\d+ passed'
[[nightly.steps]]
name = "second"
run = "{second}"
budget_s = 60
[[nightly.steps]]
name = "third"
run = "echo third was run"
budget_s = 60
"""


@pytest.fixture
def started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs a plan of three tiny steps, of which the second is given; its status and its output."""
    monkeypatch.setattr(steps, "HERE", tmp_path)
    monkeypatch.setattr(steps, "KEPT", tmp_path / "nightly.json")
    monkeypatch.setattr(steps, "PAGE", tmp_path / "README.md")
    (tmp_path / "README.md").write_text(f"before\n{steps.BEGIN}old\n{steps.END}after\n")

    def start(*words: str, second: str = "true", limit: float = 60) -> tuple[int, str]:
        (tmp_path / "steps.toml").write_text(PLAN.format(second=second, limit=limit))
        monkeypatch.setattr(sys, "argv", ["steps.py", *words])
        return steps.main(), capsys.readouterr().out

    return start


def test_a_run_ends_with_what_each_step_took(started: Callable[..., tuple[int, str]]) -> None:
    """All steps are run, and the table has a row for each and one for all."""
    status, printed = started("ci")

    assert status == 0
    assert re.findall(r"^(first|second|third|all) +\d+ +60$", printed, re.MULTILINE) == [
        "first", "second", "third", "all",
    ]  # fmt: skip
    assert ".venv/bin/pytest" in printed


def test_a_step_that_fails_ends_the_run(started: Callable[..., tuple[int, str]]) -> None:
    """What comes behind it isn't run, and the table marks it."""
    status, printed = started("ci", second="exit 3; echo never")

    assert status == 1
    assert re.search(r"^second +\d+ +60  FAILED$", printed, re.MULTILINE)
    assert "third was run" not in printed
    assert "never" not in printed


def test_a_failure_in_the_middle_of_a_step_is_one(started: Callable[..., tuple[int, str]]) -> None:
    """A later command of the same step doesn't hide it, nor does a pipe."""
    assert started("ci", second="false | cat; true")[0] == 1


def test_a_night_goes_on_and_keeps_the_results(
    started: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """What failed is kept as failed, with the others' figures; the text around the table stays."""
    status, printed = started("nightly", second="exit 1")

    text = (tmp_path / "README.md").read_text()
    assert status == 1
    assert "third was run" in printed
    assert re.search(
        r"\| first \| \d{4}-\d\d-\d\d \| `\w+(-dirty)?` \| [\d.]+ \| passed: 3 passed \|", text
    )
    assert re.search(r"\| second \|.*\*\*failed\*\* \|", text)
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text


def test_one_step_leaves_the_results_of_the_others(
    started: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """`--only` runs what it names, and keeps the rest of an earlier night."""
    started("nightly", second="exit 1")
    status, _ = started("nightly", "--only", "sec")

    text = (tmp_path / "README.md").read_text()
    assert status == 0
    assert text.count("passed") == 4  # three steps, of which one has a figure
    assert started("nightly", "--only", "fourth")[0] == 2


def test_more_than_the_limit_fails(started: Callable[..., tuple[int, str]]) -> None:
    """What went before the first step counts, too."""
    assert started("ci", "--before", "59")[0] == 0
    assert started("ci", "--before", "61")[0] == 1


def test_what_is_over_its_budget_is_marked() -> None:
    """The mark fails nothing by itself: a machine may be slow."""
    printed = steps.table([Ran("slow", passed=True, seconds=9, budget_s=8, figures=[])], 0, 60)

    assert re.search(r"^slow +9 +8  over$", printed, re.MULTILINE)


@pytest.mark.parametrize("plan", ["ci", "nightly"])
def test_the_real_plans_are_commands_of_bash(plan: str) -> None:
    """Each step has a budget, a name of its own, and is read by bash without an error."""
    limit_s, real = steps.read(plan)

    assert len({step.name for step in real}) == len(real)
    assert sum(step.budget_s for step in real) < limit_s
    for step in real:
        assert _read_by_bash(step), step.name


def _read_by_bash(step: Step) -> bool:
    return subprocess.run(["bash", "-n", "-c", step.run], check=False).returncode == 0


def test_a_commit_is_dirty_where_more_than_results_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night's steps write their results into the checkout, one after the other: that changes nothing tested."""
    monkeypatch.setattr(steps, "ROOT", tmp_path)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.com"]
    (tmp_path / "code").write_text("1")
    for each in steps.RESULTS:
        (tmp_path / each).parent.mkdir(exist_ok=True)
        (tmp_path / each).write_text("old")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], cwd=tmp_path, check=True)
    for each in steps.RESULTS:
        (tmp_path / each).write_text("new")

    clean = steps.commit()
    (tmp_path / "code").write_text("2")

    assert re.fullmatch(r"[0-9a-f]{7,}", clean)
    assert steps.commit() == f"{clean}-dirty"
