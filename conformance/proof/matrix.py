"""The kill matrix: which mutant is killed by which tests, and what a run says about that.

Pure but for reading and writing mutants.toml. A mutant is killed where each test that it names fails
by an assertion about its requirement; it is clean where the others that it names pass, which also
shows that it starts.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobqueue_conformance.spec.data import Requirement

    from proof.session import Ended, Session, SuiteTest

MUTANTS = Path(__file__).parents[1] / "mutants"
TABLE = MUTANTS / "mutants.toml"
FEATURES = {
    "server": ("recovery", "graceful-stop", "dead-list", "concurrency", "channel-prefix"),
    "client": ("concurrent-client",),
}
# What came after 1.0: by the second word of its requirements, the features that a mutant of them has.
LATER: dict[str, dict[str, tuple[str, ...]]] = {
    "server": {
        "attempts": ("attempts", "takeover"),
        "takeover": ("attempts", "takeover"),
        "expiry": ("expiry",),
        "kept": ("kept-results",),
    },
    "client": {"expiry": ("expiry-client",), "kept": ("kept-results-client",)},
}
BASE = "base"
HEADER = """\
# The mutants: correct programs with one seeded bug each, the requirement that it breaks, the tests that notice, and
# tests that it still passes. An equivalent mutant gives its reason in place of both. `prove.py --discover` fills in
# the tests; the words are written by hand.
"""


@dataclass(frozen=True)
class Mutant:
    """One entry of mutants.toml.

    `program` is `server` or `client`; `hangs` says that the bug is a hang, `features` what it has besides.
    """

    program: str
    name: str
    requirement: str
    bug: str
    killed_by: tuple[str, ...] = ()
    clean: tuple[str, ...] = ()
    equivalent: str | None = None
    hangs: bool = False
    features: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its name among those of both programs."""
        return f"{self.program}-{self.name}"

    @property
    def tests(self) -> tuple[str, ...]:
        """All that the gate runs against it."""
        return self.killed_by + self.clean


def read(path: Path = TABLE) -> list[Mutant]:
    """All mutants, in the order of the file."""
    written = tomllib.loads(path.read_text(encoding="utf-8"))
    return [
        Mutant(
            program=program,
            name=each["name"],
            requirement=each["requirement"],
            bug=each["bug"],
            killed_by=tuple(each.get("killed-by", ())),
            clean=tuple(each.get("clean", ())),
            equivalent=each.get("equivalent"),
            hangs=each.get("hangs", False),
            features=tuple(each.get("features", ())),
        )
        for program in FEATURES
        for each in written[program]
    ]


def write(mutants: Iterable[Mutant], path: Path = TABLE) -> None:
    """Write the file that `read` reads."""
    entries = [HEADER]
    for each in mutants:
        lines = [f"[[{each.program}]]", f"name = {_string(each.name)}"]
        lines += [f"requirement = {_string(each.requirement)}", f"bug = {_string(each.bug)}"]
        lines += ["hangs = true"] if each.hangs else []
        lines += [f"features = {json.dumps(each.features)}"] if each.features else []
        if each.equivalent is not None:
            lines.append(f"equivalent = {_string(each.equivalent)}")
        else:
            lines += [f"killed-by = {_array(each.killed_by)}", f"clean = {_array(each.clean)}"]
        entries.append("\n".join(lines) + "\n")
    path.write_text("\n".join(entries), encoding="utf-8")


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _array(texts: Sequence[str]) -> str:
    return "[" + "".join(f"\n  {_string(each)}," for each in texts) + ("\n]" if texts else "]")


def manifest(mutant: Mutant | None = None) -> str:
    """The impl.toml of a mutant, with the base as the other program; or of the base."""
    lines = [f"name = {_string(mutant.name if mutant else BASE)}", 'spec = "1.1"']
    for program in FEATURES:
        file = str(MUTANTS / f"{program}.py")
        name = mutant.name if mutant and mutant.program == program else BASE
        lines += ["", f"[{program}]", f"command = {json.dumps(['{python}', file, name])}"]
    features = [each for of_program in FEATURES.values() for each in of_program]
    features += [each for program in FEATURES for each in _later(program, mutant)]
    return "\n".join([*lines, "", "[features]", *(f"{each} = true" for each in features)]) + "\n"


def _later(program: str, mutant: Mutant | None) -> tuple[str, ...]:
    """The later features of a program: all that the base has, or those that the mutant's requirement needs."""
    later = LATER[program]
    if mutant is None or mutant.program != program:
        return tuple(dict.fromkeys(each for features in later.values() for each in features))
    return later.get(mutant.requirement.split(".")[1], ()) + mutant.features


def complaints(mutants: Sequence[Mutant], requirements: Mapping[str, Requirement]) -> list[str]:
    """What is wrong with the table itself, before anything is run."""
    names = Counter(each.label for each in mutants)
    found = [
        f"{label}: {number} mutants have this name" for label, number in names.items() if number > 1
    ]
    for each in mutants:
        if each.requirement not in requirements:
            found.append(f"{each.label}: the spec has no {each.requirement}")
        if each.equivalent is not None:
            if each.killed_by or not each.equivalent.strip():
                found.append(f"{each.label}: an equivalent mutant has a reason and no tests")
        elif not each.killed_by:
            found.append(f"{each.label}: no test is named that kills it")
        elif both := set(each.killed_by) & set(each.clean):
            found.append(f"{each.label}: {min(both)} can't kill it and be passed")
        elif not each.clean:
            found.append(
                f"{each.label}: no test is named that it passes, so it might not even start"
            )
    covered = {each.requirement for each in mutants if each.equivalent is None}
    found += [
        f"{each.id}: a {each.keyword} without a mutant"
        for each in requirements.values()
        if each.binds and each.untested is None and each.id not in covered
    ]
    return found


def judge(mutant: Mutant, session: Session) -> list[str]:
    """Why the mutant isn't killed, or not cleanly; nothing if all is right."""
    if session.problem is not None:
        return [f"broken: {session.problem.splitlines()[-1]}"]
    ended = {each.test: each for each in session.ended}
    found = []
    for test in mutant.tests:
        end = ended.get(test)
        if end is None:
            found.append(f"broken: there is no test {test}")
        elif test in mutant.clean:
            if end.how != "passed":
                found.append(f"not clean: {test} fails, too ({_said(end)})")
        elif end.how == "passed":
            found.append(f"survives {test}")
        elif not _kills(end, mutant):
            found.append(f"broken: {test} ends by no assertion of the suite ({_said(end)})")
        elif mutant.requirement not in end.blamed:
            found.append(f"killed by an assertion about {', '.join(end.blamed)} in {test}")
    return found


def _kills(end: Ended, mutant: Mutant) -> bool:
    return end.how == "failed" or (end.how == "hung" and mutant.hangs)


def judge_base(session: Session) -> list[str]:
    """What the unmutated base fails, in which case no kill means anything."""
    if session.problem is not None and "NO_TESTS" not in session.problem:
        return [f"broken: {session.problem.splitlines()[-1]}"]
    return [f"{end.test} fails: {_said(end)}" for end in session.ended if end.how != "passed"]


def _said(end: Ended) -> str:
    return end.message.splitlines()[0] if end.message else end.how


def candidates(mutant: Mutant, tests: Sequence[SuiteTest]) -> tuple[str, ...]:
    """The tests that might kill a mutant, and the smoke test, which shows that it starts."""
    return tuple(
        each.id
        for each in tests
        if mutant.requirement in each.requirements or each.file == "test_smoke.py"
    )


def others(mutant: Mutant, tests: Sequence[SuiteTest]) -> tuple[str, ...]:
    """All other tests but for the longest, where those weren't enough."""
    tried = candidates(mutant, tests)
    long = re.compile(r"test_sweep|test_interop|.*_stories")
    return tuple(each.id for each in tests if each.id not in tried and not long.match(each.file))


def discovered(mutant: Mutant, session: Session, most: int = 2) -> Mutant:
    """The mutant with the fastest of the tests that killed it, and of those that it passed."""
    by_time = sorted(session.ended, key=lambda end: (round(end.took_s, 1), end.test))
    killers = [
        end.test for end in by_time if _kills(end, mutant) and mutant.requirement in end.blamed
    ]
    passed = [end.test for end in by_time if end.how == "passed"]
    return replace(
        mutant,
        killed_by=mutant.killed_by or tuple(killers[:most]),
        clean=mutant.clean or tuple(passed[:most]),
    )
