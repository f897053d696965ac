"""Removes one assertion of the suite at a time, and asks whether the kill matrix notices.

An assertion is a statement that calls `require` or `fail`, in a test or in a module that the tests use.
Its removal is noticed where a mutant is then no longer killed, or by another requirement.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from jobqueue_conformance.spec.paths import PACKAGE, SUITE

from proof import imports, matrix, pace, panel

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path
    from types import CodeType

    from proof.matrix import Mutant
    from proof.progress import Proof
    from proof.session import Order, SuiteTest

CALLS = {"require", "fail"}
STEPS = (
    "hypothesis_stateful_rule",
    "hypothesis_stateful_invariant",
)  # what they mark keeps the function
MOST = 24  # mutants for one assertion
MOST_TESTS = 6  # for one null program
NOBODY = "without it, all tests still pass"


@dataclass(frozen=True)
class Assertion:
    """Its place: a file of the kit, the function or method, a line; `ids` are the requirements that it names."""

    path: Path
    function: str
    line: int
    ids: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path.relative_to(PACKAGE)}:{self.line} in {self.function}"

    @property
    def in_test(self) -> bool:
        """Whether it is in a test itself."""
        return SUITE in self.path.parents and self.function.startswith("test_")

    def delete_and(self, wait: Callable[[], None]) -> None:
        """Delete it, and set how long programs are waited for."""
        self.delete()
        wait()

    def delete(self) -> None:
        """Remove it from this process's copy of the function."""
        tree = _Without(self.line).visit(ast.parse(self.path.read_text("utf-8")))
        compiled = compile(ast.fix_missing_locations(tree), str(self.path), "exec")
        folders = self.path.relative_to(PACKAGE.parent).with_suffix("").parts
        found: Any = importlib.import_module(".".join(folders))
        for name in self.function.split("."):
            found = inspect.getattr_static(found, name)
        for marker in STEPS:
            found = getattr(getattr(found, marker, None), "function", found)
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
    return [each for path in imports.modules(PACKAGE).values() for each in _in_file(path)]


def _in_file(path: Path) -> Iterator[Assertion]:
    for body, prefix in _bodies(ast.parse(path.read_text("utf-8"))):
        for function in body:
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.stmt) and _asserts(node):
                        ids = _ids(node) or _ids(function)  # a helper's may be in a variable
                        yield Assertion(path, prefix + function.name, node.lineno, ids)


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


def standing_on(assertion: Assertion, tests: Sequence[SuiteTest]) -> tuple[str, ...]:
    """The tests that may execute it, judged by what they import, and in one file by the names in their source."""
    if SUITE not in assertion.path.parents:
        known = imports.modules(PACKAGE)
        [module] = [name for name, path in known.items() if path == assertion.path]
        files = {known[name].name for name in imports.leading_to(module, imports.read(PACKAGE))}
        return tuple(each.id for each in tests if each.file in files)
    text = assertion.path.read_text("utf-8")
    sources = {
        node.name: ast.get_source_segment(text, node) or ""
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    names, before = {assertion.function.partition(".")[0]}, 0
    while len(names) > before:
        before = len(names)
        names |= {name for name in sources if any(each in sources[name] for each in names)}
    if assertion.in_test:
        names = {assertion.function}
    return tuple(
        each.id
        for each in tests
        if each.file == assertion.path.name and _function(each.id) in names
    )


def _function(test: str) -> str:
    return test.partition("[")[0].rpartition("::")[2]


def those_who_notice(
    assertion: Assertion, mutants: Iterable[Mutant], ids: Collection[str]
) -> list[Mutant]:
    """The mutants that it may kill, each with the tests in which it may."""
    chosen = []
    for mutant in mutants:
        tests = tuple(each for each in mutant.killed_by if each in ids)
        about = assertion.in_test or not assertion.ids or mutant.requirement in assertion.ids
        if tests and about:
            chosen.append(replace(mutant, killed_by=tests, clean=()))
    return chosen[:: max(1, len(chosen) // MOST)]


def prove(proof: Proof, tests: list[SuiteTest]) -> None:
    """Remove each assertion that the command line asks for, and report those whose removal no mutant notices."""
    globs = [f"*{glob}*" for glob in proof.options.weaken]
    missed = {
        str(each): each for each in read() if any(fnmatchcase(str(each), glob) for glob in globs)
    }
    everything = list(missed)
    for ask in (_ask_mutants, _ask_null_programs, *([_ask_more] if proof.options.discover else [])):
        for label in ask(proof, tests, missed):
            missed.pop(label, None)
    for label in everything:
        proof.report("assertions", label, [NOBODY] if label in missed else [])


def _ask_mutants(
    proof: Proof, tests: list[SuiteTest], missed: dict[str, Assertion]
) -> Iterator[str]:
    """Those whose removal a mutant reveals."""
    orders, asked = [], {}
    for label, assertion in missed.items():
        ids = set(standing_on(assertion, tests))
        for mutant in those_who_notice(assertion, matrix.read(), ids):
            order = _without(proof, assertion, mutant)
            orders.append(order)
            asked[order.name] = label, mutant
    for order, said in proof.run("mutants", orders):
        label, mutant = asked[order.name]
        if said.problem is None and matrix.judge(mutant, said):
            yield label


def _ask_null_programs(
    proof: Proof, tests: list[SuiteTest], missed: dict[str, Assertion]
) -> Iterator[str]:
    """Those whose removal lets a null program pass a test."""
    orders, asked = [], {}
    for label, assertion in list(missed.items()):
        for member in panel.read():
            faced = [*filter(member.faces, tests)] if member.panel == "null" else []
            if ids := standing_on(assertion, faced)[:MOST_TESTS]:
                order = proof.order(member.label, member.manifest(), ids)
                name = f"{member.label}-without-{assertion.path.stem}-{assertion.line}"
                patience = partial(assertion.delete_and, pace.barely_wait)
                orders.append(replace(order, name=name, before=patience))
                asked[name] = label, member
    for order, said in proof.run("null programs", orders):
        label, member = asked[order.name]
        if any("passes against" in each for each in panel.judge_null(member, said)):
            yield label


def _ask_more(proof: Proof, tests: list[SuiteTest], missed: dict[str, Assertion]) -> Iterator[str]:
    """Those that a mutant notices if one more test is named as its killer; it is named from now on."""
    mutants = {each.label: each for each in matrix.read()}
    orders, asked = [], {}
    for label, assertion in list(missed.items()):
        ids = set(standing_on(assertion, tests))
        there = [each for each in tests if each.id in ids]
        about = {about for each in there for about in each.requirements}
        likely = [
            replace(each, killed_by=(test.id,), clean=())
            for each in mutants.values()
            if each.equivalent is None and each.requirement in (assertion.ids or about)
            for test in there
            if each.program in test.programs
        ]
        for mutant in likely[:: max(1, len(likely) // MOST)]:
            for order in (_with(proof, assertion, mutant), _without(proof, assertion, mutant)):
                orders.append(order)
                asked[order.name] = label, mutant
    killed: dict[str, dict[bool, bool]] = {}
    for order, said in proof.run("more mutants", orders):
        label, mutant = asked[order.name]
        intact = order.name.startswith("with-")
        pair = killed.setdefault(f"{label} {mutant.label} {mutant.killed_by}", {})
        if said.problem is None:
            pair[intact] = not matrix.judge(mutant, said)
        if pair == {True: True, False: False} and label in missed:
            known = mutants[mutant.label]
            if mutant.killed_by[0] not in known.tests:
                mutants[mutant.label] = replace(known, killed_by=known.killed_by + mutant.killed_by)
                matrix.write(mutants.values())
                yield label


def _with(proof: Proof, assertion: Assertion, mutant: Mutant) -> Order:
    order = proof.order(mutant.label, matrix.manifest(mutant), mutant.killed_by, limit_s=90.0)
    test = re.sub(r"[^a-z0-9]+", "-", mutant.killed_by[0])
    name = f"with-{assertion.path.stem}-{assertion.line}-{mutant.label}-{test}"
    return replace(order, name=name[:200], before=pace.shorten_waits)


def _without(proof: Proof, assertion: Assertion, mutant: Mutant) -> Order:
    order = _with(proof, assertion, mutant)
    return replace(
        order,
        name=f"without-{order.name.removeprefix('with-')}",
        before=partial(assertion.delete_and, pace.shorten_waits),
    )
