"""Many reports in one site: which of them counts, what has changed, and what can't be read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jobqueue_conformance.reports import files, site
from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.verdicts import Record
from page_tests import samples

ORDER = "server.claim.order"


def reported(
    verdict: str, *, name: str = "mine", date: str = "2026-11-24T09:00:00+00:00"
) -> dict[str, Any]:
    """The report of a run in which one test said this."""
    made = samples.summary([Record("tests/test_x.py::test", (ORDER,), verdict)], name=name)
    return {**made, "date": date}


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `jobqueue-conformance page`."""
    return subprocess.run(
        [sys.executable, "-m", "jobqueue_conformance", "page", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_later_of_two_runs_counts() -> None:
    """A run is its subjects and its Redis: repeated, it replaces the older one, in whatever order they are named."""
    older, later = reported("fail"), reported("pass", date="2026-11-25T09:00:00+00:00")

    for both in ([older, later], [later, older]):
        [run] = site.merged([*both, reported("fail", name="other")])["runs"][:1]
        assert (run["name"], run["verdicts"][ORDER], run["color"]) == (
            "mine",
            "pass",
            "brightgreen",
        )
    assert len(site.merged([older, reported("fail", name="other")])["runs"]) == 2


@pytest.mark.parametrize(
    "was, verdict, found",
    [
        ("pass", "pass", []),
        ("pass", "fail", [("pass", "fail")]),
        ("fail", "pass", [("fail", "pass")]),
        ("fail", "set-up-error", [("fail", "set-up-error")]),
    ],
)
def test_what_differs_from_an_older_set_is_a_change(
    was: str, verdict: str, found: list[tuple[str, str]]
) -> None:
    """Only a verdict that isn't what it was is listed; a run that is new is no change."""
    before = site.merged([reported(was)])
    now = [reported(verdict), reported("fail", name="new")]

    changes = site.merged(now, before)["changes"]

    assert [(each["was"], each["is"]) for each in changes] == found
    assert all(each["requirement"] == ORDER for each in changes)


def test_newly_red_comes_first() -> None:
    """What became green, or stayed red, stands behind what became red."""
    older = {"id": "run", "verdicts": {"a": "fail", "b": "pass", "c": "fail", "gone": "pass"}}
    newer = {
        "id": "run",
        "verdicts": {"a": "pass", "c": "set-up-error", "b": "fail", "new": "fail"},
    }

    assert [each["requirement"] for each in site.changes([older], [newer])] == ["b", "a", "c"]


def test_the_command_writes_a_site(tmp_path: Path) -> None:
    """Two folders with reports become a page, an index in the form of its schema, and each run's page and badge."""
    files.write(tmp_path / "reports" / "a", reported("pass"))
    files.write(tmp_path / "reports" / "b", reported("fail", name="other"))

    ran = command("reports", "--to", "first", cwd=tmp_path)
    again = command("reports/a", "reports/b", "--to", "second", "--since", "first", cwd=tmp_path)

    assert (ran.returncode, ran.stdout) == (0, "page: first/index.html\n")
    assert again.returncode == 0, again.stderr
    index = json.loads((tmp_path / "first" / "index.json").read_text("utf-8"))
    data.validator("site").validate(index)
    assert [each["headline"] for each in index["runs"]] == ["1 of 1", "1 of 1 fail"]
    for run in index["runs"]:
        assert run["headline"] in (tmp_path / "first" / run["badge"]).read_text("utf-8")
        assert (tmp_path / "first" / run["page"]).is_file()
        assert (tmp_path / "first" / run["page"]).with_name("badge.json").is_file()
    second = json.loads((tmp_path / "second" / "index.json").read_text("utf-8"))
    assert second["since"] == index["date"]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["empty"], "empty holds no report.json"),
        (["old"], "old/report.json isn't a report of this kit"),
        (["good", "--since", "empty"], "empty holds no index.json"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    """A folder without a report, one of an older kit, and a comparison with nothing are refused."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "report.json").write_text('{"spec": "1.0"}')
    files.write(tmp_path / "good", reported("pass"))

    ran = command(*arguments, cwd=tmp_path)

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(sentence)
    assert ran.stderr.count("\n") == 1
    assert not (tmp_path / "site").exists()
