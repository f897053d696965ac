"""Runs one server mutant, or the base: `python server.py NAME`."""

from __future__ import annotations

import os
import sys

import server_adopted
import server_adopts
import server_answers
import server_attempts
import server_claims
import server_dead
import server_elsewhere
import server_expiry
import server_faults
import server_features
import server_keeps
import server_later
import server_lease
import server_limits
import server_results
import server_runs
from base_server import Server
from expiry_server import ExpiryServer
from keeping_server import KeepingServer
from names import named
from takeover_server import TakeoverServer


class Base(KeepingServer, ExpiryServer, TakeoverServer):
    """A server with every feature."""


# Most mutants are made from a server of protocol 1.0; the base has the later features, too.
MUTANTS = named(
    Server,
    server_adopted,
    server_adopts,
    server_answers,
    server_attempts,
    server_claims,
    server_dead,
    server_elsewhere,
    server_expiry,
    server_faults,
    server_features,
    server_keeps,
    server_later,
    server_lease,
    server_limits,
    server_results,
    server_runs,
) | {"base": Base}

if __name__ == "__main__":
    sys.exit(MUTANTS[sys.argv[1]](os.environ).serve())
