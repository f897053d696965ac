"""What is under test: what the servers of one implementation or of two have."""

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
        (implementation("a", TAKEOVER), True),
    ],
    ids=["both", "one without the feature", "one without a server", "the same"],
)
def test_all_serve_where_each_has_a_server_with_the_feature(
    other: Implementation, *, expected: bool
) -> None:
    """It counts for both of a pair, whichever is under test as a server."""
    first = implementation("a", TAKEOVER)

    assert Subjects(first, other).all_serve("takeover") is expected
    assert Subjects(other, first).all_serve("takeover") is expected
    assert Subjects(first, other).all_serve() is (other.server is not None)
