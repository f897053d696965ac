"""Runs one contender in one role, in the interpreter that has its packages.

`python contenders NAME ROLE OPTIONS`

Roles: `serve` runs jobs until it is killed, and counts them in a tally; `push` and `push_many` queue
jobs, one by one or many at once, and print the seconds that it took; `call` runs jobs, waits for
each result, and prints the latencies. A contender is a module in `entries` with functions of these
names; what it lacks it can't do. Where an environment has uvloop, its event loops are uvloop's.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import sys
from pathlib import Path

from calls import timed_calls
from tally import Tally


def main() -> None:
    """Run the contender; its answer is one JSON object on stdout."""
    parser = argparse.ArgumentParser(prog="contenders", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("role", choices=["serve", "push", "push_many", "call", "version"])
    parser.add_argument("--url", default="redis://127.0.0.1:6379/0")
    parser.add_argument("--tally", type=Path, help="the file that counts the jobs that were run")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0, help="the longest that calls take")
    parser.add_argument("--payload-bytes", type=int, default=10)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--prefetch", type=int, default=1)
    parser.add_argument("--processor", default="bench")
    parser.add_argument("--servers", type=int, default=1, help="how many in this process")
    parser.add_argument("--no-results", dest="results", action="store_false", help="none is kept")
    options = parser.parse_args()

    if importlib.util.find_spec("uvloop"):
        asyncio.set_event_loop_policy(importlib.import_module("uvloop").EventLoopPolicy())
    contender = importlib.import_module(f"entries.{options.name}")
    role = getattr(contender, options.role, None)
    if role is None:
        sys.exit(f"{options.name} has no role {options.role!r}")
    payload = "x" * options.payload_bytes
    match options.role:
        case "version":
            answer = {"version": role()}
        case "serve":
            role(options.url, Tally.create(options.tally), options)
            return
        case "push" | "push_many":
            answer = {"seconds": role(options.url, options, payload)}
        case _:
            answer = timed_calls(role, options, payload)
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
