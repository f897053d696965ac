"""Runs the steps of steps.toml, and ends with a table: what each took, and its budget.

    python .ci/steps.py ci                          stops at the first step that fails
    python .ci/steps.py nightly                     goes on, and keeps the results in nightly.json and README.md
    python .ci/steps.py nightly --only 'pairs'      only steps whose name contains the words
    python .ci/steps.py ci --list                   the names and budgets

A step over its budget is marked. The run fails where a step fails, or where all of them together
take longer than the limit. Status 2: no step has such a name.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
KEPT = HERE / "nightly.json"
PAGE = HERE / "README.md"
# What the steps themselves write into the checkout.
RESULTS = (
    ".ci/nightly.json",
    ".ci/README.md",
    "conformance/versions.json",
    "conformance/VERSIONS.md",
    "conformance/soak.json",
)
SUITE = ".venv/bin/pytest -q --durations=8 --forbid-unsupported"
BEGIN, END = "<!-- nightly: generated -->\n", "<!-- end -->\n"


@dataclass(frozen=True)
class Step:
    """A command for bash, how many seconds it may take, and which of its output lines is the summary."""

    name: str
    run: str
    budget_s: float
    figure: str | None = None


@dataclass(frozen=True)
class Ran:
    """How a step ended."""

    name: str
    passed: bool
    seconds: float
    budget_s: float
    figures: list[str]


def read(plan: str) -> tuple[float, list[Step]]:
    """Return a plan's limit in seconds, and its steps."""
    plans = tomllib.loads((HERE / "steps.toml").read_text("utf-8"))
    return plans[plan]["limit_s"], [Step(**step) for step in plans[plan]["steps"]]


def run(step: Step) -> Ran:
    """Run one step; what it prints goes to the terminal as it comes."""
    began = time.monotonic()
    figures = []
    script = f"set -euo pipefail\n{step.run}"
    command = ["bash", "-c", script]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"SUITE": SUITE},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            if step.figure and (found := re.search(step.figure, line)):
                figures.append(found[0].strip("= \n"))
    seconds = round(time.monotonic() - began, 1)
    return Ran(step.name, process.returncode == 0, seconds, step.budget_s, figures)


def table(ran: list[Ran], before_s: float, limit_s: float) -> str:
    """Show what each step took and its budget, then the sum and the limit."""
    rows = [("before the first step", before_s, "", "")]
    rows += [
        (
            each.name,
            each.seconds,
            f"{each.budget_s:.0f}",
            ("" if each.passed else "FAILED ") + ("over" if each.seconds > each.budget_s else ""),
        )
        for each in ran
    ]
    total = before_s + sum(each.seconds for each in ran)
    rows.append(("all", total, f"{limit_s:.0f}", "FAILED over" if total > limit_s else ""))
    width = max(len(name) for name, *_ in rows)
    head = f"{'step':{width}}  seconds  budget"
    return "\n".join(
        [head]
        + [
            f"{name:{width}}  {took:7.0f}  {budget:>6}  {mark}".rstrip()
            for name, took, budget, mark in rows
        ]
    )


def keep(ran: list[Ran], commit: str, day: str) -> None:
    """Enter the results into nightly.json; steps that were not run keep their older ones."""
    kept = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    kept |= {each.name: {"date": day, "commit": commit, **asdict(each)} for each in ran}
    known = [step.name for step in read("nightly")[1]]
    kept = {name: kept[name] for name in known if name in kept}
    KEPT.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text("utf-8"), kept), encoding="utf-8")


def page(text: str, kept: dict[str, dict[str, object]]) -> str:
    """Return the text with the table of what was kept between its two marks."""
    rows = ["| step | date | commit | seconds | result |", "| --- | --- | --- | --- | --- |"]
    for name, result in kept.items():
        figures = result["figures"]
        assert isinstance(figures, list)
        outcome = "passed" if result["passed"] else "**failed**"
        said = "; ".join(dict.fromkeys(figures[-16:]))
        rows.append(
            f"| {name} | {result['date']} | `{result['commit']}` | {result['seconds']} | "
            f"{outcome}{': ' + said if said else ''} |"
        )
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + "\n" + "\n".join(rows) + "\n\n" + END + rest.partition(END)[2]


def commit() -> str:
    """Name the commit that is checked out; `-dirty` if files were changed, other than by an earlier result."""
    others = [".", *(f":!{each}" for each in RESULTS)]
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *others)
    return _git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    """What git says about this checkout."""
    asked = ["git", *arguments]
    return subprocess.run(
        asked, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", choices=("ci", "nightly"))
    parser.add_argument("--only", metavar="WORDS", default="", help="a part of a step's name")
    parser.add_argument("--list", action="store_true", help="show the steps, and run none")
    parser.add_argument(
        "--before", metavar="S", type=float, default=0.0, help="seconds that have passed already"
    )
    options = parser.parse_args()
    limit_s, steps = read(options.plan)
    steps = [step for step in steps if options.only in step.name]
    if not steps:
        print(f"no step of {options.plan} has a name with {options.only!r}", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{step.budget_s:6.0f} s  {step.name}" for step in steps))
        return 0
    nightly = options.plan == "nightly"
    checked_out, day = commit(), dt.datetime.now(dt.UTC).date().isoformat()
    ran: list[Ran] = []
    for step in steps:
        print(f"\n=== {step.name}", flush=True)
        ran.append(run(step))
        if nightly:  # at once, since a nightly run can be interrupted
            keep(ran[-1:], checked_out, day)
        elif not ran[-1].passed:
            break
    print(f"\n{table(ran, options.before, limit_s)}")
    total = options.before + sum(each.seconds for each in ran)
    return 0 if all(each.passed for each in ran) and total <= limit_s else 1


if __name__ == "__main__":
    sys.exit(main())
