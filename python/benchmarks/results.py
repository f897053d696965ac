"""What was measured: every value of every run, and what one asks of them.

It is what stands in the JSON; tables, chart and judgement are made of it and of nothing else.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from contender import CONTENDERS, Contender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from measures import Shape, Values


@dataclass(slots=True)
class Measurement:
    """One measure of one contender in one shape: the values of each run, or why not.

    Attributes:
        measure: Its name.
        contender: Whom it measures.
        shape: What is varied.
        values: What was measured.
        runs: In which run each of them was.
        failure: Why one is missing.
    """

    measure: str
    contender: str
    shape: dict[str, int]
    values: list[Values] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)
    failure: str | None = None

    def add(self, run: int, values: Values) -> None:
        """Keep what a run has measured."""
        self.runs.append(run)
        self.values.append(values)

    def of_run(self, run: int) -> Measurement:
        """What one run has measured; what is measured only once is part of each."""
        pairs = zip(self.values, self.runs, strict=True)
        values = [values for values, number in pairs if number == run]
        return replace(self, values=values or self.values)

    def ends(self, name: str) -> tuple[float, float] | None:
        """The least and the most that a run came to; None where none succeeded."""
        medians = [self.of_run(run).median(name) for run in sorted(set(self.runs))]
        found = [value for value in medians if value is not None]
        return (min(found), max(found)) if found else None

    def median(self, name: str) -> float | None:
        """The median over the runs; None where none succeeded."""
        found = [values[name] for values in self.values]
        return median(found) if found else None


class Results:
    """The measurements of some interleaved runs."""

    def __init__(self, redis: str, settings: dict[str, Any]) -> None:
        self.redis = redis
        self.settings = settings
        self.date = datetime.now(UTC).isoformat(timespec="seconds")
        self.versions: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self._measurements: dict[Any, Measurement] = {}

    def of(self, measure: str, contender: str, shape: Shape) -> Measurement:
        """The measurement, a new one where there is none yet."""
        title = shape.title()
        key = (measure, contender, *title.items())
        return self._measurements.setdefault(key, Measurement(measure, contender, title))

    def runs(self) -> list[Results]:
        """The same for each run by itself."""
        numbers = {number for found in self._measurements.values() for number in found.runs}
        return [self._of_run(number) for number in sorted(numbers)]

    def _of_run(self, number: int) -> Results:
        one = Results(self.redis, self.settings)
        one._measurements = {key: found.of_run(number) for key, found in self._measurements.items()}
        return one

    def ends(
        self, measure: str, contender: str, shape: Shape, name: str
    ) -> tuple[float, float] | None:
        """The least and the most of a value over the runs; None where it wasn't measured."""
        found = self._measurements.get((measure, contender, *shape.title().items()))
        return found.ends(name) if found else None

    def value(self, measure: str, contender: str, shape: Shape, name: str) -> float | None:
        """The median of a value; None where it wasn't measured."""
        key = (measure, contender, *shape.title().items())
        found = self._measurements.get(key)
        return found.median(name) if found else None

    def of_measure(self, measure: str) -> Iterator[Measurement]:
        """All measurements of one measure."""
        return (found for found in self._measurements.values() if found.measure == measure)

    def document(self, judgement: list[dict[str, Any]]) -> dict[str, Any]:
        """The whole as JSON has it."""
        return {
            "date": self.date,
            "machine": machine(),
            "redis": self.redis,
            "settings": self.settings,
            "versions": self.versions,
            "failures": self.failures,
            "measurements": [
                {
                    "measure": found.measure,
                    "contender": found.contender,
                    "shape": found.shape,
                    "medians": {name: found.median(name) for name in (found.values or [{}])[0]},
                    "runs": found.runs,
                    "values": found.values,
                    "failure": found.failure,
                }
                for found in self._measurements.values()
            ],
            "judgement": judgement,
        }


def peers(*, asynchronous: bool = False, node: bool = False) -> list[Contender]:
    """List the peers of one kind."""
    return [
        contender
        for contender in CONTENDERS.values()
        if contender.kind == "peer"
        and contender.node == node
        and (contender.asynchronous or not asynchronous)
    ]


def machine() -> dict[str, Any]:
    """Describe the machine, without its name."""
    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "scheduling": "normal" if os.sched_getscheduler(0) == os.SCHED_OTHER else "real-time",
    }
