"""Names of mutants: `RemoveBeforePublish` is `remove-before-publish`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from types import ModuleType

Program = TypeVar("Program")


def named(base: type[Program], *modules: ModuleType) -> dict[str, type[Program]]:
    """The base, as `base`, and what extends it in the modules and isn't itself extended."""
    mutants = {
        "-".join(re.findall(r"[A-Z][a-z0-9]*", name)).lower(): program
        for module in modules
        for name, program in vars(module).items()
        if isinstance(program, type) and issubclass(program, base) and not program.__subclasses__()
    }
    return {"base": base, **mutants}
