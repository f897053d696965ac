"""Which tests reach which statement of the code: only those can notice an edit in it.

A copy of the library notes, before every statement, that a process came there, and for which test
that process was started. A line is written at once, so a process that is killed has noted all it did.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mutation.edits import place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Statement = tuple[str, tuple[int, int]]  # the file, the line and the column

# The module next to the copy; every process gets the name of its test.
NOTER = """\
import os

_seen = set()
_test = os.environ.get("PROOF_TEST", "")
_notes = os.open({notes!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def came(place):
    if place not in _seen:
        _seen.add(place)
        os.write(_notes, f"{{place}}\\t{{_test}}\\n".encode())
"""


def noting(source: str, file: str) -> str:
    """A module that notes when a process comes to one of its statements."""
    tree = ast.parse(source)
    for block in list(_blocks(tree)):
        at = _behind_what_comes_first(block)
        block[at:] = [both for each in block[at:] for both in (*_note(each, file), each)]
    if tree.body:
        at = _behind_what_comes_first(tree.body)
        tree.body[at:at] = ast.parse("from _noter import came as _came").body
    return ast.unparse(ast.fix_missing_locations(tree))


def _note(statement: ast.stmt, file: str) -> list[ast.stmt]:
    line, column = place(statement)
    return ast.parse(f"_came({f'{file}:{line}:{column}'!r})").body


def _blocks(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                yield value


def _behind_what_comes_first(block: list[ast.stmt]) -> int:
    """The number of statements that have to stand first: a docstring, imports from the future."""
    number = 0
    for statement in block:
        match statement:
            case ast.Expr(value=ast.Constant()) | ast.ImportFrom(module="__future__"):
                number += 1
            case _:
                break
    return number


def install(copy: Path, files: Iterable[str], notes: Path) -> None:
    """Let a copy of the library note where it comes."""
    (copy.parent / "_noter.py").write_text(NOTER.format(notes=str(notes)), encoding="utf-8")
    for file in files:
        source = (copy / file).read_text(encoding="utf-8")
        (copy / file).write_text(noting(source, file), encoding="utf-8")


def read(notes: str) -> dict[Statement, set[str]]:
    """The tests that reach each statement."""
    found: dict[Statement, set[str]] = {}
    for line in notes.splitlines():
        where, _, test = line.partition("\t")
        file, row, column = where.rsplit(":", 2)
        found.setdefault((file, (int(row), int(column))), set()).add(test)
    return found
