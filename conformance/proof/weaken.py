"""Takes one assertion out of the suite at a time, and asks whether the kill matrix notices.

An assertion is a statement that calls `require` or `fail`, in a test or in what the tests stand on.
It is missed where a mutant that it should kill is then killed no more, or not by the right words.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from proof.session import SUITE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import CodeType

    from proof.matrix import Mutant

PACKAGE = SUITE.parent
CALLS = {"require", "fail"}


@dataclass(frozen=True)
class Assertion:
    """Where it stands: a file of the kit, the function or method, a line; `ids` are the requirements that it names."""

    path: Path
    function: str
    line: int
    ids: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path.relative_to(PACKAGE)}:{self.line} in {self.function}"

    @property
    def in_test(self) -> bool:
        """Whether it stands in a test itself."""
        return self.path.parent == SUITE and self.function.startswith("test_")

    def delete(self) -> None:
        """Let this process's copy of the function do without it."""
        tree = _Without(self.line).visit(ast.parse(self.path.read_text("utf-8")))
        compiled = compile(ast.fix_missing_locations(tree), str(self.path), "exec")
        folders = self.path.relative_to(PACKAGE.parent).with_suffix("").parts
        found: Any = importlib.import_module(".".join(folders))
        for name in self.function.split("."):
            found = inspect.getattr_static(found, name)
        function = inspect.unwrap(found)
        function.__code__ = next(
            code for code in _codes(compiled) if code.co_qualname == self.function
        )


class _Without(ast.NodeTransformer):
    def __init__(self, line: int) -> None:
        self.line = line

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        return ast.Pass() if node.lineno == self.line and _asserts(node) else node


def _asserts(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value=ast.Call(func=ast.Name(id=name))):
            return name in CALLS
    return False


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield constant
            yield from _codes(constant)


def read() -> list[Assertion]:
    """Every assertion of the suite and of the kit's modules."""
    return [
        each for path in sorted(PACKAGE.rglob("*.py")) for each in _in_file(path, PACKAGE, SUITE)
    ]


def _in_file(path: Path, *folders: Path) -> Iterator[Assertion]:
    if path.parent not in folders:
        return
    for body, prefix in _bodies(ast.parse(path.read_text("utf-8"))):
        for function in body:
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.stmt) and _asserts(node):
                        yield Assertion(path, prefix + function.name, node.lineno, _ids(node))


def _bodies(module: ast.Module) -> Iterator[tuple[list[ast.stmt], str]]:
    yield module.body, ""
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield node.body, f"{node.name}."


def _ids(node: ast.AST) -> tuple[str, ...]:
    words = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
    return tuple(
        each for each in words if isinstance(each, str) and each.startswith(("client.", "server."))
    )


def those_who_notice(assertion: Assertion, mutants: Sequence[Mutant]) -> list[Mutant]:
    """The mutants that it may kill, each with the tests in which it may."""
    chosen = []
    for mutant in mutants:
        if assertion.in_test:
            start = f"{assertion.path.name}::{assertion.function}"
            tests = tuple(each for each in mutant.killed_by if each.partition("[")[0] == start)
        else:
            tests = mutant.killed_by if mutant.requirement in assertion.ids else ()
        if tests:
            chosen.append(replace(mutant, killed_by=tests, clean=()))
    return chosen
