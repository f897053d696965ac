"""The model's check fails where it has to; no test here needs Spin."""

import json
import os
import re
import subprocess
import sys

import pytest
from check import (
    CRASH_TABLE,
    RUNS,
    STEPS,
    bugs_without_run,
    crash_rows,
    differences,
    fault_of,
    load_runs,
    unreached_by_all,
)
from search import MODELS, Outcome, Run, read_counterexample, read_search

SEARCH = """\
Depth=      95 States=    1e+06 Transitions= 5.45e+06 Memory=   251.328	t=     2.02 R=   5e+05
  row 0 1 0 1 0 2 1

(Spin Version 6.5.2 -- 6 December 2019)
State-vector 96 byte, depth reached 67, errors: 0
     4195 states, stored
     9973 states, matched
    8.125	total actual memory usage


unreached in proctype server
	server.pml:35, state 44, "printf('violated: %e\\n',7)"
	server.pml:80, state 57, "dead = (dead|(1<<held[me]))"
	(2 of 196 states)
unreached in init
	protocol.pml:99, state 32, "-end-"
	(1 of 32 states)
"""
REPLAY = """\
spin: couldn't find claim 4 (ignored)
client 0: subscribes
      server 0: removes job 0
violated: never_lost
spin: server.pml:35, Error: assertion violated
spin: text of failed assertion: assert(0)
spin: trail ends after 12 steps
#processes: 7
		queue = 0
"""
PROTOCOL = Run("holds", "all jobs", {"JOBS": 1})
BUG = Run("refuted", "pop-then-push", {"JOBS": 1}, violates="never_lost", bug="pops and pushes")
TABLE = json.loads(CRASH_TABLE.read_text())


def model_text() -> str:
    """All files of the models."""
    return "".join(file.read_text() for file in sorted(MODELS.glob("*.pml")))


def test_a_search_is_read() -> None:
    """The end of a search gives its size, its rows and what it didn't reach."""
    outcome = read_search(SEARCH)

    assert (outcome.states, outcome.megabytes, outcome.complete) == (4195, 8.125, True)
    assert outcome.rows == [(0, 1, 0, 1, 0, 2, 1)]
    assert outcome.unreached["proctype server", 57] == "dead = (dead|(1<<held[me]))"
    assert outcome.violated is None


@pytest.mark.parametrize(
    "line", ["Warning: Search not completed", "error: max search depth too small"]
)
def test_a_search_that_stopped_early_is_incomplete(line: str) -> None:
    """A search that gave up doesn't count as one that found nothing."""
    assert not read_search(f"{line}\n{SEARCH}").complete


def test_a_search_without_an_end_is_refused() -> None:
    """A search that was killed gives no outcome."""
    with pytest.raises(ValueError, match="came to no end"):
        read_search("Killed")


def test_a_cycle_violates_comes_to_rest() -> None:
    """A cycle without a fault violates the property that has no assertion."""
    assert (
        read_search(f"pan:1: non-progress cycle (at depth 67)\n{SEARCH}").violated
        == "comes_to_rest"
    )


def test_a_counterexample_is_read() -> None:
    """A replayed trail gives the steps and the property, without the rest of Spin's output."""
    assert read_counterexample(REPLAY) == (
        ["client 0: subscribes", "server 0: removes job 0"],
        "never_lost",
    )


@pytest.mark.parametrize(
    "run, outcome, words",
    [
        (PROTOCOL, Outcome(violated="never_lost"), "the protocol violates never_lost"),
        (PROTOCOL, Outcome(complete=False), "isn't complete"),
        (BUG, Outcome(complete=True), "not refuted"),
        (BUG, Outcome(violated="settled_once"), "refuted by settled_once, and not by never_lost"),
    ],
)
def test_a_wrong_outcome_is_a_fault(run: Run, outcome: Outcome, words: str) -> None:
    """A violated protocol, a bug that nothing refutes or the wrong property refutes: each fails."""
    assert words in (fault_of(run, outcome) or "")


@pytest.mark.parametrize(
    "run, outcome", [(PROTOCOL, Outcome(complete=True)), (BUG, Outcome(violated="never_lost"))]
)
def test_the_right_outcome_is_none(run: Run, outcome: Outcome) -> None:
    """A protocol that holds and a bug that its own property refutes are as they have to be."""
    assert fault_of(run, outcome) is None


def test_what_no_run_reaches_is_a_fault() -> None:
    """A statement counts as checked when one run reaches it; violations needn't be reached."""
    first = read_search(SEARCH)
    assert len(unreached_by_all([first, first])) == 1, "one statement is reached by neither"
    assert unreached_by_all([first, Outcome()]) == []


def test_every_bug_has_a_run() -> None:
    """The model's bugs are the bugs of the runs, and one that only one side knows is a fault."""
    runs = load_runs(RUNS.read_text())
    assert bugs_without_run(model_text(), runs) == []
    assert bugs_without_run(f"{model_text()}\n#ifdef NEW_BUG\n", runs) == [
        "NEW_BUG is a bug in the model or in the runs alone"
    ]


def test_every_bug_breaks_the_requirement_of_its_run() -> None:
    """The model says next to each bug which requirement it breaks, and the spec has them all."""
    broken = set(re.findall(r"breaks ([\w.-]+)", model_text()))
    named = {run.requirement for run in load_runs(RUNS.read_text()) if run.kind == "refuted"}
    known = (MODELS.parent / "requirements" / "1.1.json").read_text()

    assert broken == named
    assert [requirement for requirement in broken if f'"{requirement}"' not in known] == []


def test_rows_become_a_table() -> None:
    """The rows of a search become one row for each step, with the bounds of what was counted."""
    rows = crash_rows(
        {"job": [(0, 1, 0, 1, 1, 2, 1), (0, 1, 0, 1, 1, 2, 0), (1, 0, 0, 0, 0, 1, 1)]}
    )

    assert [row["step"] for row in rows] == ["pushed", "published"]
    assert rows[1] == {
        "step": "published",
        "message": "job",
        "state": ["in-process"],
        "published": 1,
        "runs": {"min": 2, "max": 2},
        "results_after": {"min": 0, "max": 1},
    }


def test_the_crash_table_has_the_steps_of_the_model() -> None:
    """The table's rows are the model's steps, in their order."""
    assert [row["step"] for row in TABLE["rows"]] == list(STEPS.values())


def test_a_crash_table_that_says_something_else_is_a_fault() -> None:
    """A changed number, a missing step and an extra one are each named."""
    rows = [
        {
            name: row[name]
            for name in ("step", "message", "state", "published", "runs", "results_after")
        }
        for row in TABLE["rows"]
    ]
    other = json.loads(json.dumps(TABLE))
    other["rows"][0]["runs"]["max"] = 3
    other["rows"][1]["step"] = "grabbed"

    assert differences(rows, TABLE) == []
    assert differences(rows, other) == [
        "crash-table.json has grabbed, which isn't in the model",
        "crash-table.json lacks the step claimed",
        (
            "crash-table.json, pushed: runs is {'min': 1, 'max': 3}, "
            "and {'min': 1, 'max': 1} in the model"
        ),
    ]


def test_a_missing_tool_is_said_in_one_sentence() -> None:
    """Without Spin and gcc on PATH the check fails with status 2, and is not skipped."""
    done = subprocess.run(
        [sys.executable, str(MODELS / "check.py")],
        env={**os.environ, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.splitlines() == ["spin and gcc not found: apt-get install spin gcc"]
