"""Plants bugs in the real core, one at a time, and shows how fast they are found.

    python -m simulation.planted            each of them, and a table
    python -m simulation.planted --write    the same, and the table goes into README.md

`bugs` has them. They are planted in memory when the module is imported, so each has a process of its
own. Exit status 1: a bug wasn't found, or a piece isn't there.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import subprocess
import sys
import time
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulation.bugs import BUGS

if TYPE_CHECKING:
    from types import CodeType

    from simulation.bugs import Bug

PAGE = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- planted: generated -->\n", "<!-- end -->\n"
SEEDS = 2_000


class _Loader(SourceFileLoader):
    """Loads the module with the bug; nothing that was compiled before is used."""

    bug: Bug

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self.bug.source(), self.get_filename(fullname), "exec")
        return code


class _Finder(MetaPathFinder):
    """Finds the module with the bug before the right one is found."""

    def __init__(self, bug: Bug) -> None:
        self._bug = bug

    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> ModuleSpec | None:
        if fullname != self._bug.module:
            return None
        loader = _Loader(fullname, str(self._bug.path))
        loader.bug = self._bug
        return importlib.util.spec_from_file_location(fullname, self._bug.path, loader=loader)


def search(bug: Bug) -> int:
    """Plant the bug in this process, and print how it is found: seeds, seconds and the sentence."""
    sys.meta_path.insert(0, _Finder(bug))
    from simulation.draws import draw  # noqa: PLC0415
    from simulation.search import attempt  # noqa: PLC0415 - with the bug

    logging.getLogger("jobqueue").setLevel(logging.CRITICAL + 1)
    began = time.process_time()
    for seed in range(SEEDS):
        failure = attempt(draw(seed))
        if failure is not None:
            print(f"{seed + 1}\t{time.process_time() - began:.1f}\t{failure.sentence}")
            return 0
    print(f"not found in {SEEDS} seeds", file=sys.stderr)
    return 1


def table(found: list[tuple[Bug, str]]) -> str:
    """Show what each bug took."""
    lines = ["| planted bug | seeds | s of a core | found as |", "| --- | ---: | ---: | --- |"]
    for bug, line in found:
        seeds, seconds, sentence = line.split("\t")
        lines.append(f"| {bug.name} | {seeds} | {seconds} | {sentence.partition(':')[0]} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the result is the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the table into README.md")
    parser.add_argument("--bug", type=int, metavar="N", help="search this one in this process")
    options = parser.parse_args(arguments)
    if options.bug is not None:
        return search(BUGS[options.bug])
    found: list[tuple[Bug, str]] = []
    for number, bug in enumerate(BUGS):
        command = [sys.executable, "-m", "simulation.planted", "--bug", str(number)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        print(f"{bug.name}: {done.stdout.strip() or 'not found'}", flush=True)
        if done.returncode == 0:
            found.append((bug, done.stdout.strip()))
    if options.write and len(found) == len(BUGS):
        before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        PAGE.write_text(before + BEGIN + table(found) + END + rest.partition(END)[2], "utf-8")
    return 0 if len(found) == len(BUGS) else 1


if __name__ == "__main__":
    sys.exit(main())
