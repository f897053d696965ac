"""The report of a run: one verdict for each requirement, in every form that it takes."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jobqueue_conformance.programs.process import Exited
from jobqueue_conformance.programs.subjects import Subjects
from jobqueue_conformance.proxy.waiting import Hung
from jobqueue_conformance.reports import files, report
from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.manifest import Implementation, KnownFailure
from jobqueue_conformance.spec.verdicts import Failure, Record, Unmet, Unsupported, judge, stale

BEGAN = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
ORDER = "server.claim.order"
SERVER = Implementation(
    name="mine", path=Path("impl.toml"), server=("./server",), features=frozenset({"recovery"})
)


def summary(*records: Record, server: Implementation = SERVER) -> dict[str, Any]:
    """The report of a run in which these tests ran."""
    return report.summarise(
        records,
        Subjects(server, None),
        redis="valkey 9.1.2",
        origin="embedded",
        kit="1.0.0",
        began=BEGAN,
        now=BEGAN + timedelta(seconds=12),
    )


def verdict_of(made: dict[str, Any], requirement: str) -> str:
    """What the report says of one requirement."""
    (said,) = (each for each in made["requirements"] if each["id"] == requirement)
    return str(said["verdict"])


@pytest.mark.parametrize(
    "said, expected",
    [
        ([], "untested"),
        (["pass", "pass"], "pass"),
        (["pass", "fail"], "fail"),
        (["fail", "set-up-error"], "set-up-error"),
        (["pass", "known-failure"], "known-failure"),
        (["known-failure", "stale-known-failure"], "stale-known-failure"),
        (["pass", "unsupported"], "unsupported"),
        (["warning", "pass"], "warning"),
        (["pass", "not-run"], "not-run"),
        (["not-applicable", "not-run"], "not-run"),
        (["undecided", "pass"], "undecided"),
        (["undecided", "fail"], "fail"),
    ],
)
def test_the_worst_of_its_tests_is_the_verdict_of_a_requirement(
    said: list[str], expected: str
) -> None:
    """A requirement is green only where all of its tests are."""
    made = summary(*(Record(f"test_{n}", (ORDER,), each) for n, each in enumerate(said)))

    assert verdict_of(made, ORDER) == expected
    assert made["totals"][expected] >= 1


def test_what_was_not_promised_is_not_applicable() -> None:
    """Neither the other class nor a feature that isn't declared counts."""
    made = summary(Record("test_order", (ORDER,), "pass"))

    assert verdict_of(made, "client.push.left") == "not-applicable"
    assert verdict_of(made, "server.stop.exit") == "not-applicable"
    assert verdict_of(made, "server.recovery.first") == "untested"


def test_every_form_is_written(tmp_path: Path) -> None:
    """report.json fits its schema, the badge its endpoint, and the page names what failed."""
    failed = Record(
        "test_order", (ORDER,), "fail", "expected: 1\n  got: 2", 0.5, "pytest test_order"
    )

    files.write(tmp_path, summary(failed))

    written = json.loads((tmp_path / "report.json").read_text())
    data.validator("report").validate(written)
    assert written["duration_ms"] == 12_000
    badge = json.loads((tmp_path / "badge.json").read_text())
    assert (badge["schemaVersion"], badge["message"], badge["color"]) == (1, "1 of 1 fail", "red")
    page = (tmp_path / "summary.md").read_text()
    assert f"### fail: `{ORDER}`" in page
    assert "got: 2" in page
    assert "`pytest test_order`" in page


def test_a_page_shows_how_the_programs_were_started(tmp_path: Path) -> None:
    """A failed test has the variables of each program, as text."""
    variables = {"JOBQUEUE_QUEUE": "<jobs>", "JOBQUEUE_BLOCK_MS": "500"}
    settings = [{"program": "server", "variables": variables}]
    failed = Record(
        "test_order", (ORDER,), "fail", replay="pytest", evidence={"settings": settings}
    )

    files.write(tmp_path, summary(failed))

    data.validator("report").validate(json.loads((tmp_path / "report.json").read_text()))
    page = (tmp_path / "index.html").read_text()
    assert "JOBQUEUE_QUEUE=&lt;jobs&gt;\nJOBQUEUE_BLOCK_MS=500" in page


@pytest.mark.parametrize(
    "verdict, message, color",
    [
        ("pass", "1 of 1", "brightgreen"),
        ("warning", "0 of 1", "yellow"),
        ("fail", "1 of 1 fail", "red"),
    ],
)
def test_the_badge_is_green_only_where_all_passed(verdict: str, message: str, color: str) -> None:
    """A badge counts the requirements that were tested."""
    badge = report.badge(summary(Record("test_order", (ORDER,), verdict)))

    assert (badge["message"], badge["color"]) == (message, color)


def test_a_run_without_tests_has_no_green_badge() -> None:
    """Nothing tested is nothing proved."""
    assert report.badge(summary())["color"] == "yellow"


@pytest.mark.parametrize(
    "error, known, strict, expected",
    [
        (None, None, False, "pass"),
        (Failure(ORDER, "1", "2"), None, False, "fail"),
        (Failure(ORDER, "1", "2"), "issue 7", False, "known-failure"),
        (Failure("client.channel.name", "a", "b"), None, False, "warning"),
        (Failure("client.channel.name", "a", "b"), None, True, "fail"),
        (Unsupported("no jq"), None, False, "unsupported"),
        (OSError("no such file"), None, False, "set-up-error"),
        (OSError("no such file"), "issue 7", False, "set-up-error"),
    ],
)
def test_how_a_test_ended_is_its_verdict(
    error: BaseException | None,
    known: str | None,
    strict: bool,  # noqa: FBT001 - a parameter of the table above
    expected: str,
) -> None:
    """A set-up error is not a known failure, and a SHOULD fails only a strict run."""
    assert judge("test", (ORDER,), error, known, strict=strict).verdict == expected


ONCE = "server.publish.once"


class TestCharge:
    """A failure is charged to the requirement that it names, and to no other."""

    def test_a_failed_assertion_is_about_the_requirement_that_it_names(self) -> None:
        """What else the test is marked with is undecided, and says where the test ended."""
        made = summary(judge("test", (ONCE, ORDER), Failure(ORDER, "1", "2"), None, strict=False))

        assert (verdict_of(made, ORDER), verdict_of(made, ONCE)) == ("fail", "undecided")
        assert (made["totals"]["fail"], made["totals"]["undecided"]) == (1, 1)
        (undecided,) = (each for each in made["requirements"] if each["id"] == ONCE)
        assert undecided["tests"][0]["message"] == f"the test ended at {ORDER}"
        data.validator("report").validate(made)

    def test_it_need_not_be_one_of_the_tests_own(self) -> None:
        """A requirement that the test isn't marked with is red where the assertion is about it."""
        made = summary(judge("test", (ONCE,), Failure(ORDER, "1", "2"), None, strict=False))

        assert (verdict_of(made, ORDER), verdict_of(made, ONCE)) == ("fail", "undecided")

    def test_no_failure_is_lost_because_its_requirement_does_not_apply(self) -> None:
        """What was broken is red, even in a feature that isn't declared."""
        broken = Failure("server.stop.exit", "1", "2")

        made = summary(judge("test", (ORDER,), broken, None, strict=False))

        assert verdict_of(made, "server.stop.exit") == "fail"

    def test_a_known_failure_excuses_what_broke(self) -> None:
        """The others stay undecided: the test doesn't show whether they are met."""
        made = summary(judge("test", (ONCE, ORDER), Failure(ORDER, "1", "2"), "7", strict=False))

        assert (verdict_of(made, ORDER), verdict_of(made, ONCE)) == ("known-failure", "undecided")

    def test_another_test_can_decide(self) -> None:
        """A requirement that is undecided by one test and broken by another is broken."""
        first = judge("test", (ONCE, ORDER), Failure(ORDER, "1", "2"), None, strict=False)
        second = judge("other", (ONCE,), Failure(ONCE, "1", "2"), None, strict=False)

        assert verdict_of(summary(first, second), ONCE) == "fail"

    @pytest.mark.parametrize("error", [Hung("a result", 3.0), Exited("the server exited with 1")])
    def test_a_failure_that_names_none_is_charged_to_all(self, error: Unmet) -> None:
        """A hang or an exit breaks one of them, and none is green."""
        made = summary(judge("test", (ONCE, ORDER), error, None, strict=False))

        assert (verdict_of(made, ORDER), verdict_of(made, ONCE)) == ("fail", "fail")

    @pytest.mark.parametrize(
        "error, expected, got",
        [
            (Hung("a result", 3.0), "a result", "nothing of that within 3 s"),
            (Exited("it exited with 1"), "a program that goes on", "it exited with 1"),
        ],
    )
    @pytest.mark.parametrize(
        "ids, sentence",
        [
            ((ORDER,), f"{ORDER}: {data.requirements()[ORDER].text}"),
            ((ONCE, ORDER), f"one of {ONCE}, {ORDER} isn't met"),
        ],
    )
    def test_it_says_what_was_expected_and_what_came(
        self, error: Unmet, expected: str, got: str, ids: tuple[str, ...], sentence: str
    ) -> None:
        """A hang and an exit are reported in the same three lines as every failure."""
        record = judge("test", ids, error, None, strict=False)

        assert record.reason == f"{sentence}\n  expected: {expected}\n  got:      {got}"


KNOWN = KnownFailure(ORDER, ("test_order*",), "issue 7")
COLLECTED = {"t.py::test_order[1]": (ORDER,), "t.py::test_order[2]": (ORDER,), "t.py::other": ()}
FAILED = [Record(test, (ORDER,), "known-failure") for test in list(COLLECTED)[:2]]


class TestStale:
    """A known failure is strict in both directions."""

    def test_an_entry_whose_tests_fail_is_kept(self) -> None:
        """What is broken as listed is not reported as new."""
        assert stale(KNOWN, COLLECTED, FAILED) == []

    def test_a_listed_test_that_passes_is_stale(self) -> None:
        """The entry has to shrink with what it excuses."""
        records = [FAILED[0], replace(FAILED[1], verdict="pass")]

        (found,) = stale(KNOWN, COLLECTED, records)

        assert (found.test, found.verdict) == ("t.py::test_order[2]", "stale-known-failure")

    def test_an_entry_that_names_nothing_is_stale(self) -> None:
        """A test that was renamed takes its entry along, or the entry excuses nothing."""
        (found,) = stale(replace(KNOWN, tests=("gone",)), COLLECTED, FAILED)

        assert found.verdict == "stale-known-failure"
        assert "gone" in found.reason

    def test_an_entry_is_judged_only_where_all_of_its_tests_ran(self) -> None:
        """A selection of tests proves nothing about the others."""
        assert stale(KNOWN, COLLECTED, [replace(FAILED[0], verdict="pass")]) == []
