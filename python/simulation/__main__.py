"""Simulates servers, clients and a Redis in virtual time, under faults that a seed decides.

    make simulate                     a minute of it, from a seed that is drawn and printed
    make simulate SECONDS=3600        an hour
    make simulate SEED=1234           one world: if it breaks a law, its smallest form, and its story

Exit status 0: every law held; 1: one was broken; 2: a mistake in the command line.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time

from simulation.search import Counts, seed_holds, shrink, told


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the result is the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of this machine (default: 60)")
    parser.add_argument("--seed", type=int, help="simulate this world alone")
    parser.add_argument("--from", type=int, dest="first", help="the first seed (default: drawn)")
    options = parser.parse_args(arguments)
    logging.getLogger("jobqueue").setLevel(logging.CRITICAL + 1)  # thousands of losses, a line each
    counts = Counts()
    began = time.monotonic()
    if options.seed is None:
        first = random.randrange(10**9) if options.first is None else options.first
        print(f"seeds from {first}", flush=True)
    else:
        first = options.seed
    seed = first
    while seed == first or (options.seed is None and time.monotonic() - began < options.seconds):
        failure = seed_holds(seed, counts)
        if failure is not None:
            print(
                f"seed {seed}: {failure.sentence}\nto repeat it: make simulate SEED={seed}",
                flush=True,
            )
            print(told(shrink(failure)))
            return 1
        seed += 1
    print(counts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
