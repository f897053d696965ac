"""Check the models of the protocol: what is promised holds, every known bug is refuted.

`protocol.pml`, `takeover.pml` and `kept.pml` are the models; `runs.toml` says what is asked of them. A bug
counts as refuted only by the property that names it. A line of a model that no run reaches is a
fault, for nothing was checked there. The table of what a server's death leaves behind is derived,
too, and compared with `crash-table.json`. Exit status 0: all is as it has to be; 1: something isn't;
2: a tool is missing.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from typing import Any

from search import MODELS, Outcome, Run, explore

RUNS = MODELS / "runs.toml"
CRASH_TABLE = MODELS.parent / "crash-table.json"
PARAMETERS = {"JOBS", "FAULTS", "MALFORMED", "FORBIDDEN", "HANDS", "DELAYED", "CRASH_TABLE"}
PARAMETERS |= {"SERVERS", "ROLLBACK"}  # of takeover.pml

# What became of a message, its places, whether it has run, whether its result is published; and the
# step after which that is so.
STEPS = {
    ("job", ("queue",), False, False): "pushed",
    ("job", ("in-process",), False, False): "claimed",
    ("job", ("in-process",), True, False): "run",
    ("job", ("in-process",), True, True): "published",
    ("job", (), True, True): "removed",
    ("dead", ("queue",), False, False): "dead-pushed",
    ("dead", ("in-process",), False, False): "dead-claimed",
    ("dead", ("dead", "in-process"), False, False): "buried",
    ("dead", ("dead",), False, False): "dead-removed",
}


def load_runs(text: str) -> list[Run]:
    """The runs of `runs.toml`, and the two from which the crash table is derived."""
    small: dict[str, int | str] = {"JOBS": 1, "FAULTS": 1}
    death: dict[str, int | str] = {"JOBS": 1, "FAULTS": 1, "CRASH_TABLE": 1}
    return [
        *(
            Run(kind, **{"defines": small, **entry})
            for kind, entries in tomllib.loads(text).items()
            for entry in entries
        ),
        Run("crash-table", "job", {**death, "MALFORMED": "NONE"}),
        Run("crash-table", "dead", {**death, "MALFORMED": 0}),
    ]


def fault_of(run: Run, outcome: Outcome) -> str | None:
    """What is wrong with a search's outcome, as one sentence."""
    violated = outcome.violated
    if run.is_base:
        if violated:
            return f"{run.name}: the protocol violates {violated}"
        return None if outcome.complete else f"{run.name}: the search isn't complete"
    if violated is None:
        return (
            f"{run.name}: not refuted, {run.violates} holds although a server or client {run.bug}"
        )
    if violated != run.violates:
        return f"{run.name}: refuted by {violated}, and not by {run.violates}, which names it"
    return None


def unreached_by_all(outcomes: Iterable[Outcome]) -> list[str]:
    """The statements that no search of the protocol reached, without those that are never to be."""
    maps = [outcome.unreached for outcome in outcomes]
    everywhere = set.intersection(*(set(statements) for statements in maps)) if maps else set()
    return [
        f"no run reaches the statement {state} of {process}: {statement}"
        for process, state in sorted(everywhere)
        if (statement := maps[0][process, state]) != "-end-"
        and not statement.startswith("printf('violated: ")
    ]


def bugs_without_run(models: str, runs: Iterable[Run]) -> list[str]:
    """The macros by which the models' text and the runs disagree on the known bugs."""
    in_model = set(re.findall(r"(?:ifn?def |defined\()([A-Z_]+)", models)) - PARAMETERS
    in_runs = {run.bug_macro for run in runs if not run.is_base}
    return [f"{macro} is a bug in the model or in the runs alone" for macro in in_model ^ in_runs]


def crash_rows(found: Mapping[str, Iterable[tuple[int, ...]]]) -> list[dict[str, Any]]:
    """The crash table as far as the model knows it, from the rows that its searches print.

    Args:
        found: For `job` and `dead` the rows: whether the queue, the in-process list and the dead
            list held the message when the server died, the runs and the results until then, the
            runs in all, the results afterwards.
    """
    counts: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for message, rows in found.items():
        for queue, in_process, dead, runs, published, runs_in_all, results_after in rows:
            places = {"queue": queue, "in-process": in_process, "dead": dead}
            state = tuple(sorted(place for place, holds in places.items() if holds))
            step = STEPS[message, state, runs > 0, published > 0]
            counts.setdefault((step, message, state, published), []).append(
                (runs_in_all, results_after)
            )
    return [
        {
            "step": step,
            "message": message,
            "state": list(state),
            "published": published,
            "runs": {"min": min(r for r, _ in seen), "max": max(r for r, _ in seen)},
            "results_after": {"min": min(a for _, a in seen), "max": max(a for _, a in seen)},
        }
        for (step, message, state, published), seen in sorted(
            counts.items(), key=lambda item: list(STEPS.values()).index(item[0][0])
        )
    ]


def differences(derived: list[dict[str, Any]], table: Mapping[str, Any]) -> list[str]:
    """The differences between the crash table and the model."""
    model = {row["step"]: row for row in derived}
    said = {row["step"]: row for row in table["rows"]}
    faults = [f"crash-table.json lacks the step {step}" for step in model if step not in said]
    faults += [
        f"crash-table.json has {step}, which isn't in the model"
        for step in said
        if step not in model
    ]
    for step in model.keys() & said.keys():
        for name, value in model[step].items():
            found = sorted(said[step][name]) if name == "state" else said[step][name]
            if found != value:
                faults.append(
                    f"crash-table.json, {step}: {name} is {found}, and {value} in the model"
                )
    return sorted(faults)


def search_all(runs: list[Run], parallel: int) -> dict[Run, Outcome]:
    """Search all runs and print a line for each on stderr as it ends."""
    outcomes = {}
    with ThreadPoolExecutor(parallel) as pool:
        searches = {pool.submit(explore, run): run for run in runs}
        for done in as_completed(searches):
            run, outcome = searches[done], done.result()
            outcomes[run] = outcome
            ends = f"violates {outcome.violated}" if outcome.violated else "holds"
            print(
                f"{'FAILED' if fault_of(run, outcome) else 'ok':6}  {run.kind:12}  {run.name:38}"
                f"  {ends:28}  {outcome.states:>10,} states  {outcome.seconds:5.1f} s"
                f"  {outcome.megabytes:6.0f} MB",
                file=sys.stderr,
                flush=True,
            )
    return {run: outcomes[run] for run in runs}


def report(
    outcomes: Mapping[Run, Outcome], rows: list[dict[str, Any]], faults: list[str]
) -> dict[str, Any]:
    """All that was found, as JSON."""
    return {
        "passed": not faults,
        "faults": faults,
        "crash_table": rows,
        "runs": [
            {
                **asdict(run),
                "violated": outcome.violated,
                "states": outcome.states,
                "seconds": outcome.seconds,
                "megabytes": outcome.megabytes,
                "counterexample": outcome.counterexample,
            }
            for run, outcome in outcomes.items()
        ],
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the result is the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--json", action="store_true", help="print the whole report as JSON on stdout"
    )
    parser.add_argument(
        "--crash-table", action="store_true", help="derive and compare this table alone"
    )
    parser.add_argument(
        "--deep", action="store_true", help="larger searches, too: minutes, 2 GB each"
    )
    parser.add_argument(
        "--counterexamples", action="store_true", help="print those of the known bugs, too"
    )
    parser.add_argument("--parallel", type=int, default=2, metavar="N", help="searches at once (2)")
    options = parser.parse_args(arguments)
    missing = [tool for tool in ("spin", "gcc") if not shutil.which(tool)]
    if missing:
        print(f"{' and '.join(missing)} not found: apt-get install spin gcc", file=sys.stderr)
        return 2

    runs = load_runs(RUNS.read_text())
    asked = [run for run in runs if options.deep or not run.deep]
    if options.crash_table:
        asked = [run for run in asked if run.kind == "crash-table"]
    try:
        outcomes = search_all(asked, options.parallel)
    except (subprocess.SubprocessError, ValueError) as error:
        print(f"the model can't be searched: {error}", file=sys.stderr)
        return 1
    rows = crash_rows({run.name: out.rows for run, out in outcomes.items() if out.rows})
    faults = [fault for run, outcome in outcomes.items() if (fault := fault_of(run, outcome))]
    faults += differences(rows, json.loads(CRASH_TABLE.read_text()))
    models = "".join(file.read_text() for file in MODELS.glob("*.pml"))
    faults += bugs_without_run(models, runs)
    for model in sorted({run.model for run in asked}):
        held = [out for run, out in outcomes.items() if (run.kind, run.model) == ("holds", model)]
        faults += unreached_by_all(held)

    if options.json:
        print(json.dumps(report(outcomes, rows, faults), indent=2))
    elif options.crash_table:
        print(json.dumps(rows, indent=2))
    else:
        for run, outcome in outcomes.items():
            if run.kind == "not-promised" or (options.counterexamples and outcome.counterexample):
                print(f"\n{run.name} {run.bug}:")
                print(
                    *(f"  {step}" for step in outcome.counterexample),
                    f"  so {outcome.violated} is violated",
                    sep="\n",
                )
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
