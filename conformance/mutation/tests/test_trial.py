"""A wrong edit is killed, a harmless one isn't, and nothing is said where nothing is known."""

from __future__ import annotations

import functools
import subprocess
from typing import TYPE_CHECKING

import pytest
from jobqueue_conformance.redis_servers import choice
from proof import session
from proof.session import Ended, Order, Session, SuiteTest

from mutation import sample, trial
from mutation.trial import Known, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mutation.sample import Mutant

FILE = "protocol/messages.py"
ORDER = "test_server_claim.py::test_the_oldest_job_leaves_the_queue_first"
SMOKE = "test_smoke.py::test_a_server_answers_a_job"
possible = functools.cache(sample.possible)


@pytest.fixture(autouse=True)
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of each test's own for the mutants."""
    monkeypatch.setattr(trial, "BUILD", tmp_path)
    return tmp_path


@pytest.fixture
def mutant() -> Mutant:
    """Some edit of the library."""
    return named("returned", "return Answer(")


def named(operator: str, line: str) -> Mutant:
    """The last such edit of what answers a job."""
    *_, last = (
        each
        for each in possible()
        if (each.file, each.edit.where, each.edit.operator) == (FILE, "succeed", operator)
        and each.was.startswith(line)
    )
    return last


def known(*mutants: Mutant, **took_s: float) -> Known:
    """A right library that comes to these mutants' statements in these tests."""
    return Known(took_s, {(each.file, each.edit.statement): set(took_s) for each in mutants})


def test_a_wrong_edit_is_killed_and_others_survive() -> None:
    """The suite kills a library that answers nothing; an edit that nothing comes to survives, and a harmless one."""
    wrong = named("returned", "return Answer(")
    harmless = named("comparison", "if len(result) > LIMIT_BYTES")
    unseen = named("statement", "raise JobError(")
    right = known(wrong, harmless, **{ORDER: 1.0})

    judged = trial.judge([wrong, harmless, unseen], {"python": right}, choice.program(), 2)
    said = {each.mutant.name: (each.how, each.by) for each in judged}

    assert said == {
        wrong.name: ("killed", f"python: {ORDER}"),
        harmless.name: ("survived", "1 tests of python"),
        unseen.name: ("survived", "no test comes to it"),
    }


@pytest.mark.parametrize("again, fails", [("passed", False), ("failed", True)])
def test_the_right_library_may_fail_a_test_once(
    monkeypatch: pytest.MonkeyPatch, again: str, *, fails: bool
) -> None:
    """A test that fails by chance is run again; one that fails twice ends everything, by its name."""
    ends = iter(["failed", again])

    def run(orders: list[Order], _: int) -> Iterator[tuple[Order, Session]]:
        for order in orders:
            (order.manifest.parent / "notes").write_text("core.py:1:0\tt.py::a\n")
            yield order, Session(ended=[Ended("t.py::a", next(ends), took_s=2.0)])

    tests = Session(tests=[SuiteTest("t.py::a", (), "", "t.py", ())])
    monkeypatch.setattr(session, "collect", lambda _: tests)
    monkeypatch.setattr(session, "run", run)

    if fails:
        with pytest.raises(SystemExit, match=r"the right library fails: t\.py::a"):
            trial.known("python", "redis", 1)
    else:
        assert trial.known("python", "redis", 1).took_s == {"t.py::a": 2.0}


@pytest.mark.parametrize(
    "ended, problem, how, by",
    [
        ([Ended("a", "passed"), Ended("b", "failed")], None, "killed", "python: b"),
        ([Ended("a", "hung")], None, "killed", "python: a"),
        ([Ended("a", "failed")], "no end", "killed", "python: a"),
        ([Ended("a", "refused", message="it exited")], None, "refused", "python: a"),
        (
            [Ended("a", "error", message="no room\non the disk")],
            None,
            "unknown",
            "python: a: no room",
        ),
        ([Ended("a", "passed")], "no end", "unknown", "python: no end"),
        ([Ended("a", "passed"), Ended("b", "skipped")], None, "survived", "2 tests of python"),
    ],
)
def test_what_the_suite_says_of_a_program_is_its_death(
    mutant: Mutant, ended: list[Ended], problem: str | None, how: str, by: str
) -> None:
    """An assertion, a hang, a refusal; a fault of the kit's own, or a run without an end, says nothing."""
    said = trial.verdict(mutant, "python", Session(ended=ended, problem=problem))

    assert (said.how, said.by) == (how, by)


class TestJudge:
    """What is run, in which order, and what several runs say together."""

    def judge(
        self, monkeypatch: pytest.MonkeyPatch, right: dict[str, Known], *hows: str
    ) -> tuple[list[tuple[str, ...]], Verdict]:
        """Judge the mutant where the runs end like this; returns what was run, and the verdict."""
        made: list[tuple[str, ...]] = []
        ends = iter(hows)

        def run(orders: list[Order], _: int) -> Iterator[tuple[Order, Session]]:
            for order in orders:
                made.append((order.manifest.parent.name.partition("-")[2], *order.tests))
                yield order, Session(ended=[Ended(order.tests[0], next(ends))])

        monkeypatch.setattr(session, "run", run)
        (found,) = trial.judge([named("returned", "return Answer(")], right, "redis", 1)
        return made, found

    def test_a_kill_is_repeated(self, monkeypatch: pytest.MonkeyPatch, mutant: Mutant) -> None:
        """The test that failed is run once more, alone."""
        right = {"python": known(mutant, b=2.0, a=1.0)}

        made, found = self.judge(monkeypatch, right, "failed", "failed")

        assert made == [("python", "a", "b"), ("python", "a")]
        assert (found.how, found.by) == ("killed", "python: a")

    def test_a_failure_by_chance_kills_nobody(
        self, monkeypatch: pytest.MonkeyPatch, mutant: Mutant
    ) -> None:
        """Where the repetition passes, nothing is known."""
        _, found = self.judge(monkeypatch, {"python": known(mutant, a=1.0)}, "failed", "passed")

        assert found.how == "unknown"

    def test_the_first_colour_that_comes_to_it_decides(
        self, monkeypatch: pytest.MonkeyPatch, mutant: Mutant
    ) -> None:
        """Where no test of one colour comes to the edit, the next one's are run against its own program."""
        right = {"python": known(mutant), "python-asyncio": known(mutant, b=1.0)}

        made, found = self.judge(monkeypatch, right, "failed", "failed")

        assert made == [("python-asyncio", "b"), ("python-asyncio", "b")]
        assert (found.how, found.by) == ("killed", "python-asyncio: b")

    def test_who_survives_one_colour_is_spared_the_next(
        self, monkeypatch: pytest.MonkeyPatch, mutant: Mutant
    ) -> None:
        """What both colours share isn't tested twice."""
        right = {"python": known(mutant, a=1.0), "python-asyncio": known(mutant, b=1.0)}

        made, found = self.judge(monkeypatch, right, "passed")

        assert made == [("python", "a")]
        assert (found.how, found.by) == ("survived", "1 tests of python")


def test_the_quickest_test_is_the_first(mutant: Mutant) -> None:
    """The smoke test, which ends in a diagnosis, is run only where no other test comes to the edit."""
    right = known(mutant, **{SMOKE: 0.1, "slow": 3.0, "quick": 1.0})

    assert right.tests(mutant) == ["quick", "slow"]
    assert known(mutant, **{SMOKE: 0.1}).tests(mutant) == [SMOKE]
    assert right.tests(named("statement", "raise JobError(")) == []


def test_a_run_has_several_times_as_long_as_on_the_right_library(mutant: Mutant) -> None:
    """The limit grows with the tests, so that a slow machine makes nothing unknown."""
    right = known(mutant, a=10.0, b=20.0)

    assert right.limit_s(["a", "b"]) == trial.LIMIT_S + trial.LIMIT_FACTOR * 30.0
    assert trial.order(mutant, "python", ["a"], "redis", 7.0).limit_s == 7.0


def test_what_is_known_holds_only_for_what_it_was_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spec, a fixture, a manifest or another Redis make another name; what git ignores doesn't."""
    monkeypatch.setattr(trial, "ROOT", tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    for each in trial.INGREDIENTS:
        (tmp_path / each).mkdir(parents=True)
    names = [trial.digest("redis"), trial.digest("valkey")]
    for file in ("fixtures/jobs.json", "spec/protocol.md", "python/jobqueue/core.py"):
        (tmp_path / file).write_text("changed")
        names.append(trial.digest("redis"))
    (tmp_path / "python" / "jobqueue" / "core.pyc").write_text("compiled")

    assert len(set(names)) == 5
    assert trial.digest("redis") == names[-1]
