"""Repeats the suite in random order and under CPU load, and counts what fails by chance.

    python conformance/soak.py --runs 20                 the reference, three runs at a time
    python conformance/soak.py --runs 20 --load 8        with eight busy processes
    python conformance/soak.py --runs 20 --impl coffee   another implementation

A run that fails prints the seed of its order. The count is kept in conformance/soak.json, with its
date and machine; a right implementation's is 0.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import multiprocessing
import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path

CONFORMANCE = Path(__file__).parent
sys.path[:0] = [str(CONFORMANCE), str(CONFORMANCE.parent / "python")]

from jobqueue_conformance.redis_servers import choice
from jobqueue_conformance.spec import manifest
from proof import session
from proof.session import ROOT, Ended, Order

KEPT = CONFORMANCE / "soak.json"
BUILD = ROOT / "build" / "soak"


@dataclass
class Count:
    """What has been run, and what of it failed."""

    implementation: str
    redis: str
    load: int
    runs: int = 0
    tests: int = 0
    failed: list[str] = field(default_factory=list)

    def add(self, order: Order, ended: list[Ended], problem: str | None) -> list[str]:
        """Count one run, and return its failures."""
        failures = [
            f"{end.test} in the order of seed {order.seed}: {(end.message.splitlines() or [end.how])[0]}"
            for end in ended
            if end.how not in {"passed", "skipped"}
        ]
        if problem is not None:
            failures.append(f"the run of seed {order.seed}: {problem.splitlines()[-1]}")
        self.runs += 1
        self.tests += len(ended)
        self.failed += failures
        return failures

    def summary(self) -> dict[str, object]:
        """What is kept."""
        return {
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
            "python": platform.python_version(),
            "redis": self.redis,
            "implementation": self.implementation,
            "load": self.load,
            "runs": self.runs,
            "tests": self.tests,
            "failed": self.failed,
            "failures_per_thousand": round(1000 * len(self.failed) / max(1, self.tests), 3),
        }


def burn() -> None:
    """Keep a core busy."""
    while True:
        pass


def main() -> int:
    """Soak, print the count, keep it, and exit with 0 where it is 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--impl", default="python", help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=3, help="runs at a time (default: %(default)s)")
    parser.add_argument("--load", type=int, default=1, help="busy processes (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first run (default: %(default)s)"
    )
    options = parser.parse_args()
    implementation = manifest.read(options.impl)
    redis = choice.program()
    BUILD.mkdir(parents=True, exist_ok=True)
    orders = [
        Order(
            name=f"soak-{seed}",
            manifest=implementation.path,
            options=(f"--redis={redis}",),
            limit_s=1800.0,
            seed=seed,
            folder=BUILD,
        )
        for seed in range(options.seed, options.seed + options.runs)
    ]
    collected = session.collect(orders[0])
    if collected.problem is not None:
        raise SystemExit(f"the suite can't be collected: {collected.problem}")
    burners = [multiprocessing.Process(target=burn, daemon=True) for _ in range(options.load)]
    for burner in burners:
        burner.start()
    count = Count(implementation.label, choice.describe(redis, "redis:8"), options.load)
    for order, said in session.run(orders, options.jobs):
        failures = count.add(order, said.ended, said.problem)
        print(
            f"run {count.runs} of {options.runs}: {len(said.ended)} tests, {len(failures)} failed"
        )
        print("".join(f"  {failure}\n" for failure in failures), end="", flush=True)
    for burner in burners:
        burner.terminate()
    kept = count.summary()
    KEPT.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    print(f"{kept['failures_per_thousand']} failures per thousand tests ({count.tests} run)")
    return 1 if count.failed or not count.tests else 0


if __name__ == "__main__":
    sys.exit(main())
