"""Runs one client mutant, or the base: `python client.py NAME`."""

from __future__ import annotations

import os
import sys

import client_elsewhere
import client_expiry
import client_faults
import client_jobs
import client_results
import client_settling
import client_steps
from base_client import Client
from expiry_client import ExpiryClient
from names import named

# Most mutants are made from a client of protocol 1.0; the base has the later features, too.
MUTANTS = named(
    Client,
    client_elsewhere,
    client_expiry,
    client_faults,
    client_jobs,
    client_results,
    client_settling,
    client_steps,
) | {"base": ExpiryClient}

if __name__ == "__main__":
    sys.exit(MUTANTS[sys.argv[1]](os.environ).serve())
