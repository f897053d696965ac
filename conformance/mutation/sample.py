"""Which edits are made: a sample of all that are possible in the code that the suite judges.

Each edit has a name that is made of what it changes, and a seed puts the names in an order of its
own, of which a sample is the beginning. So a larger sample holds the smaller one, and a change of
the code replaces few of its members: what was said of the others stays true.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mutation.edits import Edit, edits

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "python" / "jobqueue"
# What no program under test comes to: the commands of the terminal.
NOT_JUDGED = ("cli/*", "admin.py", "__main__.py")

Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Mutant:
    """One edit of one file; `number` tells apart edits that look the same and stand in one function."""

    file: str
    edit: Edit
    was: str
    becomes: str
    number: int

    @property
    def key(self) -> Key:
        """What it is known by where something is said of it: no line numbers, for those move."""
        return self.file, self.edit.where, self.was, self.becomes

    @property
    def name(self) -> str:
        """A short name, the same as long as the edited lines and the function's name are."""
        return _hash(*self.key, str(self.number))[:8]

    def diff(self) -> str:
        """The edit as it is shown."""
        lines = [f"--- python/jobqueue/{self.file}:{self.edit.line} in {self.edit.where}"]
        lines += [f"- {line}" for line in self.was.splitlines()]
        lines += [f"+ {line}" for line in self.becomes.splitlines()]
        return "\n".join(lines)


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def files(library: Path = LIBRARY) -> list[str]:
    """The modules that the suite judges, by their paths in the library."""
    found = (path.relative_to(library) for path in library.rglob("*.py"))
    return sorted(
        path.as_posix() for path in found if not any(path.match(each) for each in NOT_JUDGED)
    )


def possible(library: Path = LIBRARY) -> list[Mutant]:
    """Every edit of every module; a few of them don't compile."""
    return [mutant for file in files(library) for mutant in _of(file, library)]


def _of(file: str, library: Path) -> Iterator[Mutant]:
    source = (library / file).read_bytes()
    seen: Counter[Key] = Counter()
    for edit in edits(source):
        mutant = Mutant(file, edit, *edit.lines(source), 0)
        yield Mutant(file, edit, mutant.was, mutant.becomes, seen[mutant.key])
        seen[mutant.key] += 1


def drawn(mutants: list[Mutant], seed: int, library: Path = LIBRARY) -> Iterator[Mutant]:
    """Those that compile, in the order of a seed."""
    for mutant in sorted(mutants, key=lambda each: _hash(str(seed), each.name)):
        if compiles(mutant.edit.apply((library / mutant.file).read_bytes())):
            yield mutant


def compiles(source: bytes) -> bool:
    """Whether this is a program at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(source, "mutant", "exec", dont_inherit=True)
        except SyntaxError:
            return False
    return True
