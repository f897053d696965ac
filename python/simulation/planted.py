"""Bugs that were once in this or another library, planted in the real core, and how fast they are found.

    python -m simulation.planted            each of them, and a table
    python -m simulation.planted --write    the same, and the table goes into README.md

A bug is a replacement of one piece of a module's source, made in memory when the module is imported.
So each bug has a process of its own. Exit status 1: a bug wasn't found, or its piece isn't there.
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
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import CodeType

PAGE = Path(__file__).with_name("README.md")
CORE = Path(__file__).parents[1]
BEGIN, END = "<!-- planted: generated -->\n", "<!-- end -->\n"
SEEDS = 2_000


class Bug(NamedTuple):
    """A bug: a piece of a module, and what stands there instead."""

    name: str
    module: str
    right: str
    wrong: str

    @property
    def path(self) -> Path:
        """The module's file."""
        return CORE / f"{self.module.replace('.', '/')}.py"

    def source(self) -> str:
        """The module's source with the bug.

        Raises:
            ValueError: The piece isn't there, or is there more than once.
        """
        source = self.path.read_text("utf-8")
        if source.count(self.right) != 1:
            raise ValueError(f"{self.module} has {source.count(self.right)} pieces {self.right!r}")
        return source.replace(self.right, self.wrong)


BUGS = (
    Bug(
        "a server that Redis refuses never obeys a stop",
        "jobqueue.core.reconnect",
        "return moment.stopping and moment.seconds - self._failing_since >= LAST_SECONDS",
        "return False",
    ),
    Bug(
        "a server ends when it is refused at a reconnect",
        "jobqueue.core.reconnect",
        "(isinstance(error, Refused) or not persist)",
        "True",
    ),
    Bug(
        "a result that is sent during a stop claims the next job",
        "jobqueue.core.serial",
        "may_claim = not moment.stopping and not self._looks.due",
        "may_claim = not self._looks.due",
    ),
    Bug(
        "T in whole seconds, so that half a second becomes for ever",
        "jobqueue.protocol.commands",
        'b"%.3f" % max(block, 0.001)',
        'b"%d" % block',
    ),
    Bug(
        "a look starts what is running",
        "jobqueue.core.recovery",
        "        if left[entry]:\n            left[entry] -= 1",
        "        if left[entry] < 0:\n            left[entry] -= 1",
    ),
    Bug(
        "a stop doesn't wait for handlers",
        "jobqueue.core.parallel",
        "                yield Room(1)\n",
        "",
    ),
    Bug(
        "a forbidden command sends every job to the dead list",
        "jobqueue.protocol.commands",
        "return _forbidden(reply) and bool(_ABOUT_A_CHANNEL.search(reply.text))",
        "return _forbidden(reply)",
    ),
    Bug(
        "a client stays with a replica that refuses every push",
        "jobqueue.core.calls",
        '_UNAVAILABLE = {"READONLY", ',
        "_UNAVAILABLE = {",
    ),
    Bug(
        "a client keeps a subscription that Redis has refused",
        "jobqueue.core.calls",
        "request.pushed is None and self._state is State.SUBSCRIBING",
        "request.pushed and self._state is State.SUBSCRIBING",
    ),
    Bug(
        "a client pushes behind a SUBSCRIBE that isn't confirmed",
        "jobqueue.core.calls",
        "while self._state is State.OPEN and self._waiting",
        "while self._state in {State.OPEN, State.SUBSCRIBING} and self._waiting",
    ),
    Bug(
        "a lost connection settles jobs that have a timeout",
        "jobqueue.core.calls",
        "if call.message is None and call.deadline is None:",
        "if call.message is None:",
    ),
)


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
    from simulation.plan import draw  # noqa: PLC0415
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
