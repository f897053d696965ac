"""Proves the kit: gates, kill matrix, panels, model. Run it from anywhere; it takes minutes.

    python conformance/prove.py                        everything, as CI does
    python conformance/prove.py --only matrix          one part of it: gates, matrix, panels, model
    python conformance/prove.py --only server-id-as-number    one mutant or panel member, by its label
    python conformance/prove.py --discover             find out which tests kill mutants that name none
    python conformance/prove.py --acknowledge          the tests fit the requirements as they are worded now
    python conformance/prove.py --write                write KILLS.md anew

Each program gets its manifest under build/proof/, beside the log of its last run, so that any of
them can be put under test by hand: `pytest conformance --impl=build/proof/server-id-as-number`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

CONFORMANCE = Path(__file__).parent
sys.path[:0] = [str(CONFORMANCE), str(CONFORMANCE.parent / "python")]

from jobqueue_conformance import data, redis_server  # noqa: E402 - after the path to it
from proof import gates, matrix, page, panel, repository, session  # noqa: E402
from proof.session import ROOT, Order, Session, SuiteTest  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

Tests: TypeAlias = dict[str, list[SuiteTest]]  # by program

BUILD = ROOT / "build" / "proof"
KILLS = CONFORMANCE / "KILLS.md"
VAIN_S = 1.0
SHOWN = 20
PARTS = ("gates", "matrix", "panels", "model")


@dataclass
class Proof:
    """What the command line asks for, and what has been found so far."""

    options: argparse.Namespace
    redis: str
    started: float = field(default_factory=time.monotonic)
    found: dict[str, list[str]] = field(default_factory=dict)

    def wants(self, part: str) -> bool:
        """Whether this part is asked for, as a whole or for one of its members."""
        return not self.options.only or part in self.options.only

    def chooses(self, part: str, label: str) -> bool:
        """Whether this member of a part is asked for."""
        return self.wants(part) or any(fnmatchcase(label, each) for each in self.options.only)

    def say(self, text: str) -> None:
        """Show progress, where nobody reads the standard output by program."""
        stream = sys.stderr if self.options.json else sys.stdout
        print(f"[{time.monotonic() - self.started:4.0f} s] {text}", file=stream, flush=True)

    def report(self, part: str, label: str, complaints: list[str]) -> None:
        """Note what is wrong with one member, or that nothing is."""
        self.found.setdefault(part, [])
        for complaint in complaints:
            self.found[part].append(f"{label}: {complaint}")
        for complaint in complaints[:SHOWN]:
            self.say(f"FAIL {label}: {complaint}")

    def order(
        self, label: str, manifest: str, tests: tuple[str, ...], limit_s: float = 120.0
    ) -> Order:
        """A run against a program whose manifest is written now."""
        folder = BUILD / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "impl.toml").write_text(manifest, encoding="utf-8")
        return Order(label, folder / "impl.toml", tests, (f"--redis={self.redis}",), limit_s)

    def run(self, part: str, orders: list[Order]) -> Iterator[tuple[Order, Session]]:
        """Make the runs, with a line for every tenth of them."""
        for number, ended in enumerate(session.run(orders, self.options.jobs), 1):
            yield ended
            if number * 10 // len(orders) > (number - 1) * 10 // len(orders):
                self.say(f"{part}: {number} of {len(orders)} runs")


def main() -> int:
    """Run what the command line asks for, and exit with 0 where nothing is wrong."""
    options = _parser().parse_args()
    proof = Proof(options, redis_server.choose("auto", "redis:8", lambda _: None))
    tests = {program: _collected(proof, program) for program in matrix.FEATURES}
    if options.acknowledge:
        repository.acknowledge({each for test in _all(tests) for each in test.requirements})
        return 0
    if options.discover:
        return _discover(proof, tests)
    base = _prove_matrix(proof, tests)
    _prove_panels(proof, tests)
    if proof.wants("gates"):
        _prove_gates(proof, _all(tests), base)
    if proof.wants("model"):
        _prove_model(proof)
    return _conclude(proof)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", metavar="PART|GLOB", help="a part, or labels of members"
    )
    parser.add_argument("--jobs", type=int, default=5, help="runs at a time (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="the outcome as JSON on stdout")
    parser.add_argument(
        "--write", action="store_true", help="write KILLS.md instead of comparing it"
    )
    parser.add_argument("--discover", action="store_true", help="find the tests that kill a mutant")
    parser.add_argument("--acknowledge", action="store_true", help="the tests fit the spec's text")
    return parser


def _collected(proof: Proof, program: str) -> list[SuiteTest]:
    order = proof.order(f"{program}-base", matrix.manifest(program, matrix.BASE), ())
    collected = session.collect(order)
    if collected.problem is not None:
        raise SystemExit(f"the suite can't be collected: {collected.problem}")
    return collected.tests


def _all(tests: Tests) -> list[SuiteTest]:
    return [test for listed in tests.values() for test in listed]


def _spread(proof: Proof, label: str, manifest: str, tests: list[SuiteTest]) -> list[Order]:
    """Runs of whole files of tests, which can be made at the same time."""
    return [
        replace(
            proof.order(label, manifest, (file,), limit_s=400.0),
            name=f"{label}-{file.removesuffix('.py')}",
        )
        for file in sorted({test.file for test in tests})
    ]


def _prove_matrix(proof: Proof, tests: Tests) -> dict[str, Session]:
    """Run each mutant against the tests that it names, and the base against all of those."""
    mutants = matrix.read()
    chosen = [each for each in mutants if proof.chooses("matrix", each.label)]
    whole = proof.wants("matrix") or proof.wants("gates")
    if proof.wants("matrix"):
        proof.report("matrix", "mutants.toml", matrix.complaints(mutants, data.requirements()))
        proof.report("matrix", "KILLS.md", page.refresh(KILLS, mutants, write=proof.options.write))
    by_name = {each.label: each for each in chosen if each.tests}
    named = {(each.program, test) for each in chosen for test in each.tests}
    bases = []
    for program, listed in tests.items():
        needed = [test for test in listed if whole or (program, test.id) in named]
        text = matrix.manifest(program, matrix.BASE)
        bases += _spread(proof, f"{program}-{matrix.BASE}", text, needed)
    orders = [
        proof.order(label, matrix.manifest(each.program, each.name), each.tests, limit_s=90.0)
        for label, each in by_name.items()
    ]
    ended = {}
    for order, said in proof.run("the kill matrix", bases + orders):
        if order.name in by_name:
            proof.report("matrix", order.name, matrix.judge(by_name[order.name], said))
        else:
            ended[order.name] = said
            proof.report("matrix", order.name, matrix.judge_base(said))
    return ended


def _prove_panels(proof: Proof, tests: Tests) -> None:
    """Run the whole suite against each member of the panels."""
    members = {each.label: each for each in panel.read() if proof.chooses("panels", each.label)}
    said: dict[str, Session] = {}
    orders = [
        order
        for label, member in members.items()
        for program in member.programs
        for order in _spread(proof, label, member.manifest(), tests[program])
    ]
    # What does nothing is waited for in vain, by every test.
    orders = [
        replace(order, deadline_s=VAIN_S) if order.name.startswith("null-") else order
        for order in orders
    ]
    for order, part in proof.run("the panels", orders):
        whole = said.setdefault(order.manifest.parent.name, Session())
        whole.ended += part.ended
        whole.problem = whole.problem or part.problem
    for label, member in members.items():
        proof.report("panels", label, panel.judge(member, said[label]))


def _prove_gates(proof: Proof, tests: list[SuiteTest], base: dict[str, Session]) -> None:
    requirements = data.requirements()
    read = {each for said in base.values() for each in said.fixtures_read}
    suite, code = repository.suite(), repository.code()
    for name, complaints in {
        "requirement without test": gates.requirements_without_test(requirements, tests),
        "test without requirement": gates.tests_without_requirement(requirements, tests),
        "docstring": gates.docstrings(tests),
        "acknowledgement": gates.unacknowledged(
            repository.hashes(), repository.acknowledged(), tests
        ),
        "unread fixture": gates.unread_fixtures(repository.fixtures(), read),
        "sleep": gates.sleeps(suite),
        "error code": gates.unregistered_codes(repository.programs(), repository.error_codes()),
        "unknown id": gates.unknown_ids(code, requirements),
    }.items():
        listed = list(complaints)
        proof.say(f"gate: {name}")
        proof.report("gates", name, listed)


def _prove_model(proof: Proof) -> None:
    proof.say("the model")
    done = subprocess.run(
        [sys.executable, str(ROOT / "spec" / "model" / "check.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    proof.report("model", "spec/model/check.py", [done.stdout] if done.returncode else [])


def _discover(proof: Proof, tests: Tests) -> int:
    """Fill in the tests of the mutants that are asked for, or of those that lack some."""
    mutants = {each.label: each for each in matrix.read()}
    there = {program: {test.id for test in listed} for program, listed in tests.items()}
    for label, each in mutants.items():
        renamed = not there[each.program].issuperset(each.tests)
        asked = proof.options.only and proof.chooses("none", label)
        if each.equivalent is None and (renamed or asked):
            mutants[label] = replace(each, killed_by=(), clean=())
    for choose in (matrix.candidates, matrix.others):
        orders = [
            proof.order(
                each.label,
                matrix.manifest(each.program, each.name),
                choose(each, tests[each.program]),
                limit_s=240.0,
            )
            for each in mutants.values()
            if each.equivalent is None and not (each.killed_by and each.clean)
        ]
        for order, said in proof.run("discovery", orders):
            found = mutants[order.name] = matrix.discovered(mutants[order.name], said)
            matrix.write(mutants.values())
            proof.say(
                f"{order.name}: {', '.join(found.killed_by) or 'survives'} {said.problem or ''}"
            )
    return 0


def _conclude(proof: Proof) -> int:
    wrong = sum(len(complaints) for complaints in proof.found.values())
    took_s = time.monotonic() - proof.started
    if proof.options.json:
        json.dump({"parts": proof.found, "took_s": round(took_s, 1)}, sys.stdout, indent=2)
    for part, complaints in proof.found.items():
        proof.say(f"{part}: {f'{len(complaints)} wrong' if complaints else 'all right'}")
        for complaint in complaints[:SHOWN]:
            proof.say(f"  {complaint}")
        if complaints[SHOWN:]:
            proof.say(f"  and {len(complaints) - SHOWN} more")
    return 1 if wrong or not proof.found else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
