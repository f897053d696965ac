"""How long the kit waits: a budget of time with a processor, which passes more slowly on a busy machine."""

import time
from pathlib import Path

import pytest
from jobqueue_conformance.proxy import waiting
from jobqueue_conformance.proxy.waiting import Budget, contention


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the system says how many programs are runnable, for two processors."""
    monkeypatch.setattr(waiting, "LOAD", tmp_path / "loadavg")
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    return tmp_path / "loadavg"


@pytest.mark.parametrize("runnable, expected", [(1, 1.0), (2, 1.0), (8, 4.0)])
def test_contention_is_what_runs_for_each_processor(
    load: Path, runnable: int, expected: float
) -> None:
    """Eight runnable programs on two processors take four times as long; a single one isn't faster."""
    load.write_text(f"0.00 0.00 0.00 {runnable}/321 4711\n")

    assert contention() == expected


def test_the_average_stands_in_where_the_system_does_not_tell(
    load: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the file, the load of the last minute counts."""
    assert not load.exists()
    monkeypatch.setattr("os.getloadavg", lambda: (6.0, 0.0, 0.0))

    assert contention() == 3.0


def test_a_budget_passes_more_slowly_where_programs_wait(
    load: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten seconds, four pass as four on an idle machine, and as one on a busy one."""
    clock = iter([0.0, 4.0, 8.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    budget = Budget(10.0)

    load.write_text("0.00 0.00 0.00 1/321 4711\n")
    assert budget.left_s() == 6.0
    load.write_text("0.00 0.00 0.00 8/321 4711\n")
    assert budget.left_s() == 5.0


def test_a_wait_while_something_is_held_is_short_on_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It sees what happens; where nothing does, it ends by the clock, though its budget hardly passes."""
    monkeypatch.setattr(waiting, "contention", lambda: 1e9)
    monkeypatch.setattr(waiting, "HELD_S", 0.05)
    notifier = waiting.Notifier()

    assert notifier.happens_while_held(lambda: "seen", 10.0) == "seen"
    assert notifier.happens_while_held(lambda: None, 10.0) is None


def test_time_passes_by_the_clock_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is said, however many programs wait for a processor."""
    monkeypatch.setattr(waiting, "contention", lambda: 1e9)
    begun_s = time.monotonic()

    waiting.Notifier().pass_time(0.05)

    assert time.monotonic() - begun_s >= 0.05


def test_time_may_pass_for_longer_than_a_hang() -> None:
    """The deadline that bounds a hang counts from the end of that time, also where it is shorter."""
    notifier = waiting.Notifier()
    notifier.deadline_s = 0.01

    assert notifier.happens_by_the_clock(lambda: None, 0.1) is None
