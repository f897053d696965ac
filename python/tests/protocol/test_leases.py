"""The scripts of leases: those of the protocol, letter for letter."""

from __future__ import annotations

import re

from jobqueue.protocol import leases

from tests.conftest import SPEC

BLOCK = re.compile(r"```lua (\w+)\n-- KEYS: [^\n]+\n(.*?)```", re.DOTALL)


def test_the_scripts_are_those_of_the_protocol() -> None:
    """server.takeover.*: a port that copies them does in Redis what this library does."""
    written = dict(BLOCK.findall(SPEC.read_text("utf-8")))

    assert set(written) == {"renew", "release", "unregister", "inherit", "adopt"}
    for name, source in written.items():
        assert getattr(leases, name.upper()).decode() == source, name
