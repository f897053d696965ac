"""What a run of a mutant, or of a panel's member, says about the kit."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from jobqueue_conformance.spec.data import Requirement

from proof import matrix, page, panel
from proof.matrix import Mutant
from proof.panel import Member
from proof.session import Ended, Session, SuiteTest

if TYPE_CHECKING:
    from pathlib import Path

ID = "server.remove.finished"
MUTANT = Mutant("server", "remove-never", ID, "nothing is removed", ("t.py::kills",), ("t.py::ok",))
SPEC = {ID: Requirement(ID, "MUST", "server", None, "The server MUST …", None)}
KILL = Ended("t.py::kills", "failed", (ID,), "server.remove.finished: …")
CLEAN = Ended("t.py::ok", "passed")
BOTH = ("server", "client")


def test_no_test_is_named_twice() -> None:
    """A test that kills a mutant can't be one that it passes."""
    assert matrix.complaints([replace(MUTANT, clean=MUTANT.killed_by)], SPEC) == [
        "server-remove-never: t.py::kills can't kill it and be passed"
    ]


def test_a_kill_is_an_assertion_about_the_requirement() -> None:
    """A mutant whose named tests blame its requirement, and which passes the others, is killed."""
    assert matrix.judge(MUTANT, Session(ended=[KILL, CLEAN])) == []


def test_a_hang_is_killed_by_a_deadline() -> None:
    """A mutant whose bug is a hang is killed by a test whose wait ends at its deadline."""
    hangs = replace(MUTANT, hangs=True)
    assert matrix.judge(hangs, Session(ended=[replace(KILL, how="hung"), CLEAN])) == []


@pytest.mark.parametrize(
    "session, complaint",
    [
        (Session(ended=[Ended("t.py::kills", "passed"), CLEAN]), "survives t.py::kills"),
        (
            Session(ended=[replace(KILL, blamed=("server.run.goes-on",)), CLEAN]),
            "killed by an assertion",
        ),
        (
            Session(ended=[replace(KILL, how="error"), CLEAN]),
            "broken: t.py::kills ends by no assertion",
        ),
        (
            Session(ended=[replace(KILL, how="hung"), CLEAN]),
            "broken: t.py::kills ends by no assertion",
        ),
        (Session(ended=[KILL, replace(KILL, test="t.py::ok")]), "not clean: t.py::ok"),
        (Session(ended=[KILL]), "broken: there is no test t.py::ok"),
        (Session(problem="hung: no end within 60 s"), "broken: hung"),
    ],
    ids=["survivor", "other requirement", "error", "timeout", "not clean", "no such test", "hang"],
)
def test_anything_else_is_no_kill(session: Session, complaint: str) -> None:
    """A survivor, a kill for another reason, and a program that doesn't start are distinguished."""
    (found,) = matrix.judge(MUTANT, session)
    assert found.startswith(complaint)


@pytest.mark.parametrize(
    "mutants, complaint",
    [
        ([], "server.remove.finished: a MUST without a mutant"),
        ([replace(MUTANT, killed_by=())], "no test is named that kills it"),
        ([replace(MUTANT, clean=())], "might not even start"),
        ([MUTANT, replace(MUTANT, requirement="server.remove.fnished")], "the spec has no"),
        ([MUTANT, replace(MUTANT, equivalent=" ", killed_by=())], "has a reason and no tests"),
        ([MUTANT, replace(MUTANT, bug="another")], "2 mutants have this name"),
    ],
    ids=["no mutant", "no killer", "no clean test", "unknown id", "no reason", "one name twice"],
)
def test_the_table_is_complete(mutants: list[Mutant], complaint: str) -> None:
    """Every MUST has a mutant, and every mutant its tests, or a reason."""
    assert matrix.complaints([MUTANT], SPEC) == []
    assert any(complaint in each for each in matrix.complaints(mutants, SPEC))


def test_the_table_reads_as_it_was_written(tmp_path: Path) -> None:
    """Writing the table and reading it again changes nothing."""
    unusual = replace(MUTANT, program="client", bug='says "no"\\', killed_by=("t.py::x[\\n]",))
    mutants = [
        MUTANT,
        replace(MUTANT, hangs=True),
        replace(MUTANT, equivalent="same effect", killed_by=(), clean=()),
        unusual,
    ]
    matrix.write(mutants, tmp_path / "mutants.toml")
    assert matrix.read(tmp_path / "mutants.toml") == mutants


def test_discovery_takes_the_quickest_tests() -> None:
    """Of the tests that blame the requirement, and of those that pass, the quickest are taken."""
    slow = replace(KILL, test="t.py::slow", took_s=5.0)
    unknown = replace(MUTANT, killed_by=(), clean=())
    found = matrix.discovered(unknown, Session(ended=[slow, KILL, CLEAN]), most=1)
    assert (found.killed_by, found.clean) == (("t.py::kills",), ("t.py::ok",))


def test_a_stale_page_is_noticed(tmp_path: Path) -> None:
    """KILLS.md that isn't what the table says is a complaint, until it is written again."""
    path = tmp_path / "KILLS.md"
    fresh = page.render([MUTANT])
    assert page.refresh(path, fresh, write=False)
    assert page.refresh(path, fresh, write=True) == []
    assert page.refresh(path, fresh, write=False) == []
    assert page.refresh(path, fresh + "\n", write=False)
    assert "`remove-never` | `server.remove.finished`" in path.read_text(encoding="utf-8")


RIGHT = Member("right", "lua", {"server": ("lua",)}, ())
NULL = Member("null", "hangs", {"server": ("hangs",)}, (), {"t.py::ok[*": "it may hang here"})


def test_a_mutant_has_the_base_beside_it() -> None:
    """One program of a manifest has the bug, so that tests of a pair are about it."""
    written = tomllib.loads(matrix.manifest(replace(MUTANT, program="client", name="push-twice")))
    assert written["client"]["command"][-1] == "push-twice"
    assert written["server"]["command"][-1] == "base"
    assert {*matrix.FEATURES["server"], *matrix.FEATURES["client"]} <= set(written["features"])


@pytest.mark.parametrize(
    "requirement, later",
    [
        ("server.remove.finished", set()),
        ("server.attempts.limit", {"attempts", "takeover"}),
        ("server.expiry.runs", {"expiry"}),
        ("server.kept.first", {"kept-results"}),
    ],
)
def test_a_mutant_has_the_features_that_it_needs(requirement: str, later: set[str]) -> None:
    """A server that is made from one of protocol 1.0 has no later features, and the base has all of them."""
    written = tomllib.loads(matrix.manifest(replace(MUTANT, requirement=requirement)))
    base = tomllib.loads(matrix.manifest())
    of_servers = {each for features in matrix.LATER["server"].values() for each in features}
    assert set(written["features"]) & of_servers == later
    assert set(base["features"]) >= of_servers


def test_a_member_faces_what_it_has_the_programs_for() -> None:
    """A server alone isn't asked to pass tests of a pair."""
    alone = Member("null", "idle", {"server": ("true",)}, ())
    one, pair = (SuiteTest("t.py::t", (), "", "t.py", programs) for programs in (("server",), BOTH))
    assert alone.faces(one)
    assert not alone.faces(pair)


def test_a_right_program_passes_everything() -> None:
    """A test that doesn't pass against a right program is a false alarm."""
    assert panel.judge(RIGHT, Session(ended=[CLEAN])) == []
    (found,) = panel.judge(RIGHT, Session(ended=[CLEAN, KILL]))
    assert found.startswith("false alarm: t.py::kills")


def test_a_right_program_may_be_one_that_a_test_does_not_support() -> None:
    """A test that is named as unsupported is skipped; one that passes or fails isn't excused."""
    member = replace(RIGHT, excused={"t.py::kills": "it needs more"})
    assert panel.judge(member, Session(ended=[CLEAN, replace(KILL, how="skipped")])) == []
    for how, complaint in (("failed", "false alarm: "), ("passed", "'t.py::kills' is said to be ")):
        found = panel.judge(member, Session(ended=[CLEAN, replace(KILL, how=how)]))
        assert found[0].startswith(complaint)


@pytest.mark.parametrize(
    "ended, complaint",
    [
        ([replace(CLEAN, test="t.py::ok[1]"), CLEAN], "t.py::ok passes against"),
        ([KILL], "'t.py::ok[*' is said to pass"),
    ],
    ids=["passes without a reason", "reason without a pass"],
)
def test_a_null_program_passes_nothing_without_a_reason(ended: list[Ended], complaint: str) -> None:
    """A test that passes against a null program is listed with its reason, and only such a test."""
    assert panel.judge(NULL, Session(ended=[KILL, replace(CLEAN, test="t.py::ok[1]")])) == []
    (found,) = panel.judge(NULL, Session(ended=ended))
    assert found.startswith(complaint)


@pytest.mark.parametrize("member", [RIGHT, NULL], ids=["right", "null"])
def test_a_panel_that_ran_nothing_proves_nothing(member: Member) -> None:
    """A run without a test, or that broke off, is a complaint."""
    assert panel.judge(member, Session()) == ["no test ran"]
    assert panel.judge(member, Session(problem="a\nb")) == ["broken: b"]
