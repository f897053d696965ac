"""Puts a mutant on trial: a copy of the library with the edit, and the tests that come to it, the quickest first.

A mutant dies by a test that fails twice: it is killed by an assertion or by a wait that times out, and
refused where the kit says that the program can't be put under test. It survives where no test fails, also
where none comes to it. Of everything else nothing is known: a test that fails only once, a run that comes
to no end although no test has failed.

The first colour whose tests come to the edit decides: what both colours share behaves the same in both.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jobqueue_conformance.spec.paths import SUITE
from proof import session
from proof.session import Order, Session

from mutation import reach
from mutation.sample import LIBRARY, ROOT, files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from proof.session import Ended

    from mutation.reach import Statement
    from mutation.sample import Mutant

COLOURS = ("python", "python-asyncio")
DRIVERS = SUITE.parent / "implementations"
BUILD = ROOT / "build" / "mutate"
SMOKE = "test_smoke.py"
FINE = {"passed", "skipped"}
DEATHS = {"failed": "killed", "hung": "killed", "refused": "refused"}
# What a run on the right library depends on.
INGREDIENTS = ("python/jobqueue", "conformance/jobqueue_conformance", "fixtures", "schemas", "spec")
LIMIT_S, LIMIT_FACTOR = 240.0, 5.0


@dataclass(frozen=True)
class Known:
    """What the suite did with the right library of one colour: the time of each test, and where it came."""

    took_s: dict[str, float]
    reached: dict[Statement, set[str]]

    def tests(self, mutant: Mutant) -> list[str]:
        """Those that come to a mutant, the quickest first."""
        coming = self.reached.get((mutant.file, mutant.edit.statement), set()) & self.took_s.keys()
        # The smoke test is always run first, and takes what other tests fail at for a mistake in the set-up.
        telling = {test for test in coming if not test.startswith(SMOKE)} or coming
        return sorted(telling, key=lambda test: (self.took_s[test], test))

    def limit_s(self, tests: Iterable[str]) -> float:
        """How long these may take on a mutant."""
        return LIMIT_S + LIMIT_FACTOR * sum(self.took_s[test] for test in tests)


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant, and by what; `test` is the one at which it died.

    `how` is `killed`, `refused`, `survived` or `unknown`.
    """

    mutant: Mutant
    how: str
    by: str = ""
    took_s: float = 0.0
    test: str = ""

    @property
    def died(self) -> bool:
        """Whether the suite noticed it."""
        return self.how in DEATHS.values()


def known(colour: str, redis: str, jobs: int) -> Known:
    """Run the suite on the right library; what it did is kept, until something of it changes."""
    kept = BUILD / f"{colour}-{digest(redis)}.json"
    if not kept.exists():
        folder = copied(colour, f"right-{colour}")
        notes = folder / "notes"
        reach.install(folder / "jobqueue", files(), notes)
        order = Order(colour, folder / "impl.toml", (), (f"--redis={redis}",), 900.0)
        tests = session.collect(order)
        if tests.problem is not None:
            raise SystemExit(f"the suite can't be collected: {tests.problem}")
        by_file = sorted({test.file for test in tests.tests})
        took_s, failed = _passed(order, [(file,) for file in by_file], jobs)
        if failed:  # on a busy machine one may fail by chance
            again, failed = _passed(order, [(test,) for test in failed], 1)
            took_s |= again
        if failed:
            raise SystemExit(f"the right library fails: {', '.join(failed)}")
        kept.write_text(json.dumps([took_s, notes.read_text("utf-8")]), encoding="utf-8")
    took_s, written = json.loads(kept.read_text("utf-8"))
    reached = reach.read(written)
    if not set().union(*reached.values()) & took_s.keys():
        raise SystemExit("no test comes to the copy: the programs import another library")
    return Known(took_s, reached)


def _passed(
    order: Order, wanted: Sequence[tuple[str, ...]], jobs: int
) -> tuple[dict[str, float], list[str]]:
    """Run these tests, this many orders at a time: how long each took that passed, and which ones failed."""
    orders = [
        replace(order, name=f"{order.name}-{number}", tests=tests)
        for number, tests in enumerate(wanted)
    ]
    took_s: dict[str, float] = {}
    failed: list[str] = []
    for made, said in session.run(orders, jobs):
        took_s |= {end.test: end.took_s for end in said.ended if end.how in FINE}
        failed += [end.test for end in said.ended if end.how not in FINE]
        if "NO_TESTS" not in (said.problem or "NO_TESTS"):
            failed += made.tests
    return took_s, failed


def digest(redis: str) -> str:
    """A name for everything that a run on the right library depends on."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *INGREDIENTS],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    digest = hashlib.sha256(redis.encode())
    for name in sorted(filter(None, listed.split(b"\0"))):
        path = ROOT / name.decode()
        if path.is_file():
            digest.update(b"%b\0%b" % (name, path.read_bytes()))
    return digest.hexdigest()[:12]


def copied(colour: str, name: str) -> Path:
    """A folder with the programs of a colour and, next to them, the library, which they find first."""
    folder = BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DRIVERS / colour, folder)
    shutil.copytree(LIBRARY, folder / "jobqueue", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def judge(
    mutants: Sequence[Mutant], right: dict[str, Known], redis: str, jobs: int
) -> Iterator[Verdict]:
    """Put mutants on trial, this many at a time; those to which no test of a colour comes meet the next."""
    left = {mutant.name: Verdict(mutant, "survived", "no test comes to it") for mutant in mutants}
    for colour, base in right.items():
        first = [(each.mutant, base.tests(each.mutant)) for each in left.values()]
        again: list[tuple[Mutant, list[str]]] = []
        for mutant, said in _run(colour, base, first, redis, jobs):
            found = verdict(mutant, colour, said)
            del left[mutant.name]
            if found.died:
                again.append((mutant, [found.test]))
            else:
                yield found
        for mutant, said in _run(colour, base, again, redis, jobs):
            found = verdict(mutant, colour, said)
            if found.how == "survived":
                found = replace(found, how="unknown", by=f"one of {found.by} failed only once")
            yield found
    yield from left.values()


def _run(
    colour: str, base: Known, wanted: Sequence[tuple[Mutant, list[str]]], redis: str, jobs: int
) -> Iterator[tuple[Mutant, Session]]:
    orders = {
        mutant.name: (mutant, order(mutant, colour, tests, redis, base.limit_s(tests)))
        for mutant, tests in wanted
        if tests
    }
    for made, said in session.run([each for _, each in orders.values()], jobs):
        yield orders[made.name][0], said


def order(mutant: Mutant, colour: str, tests: Sequence[str], redis: str, limit_s: float) -> Order:
    """The run that is to kill a mutant, whose program is written now."""
    folder = copied(colour, f"{mutant.name}-{colour}")
    edited = folder / "jobqueue" / mutant.file
    edited.write_bytes(mutant.edit.apply(edited.read_bytes()))
    options = ("-x", f"--redis={redis}")
    return Order(mutant.name, folder / "impl.toml", tuple(tests), options, limit_s)


def verdict(mutant: Mutant, colour: str, said: Session) -> Verdict:
    """What one run says of a mutant."""
    failed = _failed(said)
    if failed is not None and failed.how in DEATHS:
        by = f"{colour}: {failed.test}"
        return Verdict(mutant, DEATHS[failed.how], by, said.took_s, failed.test)
    if failed is not None:
        why = (failed.message.splitlines() or [failed.how])[0]
        return Verdict(mutant, "unknown", f"{colour}: {failed.test}: {why}", said.took_s)
    if said.problem is not None:
        return Verdict(mutant, "unknown", f"{colour}: {said.problem}", said.took_s)
    return Verdict(mutant, "survived", f"{len(said.ended)} tests of {colour}", said.took_s)


def _failed(said: Session) -> Ended | None:
    return next((end for end in said.ended if end.how not in FINE), None)
