"""The folders of the kit: the package, the suite, and the implementations that ship with it."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
SUITE = PACKAGE / "tests"
IMPLEMENTATIONS = PACKAGE / "implementations"
