"""What one run puts under test: a server, a client, or both, of one implementation or of two."""

from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from jobqueue_conformance.spec import data, manifest
from jobqueue_conformance.spec.manifest import Implementation, KnownFailure


@dataclass(frozen=True)
class Subjects:
    """The implementations whose server and whose client are under test."""

    server: Implementation | None
    client: Implementation | None

    @classmethod
    def chosen(cls, impl: str | None, server: str | None, client: str | None) -> "Subjects":
        """The implementations that the options name."""
        if impl is not None:
            whole = manifest.read(impl)
            return cls(whole if whole.server else None, whole if whole.client else None)
        return cls(_with("server", server), _with("client", client))

    @property
    def implementations(self) -> list[Implementation]:
        """Each implementation once."""
        named = {each.path: each for each in (self.server, self.client) if each is not None}
        return list(named.values())

    @property
    def hard_coded(self) -> dict[str, str]:
        """The keys that no environment changes."""
        return {name: key for each in self.implementations for name, key in each.keys.items()}

    def of_class(self, conformance_class: str) -> Implementation:
        """The implementation under test in this class."""
        found = self.server if conformance_class == "server" else self.client
        assert found is not None, f"no {conformance_class} is under test"
        return found

    def apply(self, ids: Iterable[str]) -> bool:
        """Whether what is under test has promised all of these requirements."""
        return all(self._promised(data.requirements()[each]) for each in ids)

    def all_serve(self, *features: str) -> bool:
        """Whether each implementation under test has a server, with these features."""
        return all(
            each.server is not None and each.features.issuperset(features)
            for each in self.implementations
        )

    @property
    def known_failures(self) -> list[KnownFailure]:
        """What the manifests list as broken."""
        return [
            each
            for implementation in self.implementations
            for each in implementation.known_failures
        ]

    def known_failure(self, ids: Iterable[str], test: str) -> str | None:
        """Why this test of these requirements is expected to fail; None where it isn't."""
        return next((each.reason for each in self.known_failures if each.covers(ids, test)), None)

    def _promised(self, requirement: data.Requirement) -> bool:
        found = self.server if requirement.conformance_class == "server" else self.client
        return found is not None and (
            requirement.feature is None or requirement.feature in found.features
        )


def _with(program: str, named: str | None) -> Implementation | None:
    if named is None:
        return None
    implementation = manifest.read(named)
    if program not in implementation.classes:
        raise manifest.ManifestError(f"{implementation.path} has no [{program}]")
    return implementation


SUBJECTS = pytest.StashKey[Subjects]()
WANTED_REDIS = pytest.StashKey[str]()  # the option as it was given
REDIS_VERSION = pytest.StashKey[str]()  # name and version, known once a test has asked for Redis
