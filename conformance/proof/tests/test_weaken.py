"""Assertions are found, distinguished from other statements, and gone when they are deleted."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from proof import weaken
from proof.matrix import Mutant
from proof.session import SuiteTest

if TYPE_CHECKING:
    from pathlib import Path

    from proof.weaken import Assertion

SOURCE = """
from jobqueue_conformance.spec.verdicts import fail, require


def test_one():
    require(False, "server.run.handler", expected="a result", got="none")
    helper()


def test_other():
    helper()


def helper():
    seen = []
    if not seen:
        fail("server.list.own", expected="something", got=seen)
    return seen


def judge(value):
    requirement = "server.result.value"
    require(value, requirement, expected="", got=value)


class Story:
    def step(self):
        require(None, "client.settle.once", expected="", got="")
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one module, in the place of the suite."""
    folder = tmp_path / "weakened"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "test_things.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(weaken, "PACKAGE", folder)
    monkeypatch.setattr(weaken, "SUITE", folder)
    monkeypatch.delitem(sys.modules, "weakened.test_things", raising=False)
    return folder


def found(name: str) -> Assertion:
    """The one that stands in this function."""
    [assertion] = [each for each in weaken.read() if each.function == name]
    return assertion


@pytest.mark.usefixtures("suite")
def test_every_assertion_is_found_with_its_requirement() -> None:
    """Calls of `require` and `fail` are found in tests, in what they call, and in methods."""
    assert {each.function: each.ids for each in weaken.read()} == {
        "test_one": ("server.run.handler",),
        "helper": ("server.list.own",),
        "judge": ("server.result.value",),
        "Story.step": ("client.settle.once",),
    }


@pytest.mark.usefixtures("suite")
@pytest.mark.parametrize("name", ["helper", "test_one"])
def test_a_deleted_assertion_accuses_nobody(name: str) -> None:
    """What raised by one assertion doesn't without it, and what another one raises is raised still."""
    module = importlib.import_module("weakened.test_things")
    with pytest.raises(AssertionError):
        vars(module)[name]()

    found(name).delete()

    if name == "helper":
        assert module.helper() == []
    else:
        with pytest.raises(AssertionError, match=r"server\.list\.own"):
            module.test_one()


@pytest.mark.usefixtures("suite")
def test_an_assertion_belongs_to_the_tests_that_come_to_it() -> None:
    """One in a test is its own; one in a function is of every test whose source names that."""
    tests = [
        SuiteTest(f"test_things.py::{name}", (), "", "test_things.py", ("server",))
        for name in ("test_one", "test_other")
    ]

    assert weaken.standing_on(found("test_one"), tests) == ("test_things.py::test_one",)
    assert len(weaken.standing_on(found("helper"), tests)) == 2
    assert weaken.standing_on(found("Story.step"), tests) == ()


@pytest.mark.usefixtures("suite")
def test_those_are_asked_who_could_notice() -> None:
    """A mutant is asked with the tests that it names, and in a function only about its requirement."""
    tests = ("test_things.py::test_one", "test_else.py::test_else")
    mutants = [
        Mutant("server", "one", "server.list.own", "", killed_by=tests, clean=("clean",)),
        Mutant("server", "two", "server.run.handler", "", killed_by=tests),
    ]

    in_test = weaken.those_who_notice(found("test_one"), mutants, set(tests[:1]))
    in_function = weaken.those_who_notice(found("helper"), mutants, set(tests))

    assert [each.killed_by for each in in_test] == [tests[:1], tests[:1]]
    assert [(each.name, each.clean) for each in in_function] == [("one", ())]
