"""The benchmarks run, and write results for the README and for comparisons of machines."""

from __future__ import annotations

import importlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import until

RUN = Path(__file__).parents[1] / "benchmarks" / "run.py"
LONGEST_S = 120


class Ended(NamedTuple):
    """What a run of the benchmarks has left behind."""

    document: dict[str, Any]
    tables: str
    progress: str


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A run over the limit and the reference, as small as a run can be."""
    path = tmp_path_factory.mktemp("benchmarks") / "results.json"
    command = [
        *(sys.executable, str(RUN), "--contenders", "raw,jobqueue", "--quick"),
        *("--only", "drain,round-trip,enqueue,cost", "--seconds", "0.1", "--json", str(path)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    assert done.returncode == 0, f"a run ends well, and ended so: {done.stderr}"
    return Ended(json.loads(path.read_text()), done.stdout, done.stderr)


@pytest.fixture
def document(ended: Ended) -> dict[str, Any]:
    """The run's JSON."""
    return ended.document


def test_a_log_shows_progress(ended: Ended) -> None:
    """Where no terminal is, lines say how far a run has come, and with what it goes on."""
    first = ended.progress.splitlines()[0]

    assert re.fullmatch(r"0 of [1-9]\d+: drain raw .*", first), f"got {first!r}"


def test_a_log_shows_whole_numbers(ended: Ended) -> None:
    """Where no terminal is, a table is as wide as it needs to be, and nothing is cut."""
    assert "jobqueue ÷ raw" in ended.tables
    assert "…" not in ended.tables


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_nobody_behind(number: signal.Signals) -> None:
    """It says what it has measured until then, and ends Redis and the contender with itself."""
    command = [*(sys.executable, str(RUN), "--contenders", "raw", "--only", "drain")]
    with subprocess.Popen(
        [*command, "--seconds", "9"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            started = _children(run.pid)
            run.send_signal(number)
            tables, said = run.communicate(timeout=LONGEST_S)
        finally:
            run.kill()

    assert run.returncode == 130, said
    assert "interrupted" in tables
    until(lambda: not any(map(_runs, started)), "Redis and the contender to end")


def _runs(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, and not yet reaped by the process that has inherited it


def _children(pid: int) -> list[str]:
    """The processes that a run has started, once they are Redis and a contender, and at work."""
    deadline = time.monotonic() + LONGEST_S
    before: list[str] = []
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if len(children) == 2 and children == before:
            return children
        before = children
        time.sleep(0.1)  # longer than a process takes to begin
    pytest.fail("a run starts Redis and a contender")


def test_says_where_and_with_what_it_was_measured(document: dict[str, Any]) -> None:
    """A run names its date, machine, Redis and versions, so that two can be distinguished."""
    assert set(document["machine"]) == {"cpu", "cores", "system", "python", "scheduling"}
    assert document["date"]
    assert document["redis"].startswith(("redis ", "valkey "))
    assert set(document["versions"]) == {"raw", "jobqueue"}
    assert document["failures"] == {}


@pytest.mark.parametrize(
    "measure,names",
    [
        ("drain", {"jobs_per_s", "server_cpu_s_per_100k", "redis_commands_per_job"}),
        ("round-trip", {"p50_ms", "p99_ms", "p99_9_ms", "replies_per_s", "lost"}),
        ("enqueue", {"jobs_per_s"}),
    ],
)
@pytest.mark.parametrize("contender", ["raw", "jobqueue"])
def test_holds_each_measure(
    document: dict[str, Any], contender: str, measure: str, names: set[str]
) -> None:
    """Every measure of every contender has its values, and a median for each of them."""
    (found,) = (
        found
        for found in document["measurements"]
        if (found["measure"], found["contender"], found["shape"]) == (measure, contender, {})
    )

    assert found["failure"] is None, f"{contender} could be measured: {found['failure']}"
    assert names <= set(found["medians"]) == set(found["values"][0])


def test_loses_no_result(document: dict[str, Any]) -> None:
    """Each call of the reference has its result."""
    lost = [
        found["medians"]["lost"]
        for found in document["measurements"]
        if found["measure"] == "round-trip" and found["contender"] == "jobqueue"
    ]

    assert lost == [0, 0], f"of two shapes, none loses a result, got {lost}"


def test_keeps_a_promise_open_that_nobody_measured(document: dict[str, Any]) -> None:
    """A promise against peers that weren't there is neither kept nor broken."""
    kept = {verdict["promise"]: verdict["kept"] for verdict in document["judgement"]}

    assert kept["drain, one at a time: of the raw limit"] is not None
    assert kept["drain, one at a time: times the fastest peer, one at a time"] is None


def test_compares_a_revision_in_pairs(tmp_path: Path) -> None:
    """Each pair is a value of the other revision and one of this checkout."""
    path = tmp_path / "pairs.json"
    library = str(RUN.parents[1])
    command = [sys.executable, str(RUN.with_name("compare.py")), library]
    done = subprocess.run(
        [
            *command,
            "--only",
            "run_many, threads",
            "--pairs",
            "2",
            "--seconds",
            "0.05",
            "--json",
            str(path),
        ],
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "this checkout ÷" in done.stdout
    ((question, pairs),) = json.loads(path.read_text()).items()
    assert question == "run_many, threads, jobs/s"
    assert len(pairs) == 2
    assert all(before > 0 and after > 0 for before, after in pairs)


@pytest.mark.parametrize(
    "values,low,high",
    [([3.0], 3, 3), ([1.0, 2, 3, 4, 5], 1, 5), ([1.0, 2, 3, 4, 5, 6], 1, 6), ([*range(20)], 5, 14)],
    ids=["1", "5", "6", "20"],
)
def test_the_median_lies_in_the_interval_of_the_sign_test(
    values: list[float], low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20 values, five may be left out at each end: tables of the sign test say so."""
    monkeypatch.syspath_prepend(str(RUN.parent))

    assert importlib.import_module("compare").interval(values) == (low, high)


def test_names_the_contenders_that_it_has() -> None:
    """An unknown contender ends the run at once, with the names that are known."""
    done = subprocess.run(
        [sys.executable, str(RUN), "--contenders", "sidekiq"],
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )

    assert done.returncode == 2
    assert "'sidekiq' is none of raw, raw_script, raw_unsafe" in done.stderr
