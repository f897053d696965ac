"""What stands behind each requirement: its tests, the mutants that die by them, its vectors, the lines that enforce it.

Pure but for reading the repository: the ids that stand there say what belongs to what.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobqueue_conformance.spec import data

from proof import repository
from proof.session import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from proof.matrix import Mutant
    from proof.session import SuiteTest

ID = re.compile(r"\b(?:client|server)\.[a-z]+(?:-[a-z]+)*\.[a-z]+(?:-[a-z]+)*\b")
COMMENT = re.compile(r"^\s*#|\s#\s")
REFERENCE = ROOT / "python" / "jobqueue"
SHOWN = 3  # lines of code from an id on


@dataclass(frozen=True)
class Line:
    """A line of the reference that names a requirement, and what follows it."""

    file: str
    number: int
    code: str


@dataclass
class Evidence:
    """All that stands behind one requirement; `tests` hold a test once, whatever its cases."""

    tests: dict[str, str] = field(default_factory=dict)
    mutants: list[Mutant] = field(default_factory=list)
    vectors: dict[str, str] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)


def gathered(tests: Iterable[SuiteTest], mutants: Iterable[Mutant]) -> dict[str, Evidence]:
    """The evidence for each requirement of the spec."""
    found: dict[str, Evidence] = {each: Evidence() for each in data.requirements()}
    for test in tests:
        for each in test.requirements:
            name = test.id.partition("[")[0]
            found[each].tests[name] = " ".join(test.docstring.split())
    for mutant in mutants:
        if mutant.equivalent is None:
            found[mutant.requirement].mutants.append(mutant)
    for file in sorted(data.folder("fixtures").glob("*.json")):
        for vector in data.load(file)["vectors"]:
            for each in vector["requirements"]:
                found[each].vectors[f"{file.stem}/{vector['id']}"] = vector["why"]
    for each, named in lines(repository.sources(REFERENCE)).items():
        if each in found:
            found[each].lines = named
    return found


def lines(sources: Mapping[str, str]) -> dict[str, list[Line]]:
    """Where the sources name an id in a comment."""
    named: dict[str, list[Line]] = defaultdict(list)
    for file, text in sources.items():
        for each, line in _named(file, text.splitlines()):
            named[each].append(line)
    return named


def _named(file: str, lines: Sequence[str]) -> Iterator[tuple[str, Line]]:
    for number, line in enumerate(lines):
        if COMMENT.search(line):
            code = "\n".join(lines[number : number + SHOWN]).rstrip()
            for each in dict.fromkeys(ID.findall(line)):
                yield each, Line(file, number + 1, code)
