"""Runs one client mutant, or the base: `python client.py NAME`."""

from __future__ import annotations

import os
import sys

import client_messages
import client_steps
from base_client import Client
from names import named

MUTANTS = named(Client, client_messages, client_steps)

if __name__ == "__main__":
    sys.exit(MUTANTS[sys.argv[1]](os.environ).serve())
