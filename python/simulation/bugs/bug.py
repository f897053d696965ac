"""A bug as data: pieces of one module's source are replaced."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

CORE = Path(__file__).parents[2]


class Bug(NamedTuple):
    """A bug: pieces of a module, and what stands there instead."""

    name: str
    module: str
    pieces: tuple[tuple[str, str], ...]

    @property
    def path(self) -> Path:
        """The module's file."""
        return CORE / f"{self.module.replace('.', '/')}.py"

    def source(self) -> str:
        """The module's source with the bug.

        Raises:
            ValueError: A piece isn't there, or is there more than once.
        """
        source = self.path.read_text("utf-8")
        for right, wrong in self.pieces:
            if source.count(right) != 1:
                raise ValueError(f"{self.module} has {source.count(right)} pieces {right!r}")
            source = source.replace(right, wrong)
        return source
