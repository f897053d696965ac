"""Where the kit lies, and the suite and the shipped implementations in it."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
SUITE = PACKAGE / "tests"
IMPLEMENTATIONS = PACKAGE / "implementations"
