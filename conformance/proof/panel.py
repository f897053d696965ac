"""The panels: correct programs of different design, and programs that do nothing right.

A right one passes all tests that apply to it, but for those that count as unsupported for a reason.
Against a null one every test fails, but for those that pass for a reason. panels.toml names these tests
with their reasons; a test that is named there and ends as the others is as wrong as one that isn't and
doesn't.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proof.session import Session, SuiteTest

PANELS = Path(__file__).parents[1] / "panels"


@dataclass(frozen=True)
class Member:
    """One program on a panel.

    `excused` maps globs of tests to reasons: those that a null program passes, or that count as unsupported
    for a right one.
    """

    panel: str
    name: str
    programs: dict[str, tuple[str, ...]]
    features: tuple[str, ...]
    excused: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name among those of both panels."""
        return f"{self.panel}-{self.name}"

    def faces(self, test: SuiteTest) -> bool:
        """Whether it has all that the test starts."""
        return self.programs.keys() >= set(test.programs)

    def manifest(self) -> str:
        """Its impl.toml."""
        lines = [f"name = {json.dumps(self.name)}", 'spec = "1.1"']
        for program, command in self.programs.items():
            parts = [str(PANELS / part) if (PANELS / part).is_file() else part for part in command]
            lines += ["", f"[{program}]", f"command = {json.dumps(parts)}"]
        return "\n".join([*lines, "", "[features]", *(f"{each} = true" for each in self.features)])


def read(path: Path = PANELS / "panels.toml") -> list[Member]:
    """All members of both panels."""
    written = tomllib.loads(path.read_text(encoding="utf-8"))
    return [
        Member(
            panel=panel,
            name=each["name"],
            programs={
                program: tuple(each[program]) for program in ("server", "client") if program in each
            },
            features=tuple(each["features"]),
            excused={known["tests"]: known["reason"] for known in each.get(excuse, [])},
        )
        for panel, excuse in (("right", "unsupported"), ("null", "passes"))
        for each in written[panel]
    ]


def judge(member: Member, session: Session) -> list[str]:
    """What this member's run shows to be wrong with the kit."""
    if session.problem is not None:
        return [f"broken: {session.problem.splitlines()[-1]}"]
    if not session.ended:
        return ["no test ran"]
    return (judge_right if member.panel == "right" else judge_null)(member, session)


def judge_right(member: Member, session: Session) -> list[str]:
    """A false alarm for each test that doesn't pass without a reason, and a reason for each that has no such test."""
    skipped = [end.test for end in session.ended if end.how == "skipped"]
    found = [
        f"false alarm: {end.test} ({(end.message.splitlines() or [end.how])[0]})"
        for end in session.ended
        if end.how != "passed" and not (end.test in skipped and _is_excused(member, end.test))
    ]
    return [*found, *_idle_excuses(member, skipped, "be unsupported")]


def judge_null(member: Member, session: Session) -> list[str]:
    """A test for each that passes without a reason, and a reason for each that has no such test."""
    passed = [end.test for end in session.ended if end.how == "passed"]
    found = [
        f"{test} passes against a program that does nothing right"
        for test in passed
        if not _is_excused(member, test)
    ]
    return [*found, *_idle_excuses(member, passed, "pass")]


def _is_excused(member: Member, test: str) -> bool:
    return any(fnmatchcase(test, _literal(glob)) for glob in member.excused)


def _idle_excuses(member: Member, tests: list[str], said: str) -> list[str]:
    return [
        f"'{glob}' is said to {said}, and no such test does"
        for glob in member.excused
        if not any(fnmatchcase(test, _literal(glob)) for test in tests)
    ]


def _literal(glob: str) -> str:
    return glob.replace("[", "[[]")
