"""The pure modules stay pure: no waiting, no clock, no chance, no network."""

import ast
import tomllib
from pathlib import Path

import jobqueue
import pytest

PACKAGE = Path(jobqueue.__file__).parent
SETTINGS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
PURE = [Path(path).stem for path in SETTINGS["tool"]["coverage"]["report"]["include"]]
IMPURE = {"asyncio", "hiredis", "random", "redis", "select", "socket", "threading", "time", "uuid"}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, with those of this package as they are called here."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= (
                {f"{module}.{alias.name}" for alias in node.names}
                if module == "jobqueue"
                else {module}
            )
    return found


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_imports_nothing_that_waits(name: str) -> None:
    """What a pure module imports is neither impure nor a module of ours that is."""
    found = imports(PACKAGE / f"{name}.py")

    impure = {module for module in found if module.partition(".")[0] in IMPURE}
    ours = {module.removeprefix("jobqueue.") for module in found if module.startswith("jobqueue")}
    assert impure | (ours - set(PURE)) == set()


def test_what_is_impure_is_noticed() -> None:
    """The walk sees the imports of a module that isn't pure."""
    assert {"redis.exceptions", "jobqueue.flows"} <= imports(PACKAGE / "connection.py")
