"""Both packages are built in rooms: nothing imports upwards, nothing in a circle, and no room is crowded."""

from collections import Counter
from pathlib import Path

import pytest
from jobqueue_conformance.spec.paths import PACKAGE as KIT
from proof import imports
from proof.imports import Import

LIBRARY = KIT.parents[1] / "python" / "jobqueue"
PACKAGES = pytest.mark.parametrize("package", [LIBRARY, KIT], ids=lambda path: path.name)

# A room imports from those before it. A module that stands in no room is named as one; "" is the package itself.
ROOMS = {
    "jobqueue": [
        "errors",
        "protocol",
        "core",
        "calls",
        "wire",
        "host",
        "threads",
        "aio",
        "admin",
        "diagnosis",
        "doctor",
        "cli",
        "__main__",
        "",
    ],
    "jobqueue_conformance": [
        "",
        "spec",
        "proxy",
        "programs",
        "redis_servers",
        "peer",
        "sweep",
        "reports",
        "running",
        "tests",
        "plugin",
        "__main__",
    ],
}
CROWDED = 19  # modules in one folder


def room(module: str) -> str:
    """The room of a module, or its own name where it stands in none."""
    return module.split(".")[1] if "." in module else ""


def floor(module: str) -> int:
    """How high a module stands in its package."""
    return ROOMS[module.partition(".")[0]].index(room(module))


@PACKAGES
def test_every_room_has_its_place(package: Path) -> None:
    """The order names exactly the rooms that there are."""
    found = {room(module) for module in imports.modules(package)}

    assert found == set(ROOMS[package.name])


@PACKAGES
def test_nothing_imports_upwards(package: Path) -> None:
    """A module imports only from its own room and from those before it, also where only types are wanted."""
    upwards = {
        each for each in imports.read(package) if floor(each.imported) > floor(each.importer)
    }

    assert upwards == set()


@PACKAGES
def test_no_import_leads_back_to_its_module(package: Path) -> None:
    """At run time there is no import cycle, also not one by an import inside a function."""
    assert imports.circle([each for each in imports.read(package) if not each.typing]) == []


@PACKAGES
def test_no_room_is_crowded(package: Path) -> None:
    """No folder holds more modules than a reader can keep in mind."""
    modules = [path for path in imports.modules(package).values() if path.stem != "__init__"]

    folders = Counter(path.parent.relative_to(package) for path in modules)
    assert {folder: n for folder, n in folders.items() if n >= CROWDED} == {}


def test_programs_that_ship_with_the_kit_stand_alone() -> None:
    """Implementations and skeletons import nothing of the kit: they show what any program does."""
    known = imports.modules(KIT)
    programs = sorted(set(KIT.rglob("*.py")) - set(known.values()))

    found = [
        each
        for path in programs
        for each in imports.imports_of(path.stem, path.read_text("utf-8"), known)
    ]
    assert programs
    assert found == []


SOURCE = """
import a.top
from a.room import inner, name
from a import room
from b import top
if typing.TYPE_CHECKING:
    from a.top import Name
def late():
    from a.room.inner import thing
"""


def test_every_way_to_import_is_seen() -> None:
    """A module, a name of one, a package, and an import inside a function count; one for types is marked as such."""
    found = set(imports.imports_of("a.me", SOURCE, {"a.me", "a.top", "a.room", "a.room.inner"}))

    assert found == {
        Import("a.me", "a.top"),
        Import("a.me", "a.room.inner"),
        Import("a.me", "a.room"),
        Import("a.me", "a.top", typing=True),
    }


def test_a_relative_import_is_refused() -> None:
    """A relative import would be overlooked, so it is an error."""
    with pytest.raises(ValueError, match="line 1: a relative import"):
        list(imports.imports_of("a.me", "from .top import name", {"a.me", "a.top"}))


def test_a_circle_is_found_wherever_it_is() -> None:
    """The circle is given without the way that leads to it."""
    way = [Import("a", "b"), Import("b", "c"), Import("c", "d")]

    assert imports.circle(way) == []
    assert imports.circle([*way, Import("d", "b")]) == ["b", "c", "d"]
    assert imports.circle([*way, Import("d", "e"), Import("e", "d")]) == ["d", "e"]


def test_what_leads_to_a_module_is_found_through_others() -> None:
    """Importers of importers count, once each, also in a circle."""
    way = [Import("a", "b"), Import("b", "c"), Import("c", "b"), Import("x", "y")]

    assert imports.leading_to("c", way) == {"a", "b", "c"}
    assert imports.leading_to("y", way) == {"x"}
