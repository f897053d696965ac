"""One search of a model by Spin: compiled with a run's macros, it visits every state.

`Run` says what is searched, `Outcome` what was found. Reading what the tools print is pure;
`explore` alone starts processes, each search in a folder of its own.
"""

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

MODELS = Path(__file__).parent
TIMEOUT_S = 3600
MEMORY_LIMIT_MB = 3500


@dataclass(frozen=True, eq=False)
class Run:
    """What is asked of a model: `runs.toml` explains the members."""

    kind: str
    name: str
    defines: dict[str, int | str]
    violates: str | None = None
    requirement: str | None = None
    bug: str | None = None
    cycles: bool = False
    deep: bool = False
    model: str = "protocol"

    @property
    def is_base(self) -> bool:
        """Whether the protocol is searched as it is, and nothing may be violated."""
        return self.kind in {"holds", "crash-table"}

    @property
    def bug_macro(self) -> str:
        """The macro that compiles the bug in."""
        return self.name.upper().replace("-", "_")

    @property
    def flags(self) -> list[str]:
        """The macros as the preprocessor takes them."""
        macros = self.defines if self.is_base else {**self.defines, self.bug_macro: 1}
        return [f"-D{name}={value}" for name, value in macros.items()]


@dataclass
class Outcome:
    """What a search found: the violated property with the counterexample that leads to it, or neither."""

    complete: bool = False
    violated: str | None = None
    states: int = 0
    seconds: float = 0.0
    megabytes: float = 0.0
    counterexample: list[str] = field(default_factory=list)
    rows: list[tuple[int, ...]] = field(default_factory=list)
    unreached: dict[tuple[str, int], str] = field(default_factory=dict)


def read_search(text: str) -> Outcome:
    """Read what the search prints at its end."""
    states = re.search(r"(\d+) states, stored", text)
    megabytes = re.search(r"([\d.]+)\s+total actual memory usage", text)
    if not states or not megabytes:
        raise ValueError(f"the search came to no end: {text[-500:]}")
    unreached = {
        (process, int(state)): statement
        for process, lines in re.findall(r"^unreached in (.+)\n((?:\t.*\n)*)", text, re.MULTILINE)
        for state, statement in re.findall(r'^\t\S+, state (\d+), "(.*)"$', lines, re.MULTILINE)
    }
    return Outcome(
        complete="not completed" not in text and "max search depth too small" not in text,
        violated="comes_to_rest" if "non-progress cycle (" in text else None,
        states=int(states[1]),
        megabytes=float(megabytes[1]),
        rows=[
            tuple(int(number) for number in numbers.split())
            for numbers in re.findall(r"^ *row ([\d ]+)$", text, re.MULTILINE)
        ],
        unreached=unreached,
    )


def read_counterexample(text: str) -> tuple[list[str], str | None]:
    """Read the steps of a replayed counterexample, and the property that the last one violates."""
    steps = [line.strip() for line in text.splitlines()]
    end = next((i for i, step in enumerate(steps) if step.startswith("spin: trail ends")), None)
    counterexample = [step for step in steps[:end] if not step.startswith("spin: ")]
    violated = next(
        (s.removeprefix("violated: ") for s in counterexample if s.startswith("violated: ")), None
    )
    return [step for step in counterexample if not step.startswith("violated: ")], violated


def explore(run: Run) -> Outcome:
    """Visit every state of a run; of a bug, look for the shortest counterexample.

    Raises:
        subprocess.SubprocessError: A tool failed, or took longer than TIMEOUT_S.
        ValueError: The search was cut short.
    """
    started = time.monotonic()
    shortest = not run.is_base and not run.cycles
    with tempfile.TemporaryDirectory(prefix="jobqueue-model-") as folder:
        for file in MODELS.glob("*.pml"):
            shutil.copy(file, folder)
        # Without -o2 Spin resets what only the crash table's rows read.
        model = f"{run.model}.pml"
        _call(folder, "spin", "-o2", "-a", *run.flags, model)
        options = ["-w", f"-DMEMLIM={MEMORY_LIMIT_MB}", "-O2" if run.kind == "holds" else "-O0"]
        options += ["-DNP"] if run.cycles else ["-DSAFETY"]
        options += ["-DREACH"] if shortest else []
        options += ["-DPRINTF"] if run.kind == "crash-table" else []
        _call(folder, "gcc", *options, "-o", "pan", "pan.c")
        options = ["-m100000", "-w24" if run.kind == "holds" else "-w18"]
        options += ["-l"] if run.cycles else []
        options += ["-i"] if shortest else []
        outcome = read_search(_call(folder, "./pan", *options))
        trail = f"{model}.trail"
        if (Path(folder) / trail).exists():
            replay = _call(folder, "spin", "-T", "-t", "-k", trail, *run.flags, model)
            outcome.counterexample, violated = read_counterexample(replay)
            outcome.violated = outcome.violated or violated or "no property by name"
    outcome.seconds = round(time.monotonic() - started, 1)
    return outcome


def _call(folder: str, *command: str) -> str:
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=TIMEOUT_S
    ).stdout
