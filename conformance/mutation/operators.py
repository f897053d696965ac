"""The small changes that could make a program wrong. Pure: a node of the syntax tree in, changes of its text out.

Each operator's docstring says what it makes. A change replaces bytes, not nodes, so that the rest of
a file stays as it was written.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<", "<=", ">="),
    ast.LtE: ("<=", "<", ">"),
    ast.Gt: (">", ">=", "<="),
    ast.GtE: (">=", ">", "<"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "/"),
    ast.Div: ("/", "*"),
}
SIMPLE = (ast.Name, ast.Attribute, ast.Constant, ast.Call, ast.Subscript, ast.GeneratorExp)

Change = tuple[int, int, str]  # from this byte to that one, this text instead


class Text:
    """A module's bytes, and where its nodes stand in them."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """The first byte of a node, and the one behind its last."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def of(self, node: ast.expr | ast.stmt) -> str:
        """How a node is written."""
        start, end = self.span(node)
        return self.source[start:end].decode()

    def between(
        self, left: ast.expr, right: ast.expr, pattern: str, *replacements: str
    ) -> Iterator[Change]:
        """Changes of the operator that stands between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        found = re.search(pattern.encode(), self.source[start:end])
        assert found is not None, f"no {pattern} in {self.source[start:end]!r}"
        for each in replacements:
            yield start + found.start(), start + found.end(), each


def comparison(node: ast.AST, text: Text) -> Iterator[Change]:
    """`<` becomes `<=` and `>=`, and so on; `==`, `is` and `in` become their opposites."""
    if isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
            yield from text.between(left, right, *COMPARISONS[type(operator)])


def arithmetic(node: ast.AST, text: Text) -> Iterator[Change]:
    """`+` becomes `-`, `*` becomes `/`, and the other way round; `+=` becomes `-=`."""
    match node:
        case ast.BinOp(left=left, op=operator, right=right):
            texts = any(
                isinstance(each, ast.JoinedStr)
                or (isinstance(each, ast.Constant) and isinstance(each.value, str | bytes))
                for each in (left, right)
            )
            if type(operator) in ARITHMETIC and not texts:
                yield from text.between(left, right, *ARITHMETIC[type(operator)])
        case ast.AugAssign(target=left, op=operator, value=right) if type(operator) in ARITHMETIC:
            yield from text.between(left, right, *ARITHMETIC[type(operator)])


def number(node: ast.AST, text: Text) -> Iterator[Change]:
    """An integer becomes one more and one less, a float ten times as much and a tenth."""
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int(value)):
            yield (*text.span(node), str(value + 1))
            yield (*text.span(node), str(value - 1))
        case ast.Constant(value=float(value)):
            yield (*text.span(node), repr(value * 10 or 1.0))
            yield (*text.span(node), repr(value / 10 or -1.0))


def string(node: ast.AST, text: Text) -> Iterator[Change]:
    """A string or bytes begins with an `x` that wasn't there."""
    match node:
        case ast.Constant(value=str(value)):
            yield (*text.span(node), repr(f"x{value}"))
        case ast.Constant(value=bytes(value)):
            yield (*text.span(node), repr(b"x" + value))


def boolean(node: ast.AST, text: Text) -> Iterator[Change]:
    """`True` becomes `False` and the other way round, `not a` becomes `a`, `if a` becomes `if not (a)`."""
    match node:
        case ast.Constant(value=bool(value)):
            yield (*text.span(node), str(not value))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield (*text.span(node), text.of(operand))
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            yield from _negated(test, text)
        case ast.comprehension(ifs=tests):
            for test in tests:
                yield from _negated(test, text)


def _negated(test: ast.expr, text: Text) -> Iterator[Change]:
    match test:
        case ast.Constant() | ast.UnaryOp(op=ast.Not()) | ast.Compare(ops=[_]):
            pass  # another operator makes the same of it
        case _:
            yield (*text.span(test), f"not ({text.of(test)})")


def and_or(node: ast.AST, text: Text) -> Iterator[Change]:
    """`and` becomes `or`, and the other way round."""
    if isinstance(node, ast.BoolOp):
        change = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from text.between(left, right, *change)


def statement(node: ast.AST, text: Text) -> Iterator[Change]:
    """A call, a yield, a raise, a bare return, a del, or an assignment to an attribute or item is left out."""
    match node:
        case (
            ast.Expr(value=ast.Call() | ast.Await() | ast.Yield() | ast.YieldFrom())
            | ast.AugAssign()
            | ast.Delete()
            | ast.Raise()
            | ast.Return(value=None)
        ):
            yield (*text.span(node), "pass")
        case ast.Assign(targets=targets) if all(
            isinstance(each, ast.Attribute | ast.Subscript) for each in targets
        ):
            yield (*text.span(node), "pass")


def call(node: ast.AST, text: Text) -> Iterator[Change]:
    """`f(a, b)` becomes `a`."""
    match node:
        case ast.Call(args=[first, *_]) if not isinstance(first, ast.Starred):
            written = text.of(first)
            yield (*text.span(node), written if isinstance(first, SIMPLE) else f"({written})")


def arguments(node: ast.AST, text: Text) -> Iterator[Change]:
    """`f(a, b)` becomes `f(b, a)`."""
    if isinstance(node, ast.Call):
        for left, right in zip(node.args, node.args[1:], strict=False):
            if not isinstance(left, ast.Starred) and not isinstance(right, ast.Starred):
                (start, left_end), (right_start, end) = text.span(left), text.span(right)
                comma = text.source[left_end:right_start].decode()
                yield start, end, text.of(right) + comma + text.of(left)


def returned(node: ast.AST, text: Text) -> Iterator[Change]:
    """`return a` becomes `return None`."""
    match node:
        case ast.Return(value=ast.Constant(value=None)):
            pass
        case ast.Return(value=ast.expr() as value):
            yield (*text.span(value), "None")


def loop(node: ast.AST, text: Text) -> Iterator[Change]:
    """`break` becomes `continue`, and the other way round."""
    match node:
        case ast.Break():
            yield (*text.span(node), "continue")
        case ast.Continue():
            yield (*text.span(node), "break")


def handler(node: ast.AST, text: Text) -> Iterator[Change]:
    """`except A` becomes `except ()`, which catches nothing, and what `finally` does is left out."""
    match node:
        case ast.ExceptHandler(type=ast.expr() as caught):
            yield (*text.span(caught), "()")
        case ast.Try(finalbody=[first, *_] as body):
            yield text.span(first)[0], text.span(body[-1])[1], "pass"


OPERATORS: tuple[Callable[[ast.AST, Text], Iterator[Change]], ...] = (
    comparison,
    arithmetic,
    number,
    string,
    boolean,
    and_or,
    statement,
    call,
    arguments,
    returned,
    loop,
    handler,
)
