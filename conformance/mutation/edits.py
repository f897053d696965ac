"""Every edit of a module that could make it wrong. Pure: source in, edits out, always in the same order.

What a program doesn't do is left alone: docstrings, annotations, decorators, type checking, and texts
for people.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mutation.operators import OPERATORS, Text, call

if TYPE_CHECKING:
    from collections.abc import Collection

LOGS = {"log", "_log", "logging", "warnings"}
FOR_TYPES = {"cast", "TypeVar", "ParamSpec", "NewType"}
ABOUT_THE_MODULE = {"__all__", "__slots__", "__match_args__"}


@dataclass(frozen=True)
class Edit:
    """One edit of a module.

    `line` is where it begins, `where` the qualified name of what it stands in, and `statement` the
    line and column of the innermost statement: whether a process reaches the edit is noted there.
    """

    operator: str
    line: int
    where: str
    statement: tuple[int, int]
    start: int
    end: int
    text: str

    def apply(self, source: bytes) -> bytes:
        """The module with this edit."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    def lines(self, source: bytes) -> tuple[str, str]:
        """The lines that it touches, before and after, without their margins."""
        first = source.rfind(b"\n", 0, self.start) + 1
        last = source.find(b"\n", self.end)
        last = len(source) if last < 0 else last
        after = source[first : self.start] + self.text.encode() + source[self.end : last]
        return _flush(source[first:last]), _flush(after)


def _flush(lines: bytes) -> str:
    return "\n".join(line.strip() for line in lines.decode().splitlines())


def edits(source: bytes) -> list[Edit]:
    """Every edit of a module, from its top to its bottom; no two of them give the same text."""
    finder = _Finder(Text(source))
    tree = ast.parse(source)
    finder.each_of(tree.body)
    distinct = {(each.start, each.end, each.text): each for each in reversed(finder.found)}
    return sorted(distinct.values(), key=lambda each: (each.start, each.end, each.text))


class _Finder(ast.NodeVisitor):
    """Asks every operator about every node that does something, and knows where it stands."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.found: list[Edit] = []
        self.where: tuple[str, ...] = ()
        self.statement = (1, 0)
        self.raising = False

    def each_of(self, statements: list[ast.stmt]) -> None:
        """Look at the statements of one block."""
        outer = self.statement
        for each in statements:
            self.statement = place(each)
            self.visit(each)
        self.statement = outer

    def ask(self, node: ast.AST, *, apart_from: Collection[object] = ()) -> None:
        """Note what the operators make of a node."""
        for operator in OPERATORS:
            if operator in apart_from:
                continue
            for start, end, new in operator(node, self.text):
                line = self.text.source.count(b"\n", 0, start) + 1
                where = ".".join(self.where) or "<module>"
                self.found.append(
                    Edit(operator.__name__, line, where, self.statement, start, end, new)
                )

    def call_itself(self, node: ast.Call) -> None:
        """Look at a call that is a statement or is raised: its first argument can't stand for it."""
        self.ask(node, apart_from=(call,))
        self.inside(node)

    def generic_visit(self, node: ast.AST) -> None:
        """Ask about the node, then look at what it consists of."""
        self.ask(node)
        self.inside(node)

    def inside(self, node: ast.AST, *left_out: str) -> None:
        """Look at a node's fields, but for some."""
        for name, value in ast.iter_fields(node):
            if name in left_out or name in {"annotation", "returns", "decorator_list"}:
                continue
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                self.each_of(value)
            else:
                for each in value if isinstance(value, list) else [value]:
                    if isinstance(each, ast.AST):
                        self.visit(each)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._named(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._named(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._named(node)

    def _named(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        outer = self.where
        self.where = (*outer, node.name)
        self.inside(node)
        self.where = outer

    def visit_If(self, node: ast.If) -> None:
        match node.test:
            case ast.Name(id="TYPE_CHECKING"):
                pass
            case _:
                self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        match node.value:
            case ast.Constant():  # a docstring, or an ellipsis
                pass
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name))) if name in LOGS:
                pass
            case ast.Call() as value:
                self.ask(node)
                self.call_itself(value)
            case _:
                self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        match node.targets:
            case [ast.Name(id=name)] if name in ABOUT_THE_MODULE:
                pass
            case _:
                self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        outer = self.raising
        self.raising = True
        if isinstance(node.exc, ast.Call):
            self.ask(node)
            self.call_itself(node.exc)
        else:
            self.generic_visit(node)
        self.raising = outer

    def visit_Constant(self, node: ast.Constant) -> None:
        """Ask about it, except for the text of an error; its code counts."""
        if not (self.raising and isinstance(node.value, str) and " " in node.value):
            self.ask(node)

    def visit_Call(self, node: ast.Call) -> None:
        match node.func:
            case ast.Attribute(value=ast.Name(id=name)) if name in LOGS:
                pass
            case ast.Name(id=name) if name in FOR_TYPES:
                for each in node.args[1:]:
                    self.visit(each)
            case _:
                self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        match node.value:
            case ast.Name(id="Literal"):
                pass
            case _:
                self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave it alone: up to Python 3.11 its parts stand nowhere."""


def place(statement: ast.stmt) -> tuple[int, int]:
    """Where a statement begins: a name for it, as no two begin at the same place."""
    return statement.lineno, statement.col_offset
