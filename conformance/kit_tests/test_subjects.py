"""What is under test: when two implementations are, and what their servers have."""

from pathlib import Path

import pytest
from jobqueue_conformance.programs.subjects import Subjects
from jobqueue_conformance.spec.manifest import Implementation

COMMAND = ("true",)
TAKEOVER = frozenset({"recovery", "attempts", "takeover"})


def implementation(
    name: str, features: frozenset[str], server: tuple[str, ...] | None = COMMAND
) -> Implementation:
    """One that has a client, too."""
    return Implementation(name, Path(name), server=server, client=COMMAND, features=features)


@pytest.mark.parametrize(
    "other, expected",
    [
        (implementation("b", TAKEOVER), True),
        (implementation("b", frozenset({"recovery"})), False),
        (implementation("b", TAKEOVER, server=None), False),
        (implementation("a", TAKEOVER), False),
        (None, False),
    ],
    ids=["both", "one without the feature", "one without a server", "the same", "one"],
)
def test_two_servers_are_those_of_two_implementations(
    other: Implementation | None, *, expected: bool
) -> None:
    """Only where a server's and a client's implementations differ, and both servers have the feature."""
    first = implementation("a", TAKEOVER)

    assert Subjects(first, other).has_two_servers("takeover") is expected


def test_the_server_under_test_needs_the_feature_too() -> None:
    """A server without the feature isn't made up for by the other implementation's."""
    subjects = Subjects(implementation("a", frozenset({"recovery"})), implementation("b", TAKEOVER))

    assert not subjects.has_two_servers("takeover")
