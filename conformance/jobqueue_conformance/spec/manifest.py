"""impl.toml: what is under test, read and checked.

A mistake in it is a `ManifestError` of one sentence that names the file, the place and the remedy.
"""

import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.paths import IMPLEMENTATIONS

MANIFEST = "impl.toml"
# What each feature needs, as the protocol's section 3 says.
NEEDED = {"attempts": ("recovery", "dead-list"), "takeover": ("recovery", "attempts")}


class ManifestError(Exception):
    """The manifest can't be used; the message is one sentence for its author."""


@dataclass(frozen=True)
class KnownFailure:
    """Tests of one requirement that are expected to fail, and why."""

    requirement: str
    tests: tuple[str, ...]
    reason: str
    issue: str | None = None

    def covers(self, ids: Iterable[str], test: str) -> bool:
        """Whether it lists this test of these requirements; globs match the name behind the last `::`."""
        name = test.rpartition("::")[2]
        return self.requirement in ids and any(fnmatchcase(name, glob) for glob in self.tests)


@dataclass(frozen=True)
class Implementation:
    """One manifest; `server` and `client` are the commands, None where the program is missing."""

    name: str
    path: Path
    version: str | None = None
    server: tuple[str, ...] | None = None
    client: tuple[str, ...] | None = None
    setup: str | None = None
    features: frozenset[str] = frozenset()
    keys: Mapping[str, str] = field(default_factory=dict)
    known_failures: tuple[KnownFailure, ...] = ()

    @property
    def label(self) -> str:
        """Its name, with its version where it has one."""
        return f"{self.name} {self.version}" if self.version else self.name

    @property
    def folder(self) -> Path:
        """Where its commands run."""
        return self.path.parent

    @property
    def classes(self) -> frozenset[str]:
        """The conformance classes that it has a program for."""
        programs = {"server": self.server, "client": self.client}
        return frozenset(name for name, command in programs.items() if command)


def find(name_or_path: str) -> Path:
    """The manifest that `--impl` names: a file, its folder, or an implementation that ships with the kit."""
    path = Path(name_or_path)
    for candidate in (path, path / MANIFEST, IMPLEMENTATIONS / name_or_path / MANIFEST):
        if candidate.is_file():
            return candidate.resolve()
    if path.is_dir():
        raise ManifestError(f"the folder {name_or_path} has no {MANIFEST}")
    shipped = ", ".join(sorted(each.parent.name for each in IMPLEMENTATIONS.glob(f"*/{MANIFEST}")))
    raise ManifestError(
        f"'{name_or_path}' is not a manifest, a folder with one, or an implementation that ships with the kit"
        f" ({shipped or 'none do'})"
    )


def read(name_or_path: str) -> Implementation:
    """The implementation that `--impl` names."""
    path = find(name_or_path)
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} is not valid TOML: {error}") from error
    for mistake in _mistakes(written):
        raise ManifestError(f"{path}: {mistake}")
    return Implementation(
        name=written["name"],
        path=path,
        version=written.get("version"),
        server=_command(written, "server"),
        client=_command(written, "client"),
        setup=written.get("setup"),
        features=frozenset(name for name, has in written.get("features", {}).items() if has),
        keys=written.get("keys", {}),
        known_failures=tuple(
            KnownFailure(
                requirement=each["requirement"],
                tests=tuple(each["tests"]),
                reason=each["reason"],
                issue=each.get("issue"),
            )
            for each in written.get("known-failures", [])
        ),
    )


def _command(written: dict[str, Any], role: str) -> tuple[str, ...] | None:
    if role not in written:
        return None
    return tuple(part.replace("{python}", sys.executable) for part in written[role]["command"])


def _mistakes(written: dict[str, Any]) -> list[str]:
    """One sentence for each mistake, those of the schema first."""
    sentences = []
    errors = data.validator("implementation").iter_errors(written)
    for error in sorted(errors, key=lambda each: [str(step) for step in each.absolute_path]):
        place = ".".join(str(step) for step in error.absolute_path)
        sentences.append(f"{f'at {place}: ' if place else ''}{error.message}")
    if sentences:
        return sentences
    known = data.requirements(written["spec"])
    features = {each.feature for each in known.values() if each.feature}
    has = {name for name, declared in written.get("features", {}).items() if declared}
    sentences += [
        f"unknown feature '{name}'; the features of {written['spec']} are {', '.join(sorted(features))}"
        for name in written.get("features", {})
        if name not in features
    ]
    sentences += [
        f"the feature '{name}' needs the feature '{needed}'"
        for name in sorted(has)
        for needed in NEEDED.get(name, ())
        if needed not in has
    ]
    sentences += [
        f"known-failures names the requirement '{each['requirement']}', which the spec doesn't have"
        for each in written.get("known-failures", [])
        if each["requirement"] not in known
    ]
    return sentences
