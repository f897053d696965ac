"""What the gates judge, read from the repository: sources, fixtures, registries, acknowledgements."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.paths import SUITE

from proof.session import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ACKNOWLEDGED = ROOT / "conformance" / "acknowledged.json"
KINDS = {".py", ".coffee", ".sh", ".jq", ".mjs", ".js", ".toml", ".json", ".md"}
NOT_OURS = {"node_modules", "dist", "__pycache__", "package-lock.json"}


def sources(*folders: Path) -> dict[str, str]:
    """The text of every file in the folders that we wrote, by its path from the root."""
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix in KINDS and not NOT_OURS & set(path.parts) and path.is_file()
    }


def code() -> dict[str, str]:
    """Everything that may name a requirement, except for the gates' tests, which invent some."""
    found = sources(ROOT / "python", ROOT / "conformance", ROOT / "fixtures")
    return {name: text for name, text in found.items() if "proof/tests/" not in name}


def programs() -> dict[str, str]:
    """The sources that answer jobs: no tests, and nothing that is wrong on purpose."""
    found = sources(ROOT / "python" / "jobqueue", ROOT / "conformance")
    return {
        name: text
        for name, text in found.items()
        if not {"tests", "kit_tests", "page_tests", "mutants", "proof"} & set(name.split("/"))
    }


def suite() -> dict[str, str]:
    """The sources of the suite."""
    return sources(SUITE)


def fixtures() -> list[str]:
    """Every vector, as `set/id`."""
    files = sorted(data.folder("fixtures").glob("*.json"))
    return [
        f"{file.stem}/{vector['id']}" for file in files for vector in data.load(file)["vectors"]
    ]


def error_codes() -> set[str]:
    """The codes that the registry has."""
    return {each["code"] for each in data.load(data.folder("spec") / "errors.json")["errors"]}


def hashes() -> dict[str, str]:
    """The hash of every requirement's text."""
    listed = data.load(data.folder("spec") / "requirements" / f"{data.SPEC}.json")["requirements"]
    return {each["id"]: each["hash"] for each in listed}


def acknowledged() -> dict[str, str]:
    """The hash that each requirement had when its tests were last compared with it."""
    if not ACKNOWLEDGED.exists():
        return {}
    known: dict[str, str] = data.load(ACKNOWLEDGED)
    return known


def acknowledge(requirements: Iterable[str]) -> None:
    """Note that the tests of these requirements fit the text as it is."""
    known = hashes()
    listed = {each: known[each] for each in known if each in set(requirements)}
    ACKNOWLEDGED.write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
