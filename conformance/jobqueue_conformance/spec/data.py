"""Finds what the kit reads: schemas, fixtures and the spec's data.

In a wheel they are in its data folder, in a clone at the root of the repository; only this module knows.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from jobqueue_conformance.spec.paths import PACKAGE

SPEC = "1.1"


@dataclass(frozen=True)
class Requirement:
    """One sentence of the spec that binds."""

    id: str
    keyword: str
    conformance_class: str
    feature: str | None
    text: str
    untested: str | None
    section: str = ""
    why: str | None = None

    @property
    def binds(self) -> bool:
        """Whether failing it makes an implementation wrong, and not only worse."""
        return self.keyword.startswith("MUST")


def folder(name: str) -> Path:
    """The folder `schemas`, `fixtures` or `spec`, wherever this kit was installed."""
    shipped = PACKAGE / "data" / name
    return shipped if shipped.is_dir() else PACKAGE.parents[1] / name


def load(path: Path) -> Any:
    """The JSON value in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def requirements(version: str = SPEC) -> dict[str, Requirement]:
    """Every requirement of this version of the spec, by its id, in the order of the text."""
    listed = load(folder("spec") / "requirements" / f"{version}.json")["requirements"]
    return {
        each["id"]: Requirement(
            id=each["id"],
            keyword=each["keyword"],
            conformance_class=each["class"],
            feature=each["feature"],
            text=each["text"],
            untested=each["untested"],
            section=each["section"],
            why=each["why"],
        )
        for each in listed
    }


@cache
def crash_table() -> list[dict[str, Any]]:
    """The rows of the spec's crash table."""
    rows: list[dict[str, Any]] = load(folder("spec") / "crash-table.json")["rows"]
    return rows


@cache
def validator(name: str) -> Draft202012Validator:
    """The validator of `schemas/<name>.schema.json`."""
    return Draft202012Validator(load(folder("schemas") / f"{name}.schema.json"))
