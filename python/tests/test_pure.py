"""The pure modules stay pure: no waiting, no clock, no chance, no network."""

import ast
import tomllib
from pathlib import Path

import jobqueue
import pytest

PACKAGE = Path(jobqueue.__file__).parent
SETTINGS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
INCLUDED = SETTINGS["tool"]["coverage"]["report"]["include"]
PURE = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for pattern in INCLUDED
    for path in sorted(PACKAGE.parents[1].glob(pattern))
]
IMPURE = {"asyncio", "hiredis", "random", "redis", "select", "socket", "threading", "time", "uuid"}


def imports(module: str) -> set[str]:
    """The modules that a module of ours imports."""
    path = PACKAGE.parent / f"{module.replace('.', '/')}.py"
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name for name in names if (PACKAGE.parent / file_of(name)).exists()} or {base}
    return found


def file_of(module: str) -> str:
    """The path of a module of ours."""
    return f"{module.replace('.', '/')}.py"


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_nothing_that_waits(module: str) -> None:
    """What a pure module imports is neither impure nor a module of ours that is."""
    found = imports(module)

    impure = {name for name in found if name.partition(".")[0] in IMPURE}
    ours = {name for name in found if name.startswith("jobqueue")}
    assert impure | (ours - set(PURE)) == set()


def test_what_is_impure_is_noticed() -> None:
    """The walk sees the imports of a module that isn't pure."""
    found = imports("jobqueue.wire.connection")
    assert {"redis.exceptions", "jobqueue.protocol.commands"} <= found
