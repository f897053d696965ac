"""Runs one server mutant, or the base: `python server.py NAME`."""

from __future__ import annotations

import os
import sys

import server_answers
import server_claims
import server_dead
import server_elsewhere
import server_faults
import server_features
import server_limits
import server_results
import server_runs
from base_server import Server
from names import named

MUTANTS = named(
    Server,
    server_answers,
    server_claims,
    server_dead,
    server_elsewhere,
    server_faults,
    server_features,
    server_limits,
    server_results,
    server_runs,
)

if __name__ == "__main__":
    sys.exit(MUTANTS[sys.argv[1]](os.environ).serve())
