"""Which modules of a package import which others of it, read from their sources.

Pure but for reading the files. An import inside a function counts, for it is one at run time; one that
only the type checker follows is distinguished.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One module imports another; `typing` where only the type checker follows it."""

    importer: str
    imported: str
    typing: bool = False

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported}"


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package by its name; a folder without `__init__.py` holds programs, not modules."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        folders = path.relative_to(package).parts[:-1]
        parents = [package.joinpath(*folders[:depth]) for depth in range(len(folders) + 1)]
        if all((folder / "__init__.py").is_file() for folder in parents):
            name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def read(package: Path) -> tuple[Import, ...]:
    """Every import of a module of the package by another one."""
    known = modules(package)
    return tuple(
        each
        for name, path in known.items()
        for each in imports_of(name, path.read_text("utf-8"), known)
    )


def imports_of(importer: str, source: str, known: Collection[str]) -> Iterator[Import]:
    """The imports of known modules in a module's source.

    Importing a name from a package is importing that module, or else the package itself. Relative imports
    raise, because both packages use absolute imports.
    """
    tree = ast.parse(source)
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and _says_type_checking(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        for name in _named(node, known):
            if name != importer:
                yield Import(importer, name, typing=node in for_types)


def _named(node: ast.AST, known: Collection[str]) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (each.name for each in names if each.name in known)
        case ast.ImportFrom(level=level) if level:
            raise ValueError(f"line {node.lineno}: a relative import")
        case ast.ImportFrom(module=str(module), names=names):
            for each in names:
                inner = f"{module}.{each.name}"
                if inner in known:
                    yield inner
                elif module in known:
                    yield module


def _says_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test).rpartition(".")[2] == "TYPE_CHECKING"


def leading_to(module: str, imports: Collection[Import]) -> set[str]:
    """The modules that import this one, themselves or through others."""
    found: set[str] = set()
    new = {module}
    while new:
        new = {each.importer for each in imports if each.imported in new} - found
        found |= new
    return found


def circle(imports: Collection[Import]) -> list[str]:
    """An import cycle: each module imports the next, the last one the first. Empty if there is none."""
    following: dict[str, list[str]] = {}
    for each in imports:
        following.setdefault(each.importer, []).append(each.imported)
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module not in done:
            for imported in following.get(module, ()):
                if found := walk(imported, [*path, module]):
                    return found
            done.add(module)
        return []

    return next((found for module in following if (found := walk(module, []))), [])
