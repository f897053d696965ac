"""Runs one client mutant, or the base: `python client.py NAME`."""

from __future__ import annotations

import os
import sys

import client_arrivals
import client_elsewhere
import client_expiry
import client_faults
import client_handles
import client_jobs
import client_keeps
import client_later
import client_results
import client_settling
import client_steps
from base_client import Client
from expiry_client import ExpiryClient
from keeping_client import KeepingClient
from names import named


class Base(KeepingClient, ExpiryClient):
    """A client with every feature."""


# Most mutants are made from a client of protocol 1.0; the base has the later features, too.
MUTANTS = named(
    Client,
    client_arrivals,
    client_elsewhere,
    client_expiry,
    client_faults,
    client_handles,
    client_jobs,
    client_keeps,
    client_later,
    client_results,
    client_settling,
    client_steps,
) | {"base": Base}

if __name__ == "__main__":
    sys.exit(MUTANTS[sys.argv[1]](os.environ).serve())
