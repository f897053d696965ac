"""Runs an experiment with takeover on a real Redis, and prints its figures.

    python -m experiments many-servers        what renewals, scans and claims of idle servers take
    python -m experiments many-names          the same where many names of the dead are registered
    python -m experiments older-file          Redis is killed, and comes back with the file of a second ago
    python -m experiments hard-times          Redis is full, holds writes up, or has its clock set; servers die
    python -m experiments mixed-fleet         servers with and without takeover: upgraded, killed, downgraded

Exit status 0: what had to hold has held; 1: it hasn't.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from jobqueue_conformance.redis_servers import choice

from experiments import hard_times, many_names, many_servers, mixed_fleet, older_file

EXPERIMENTS: dict[str, Callable[[str, int], Coroutine[Any, Any, list[str]]]] = {
    "many-servers": many_servers.run,
    "many-names": many_names.run,
    "older-file": older_file.run,
    "hard-times": hard_times.run,
    "mixed-fleet": mixed_fleet.run,
}
NUMBERS = {
    "many-servers": 200,
    "many-names": 100_000,
    "older-file": 10,
    "hard-times": 1,
    "mixed-fleet": 3,
}


def main() -> int:
    """Run one, and print what it says."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument(
        "--number", type=int, help="of servers, names, restarts, rounds or upgrades"
    )
    options = parser.parse_args()
    logging.getLogger("jobqueue").setLevel(logging.CRITICAL)  # thousands of losses, a line each
    number = options.number or NUMBERS[options.experiment]
    try:
        lines = asyncio.run(EXPERIMENTS[options.experiment](choice.program(), number))
    except AssertionError as error:
        print(f"{options.experiment}: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
