"""The walk through the dimensions: each cell has a test or a reason, and the page says so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from jobqueue_conformance.spec.data import Requirement

from proof import dimensions
from proof.dimensions import Dimension, Reason, Walk
from proof.session import SuiteTest

if TYPE_CHECKING:
    from pathlib import Path

ORDER = Requirement(
    id="server.claim.order",
    keyword="MUST",
    conformance_class="server",
    feature=None,
    text="The server MUST claim jobs in the order in which they were pushed.",
    untested=None,
)
ONCE = replace(ORDER, id="server.publish.once")
SPEC = {each.id: each for each in (ORDER, ONCE, replace(ORDER, id="server.x.y", untested="large"))}

WALK = Walk(
    (
        Dimension("size", "a few", {"100": "more than 100", "2³¹": "more than 31 bits"}),
        Dimension("caller", "it waits", {"gone": "nobody listens"}),
    ),
    (Reason(("caller",), ("server.claim.*",), "A claim has no caller."),),
)
LARGE = SuiteTest(
    id="test_server.py::test_many[a]",
    requirements=(ORDER.id, ONCE.id),
    docstring="The server claims many jobs in their order.",
    file="test_server.py",
    programs=("server",),
    dimensions=(("size", "100"), ("size", "2³¹")),
)
GONE = replace(
    LARGE,
    id="test_server.py::test_alone",
    requirements=(ONCE.id,),
    dimensions=(("caller", "gone"),),
)
TESTS = [LARGE, replace(LARGE, id="test_server.py::test_many[b]"), GONE]


def test_each_cell_has_a_test_or_a_reason() -> None:
    """Where every requirement is walked, or a reason says why not, there is nothing to complain about."""
    assert not list(dimensions.complaints(WALK, SPEC, TESTS))


@pytest.mark.parametrize(
    "walk, tests, complaint",
    [
        (replace(WALK, reasons=()), TESTS, f"{ORDER.id}: no test walks it in caller"),
        (
            WALK,
            [LARGE, GONE, replace(GONE, dimensions=(("color", "red"),))],
            "'color', which is not a dimension",
        ),
        (
            WALK,
            [LARGE, GONE, replace(GONE, dimensions=(("size", "101"),))],
            "'101', which is not a value of size",
        ),
        (
            WALK,
            [replace(LARGE, dimensions=(("size", "100"),)), GONE],
            "size: no test goes to '2³¹'",
        ),
        (
            WALK,
            [LARGE, replace(GONE, requirements=(ORDER.id, ONCE.id))],
            "no cell needs the reason (1): A claim has no caller.",
        ),
        (
            replace(WALK, reasons=WALK.reasons * 2),
            TESTS,
            "no cell needs the reason (2): A claim has no caller.",
        ),
    ],
    ids=["empty cell", "dimension", "value", "unvisited", "idle reason", "reason twice"],
)
def test_what_is_missing_or_idle_is_named(
    walk: Walk, tests: list[SuiteTest], complaint: str
) -> None:
    """A cell without both, a mark that says nothing, a value where no test goes, and an idle reason are named."""
    (only,) = dimensions.complaints(walk, SPEC, tests)
    assert complaint in only


def test_the_page_shows_each_cell_once() -> None:
    """A cell shows how many tests walk it, whatever their cases, or the number of the reason; an open one shows it."""
    lines = dimensions.render(WALK, SPEC, TESTS).splitlines()
    many = '[1](#size "test_server.py::test_many")'
    assert f"| `{ORDER.id}` | {many} | (1) |" in lines
    assert f'| `{ONCE.id}` | {many} | [1](#caller "test_server.py::test_alone") |' in lines
    assert "1. A claim has no caller." in lines
    assert "| 2³¹ | more than 31 bits | `test_server.py::test_many` |" in lines
    assert not any("server.x.y" in line for line in lines)
    assert "(?) |" in dimensions.render(replace(WALK, reasons=()), SPEC, TESTS)


def test_the_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    """Dimensions, values and reasons keep the order of the file."""
    path = tmp_path / "dimensions.toml"
    path.write_text(
        '[dimensions.size]\nusual = "a few"\n'
        '[dimensions.size.values]\n100 = "more than 100"\n"2³¹" = "more than 31 bits"\n'
        '[dimensions.caller]\nusual = "it waits"\n[dimensions.caller.values]\ngone = "nobody listens"\n'
        '[[reasons]]\ndimensions = ["caller"]\nrequirements = ["server.claim.*"]\n'
        'why = "A claim has no caller."\n',
        encoding="utf-8",
    )
    assert dimensions.read(path) == WALK


def test_the_repositorys_own_walk_is_read() -> None:
    """Each dimension of the repository has values beyond the usual, and each reason speaks of known dimensions."""
    walk = dimensions.read()
    names = {each.name for each in walk.dimensions}
    assert all(each.values for each in walk.dimensions)
    assert all(set(reason.dimensions) <= names for reason in walk.reasons)
