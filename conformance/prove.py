"""Proves the kit: gates, kill matrix, panels, model. Run it from anywhere; it takes minutes.

    python conformance/prove.py                        everything, as CI does
    python conformance/prove.py --only matrix          one part of it: gates, pages, matrix, panels, model
    python conformance/prove.py --only server-id-as-number    one mutant or panel member, by its label
    python conformance/prove.py --discover             find out which tests kill mutants that name none
    python conformance/prove.py --weaken               remove one assertion at a time: does anything fail then?
    python conformance/prove.py --acknowledge          the tests fit the requirements as they are worded now
    python conformance/prove.py --only pages --write   write KILLS.md, DIMENSIONS.md and VERSIONS.md again

Each program gets its manifest under build/proof/, next to the log of its last run, so that any of
them can be put under test by hand: `pytest conformance --impl=build/proof/server-id-as-number`.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

CONFORMANCE = Path(__file__).parent
sys.path[:0] = [str(CONFORMANCE), str(CONFORMANCE.parent / "python")]

from jobqueue_conformance.redis_servers import choice
from jobqueue_conformance.spec import data
from proof import (
    dimensions,
    evidence,
    gates,
    matrix,
    pace,
    page,
    panel,
    repository,
    session,
    versions,
    weaken,
)
from proof.progress import Proof
from proof.session import ROOT, Order, Session, SuiteTest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proof.matrix import Mutant

KILLS = CONFORMANCE / "KILLS.md"
DIMENSIONS = CONFORMANCE / "DIMENSIONS.md"
VERSIONS = CONFORMANCE / "VERSIONS.md"


def main() -> int:
    """Run what the command line asks for, and exit with 0 if nothing is wrong."""
    options = _parser().parse_args()
    proof = Proof(options, choice.program())
    tests = _collected(proof)
    if options.acknowledge:
        repository.acknowledge({each for test in tests for each in test.requirements})
        return 0
    if options.weaken:
        weaken.prove(proof, tests)
        return proof.conclude()
    if options.discover:
        return _discover(proof, tests)
    if proof.wants("pages"):
        _prove_pages(proof, tests)
    base = _prove_programs(proof, tests)
    if proof.wants("gates"):
        _prove_gates(proof, tests, base)
    if proof.wants("model"):
        _prove_model(proof)
    return proof.conclude()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", metavar="PART|GLOB", help="a part, or labels of members"
    )
    parser.add_argument("--jobs", type=int, default=8, help="runs at a time (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="the outcome as JSON on stdout")
    parser.add_argument(
        "--write", action="store_true", help="write the pages instead of comparing them"
    )
    parser.add_argument("--discover", action="store_true", help="find the tests that kill a mutant")
    parser.add_argument(
        "--weaken",
        action="append",
        nargs="?",
        const="*",
        metavar="GLOB",
        help="assertions, as in test_server_stop.py:*",
    )
    parser.add_argument("--acknowledge", action="store_true", help="the tests fit the spec's text")
    return parser


def _collected(proof: Proof) -> list[SuiteTest]:
    order = proof.order(matrix.BASE, matrix.manifest(), ())
    collected = session.collect(order)
    if collected.problem is not None:
        raise SystemExit(f"the suite can't be collected: {collected.problem}")
    return collected.tests


def _spread(proof: Proof, label: str, manifest: str, tests: list[SuiteTest]) -> list[Order]:
    """Runs of whole files of tests, which can be made at the same time."""
    return [
        replace(
            proof.order(label, manifest, (file,), limit_s=400.0),
            name=f"{label}-{file.removesuffix('.py')}",
        )
        for file in sorted({test.file for test in tests})
    ]


def _prove_programs(proof: Proof, tests: list[SuiteTest]) -> dict[str, Session]:
    """Run the mutants, their base and the panels, mixed: some compute while others wait.

    Returns:
        What the base said, file by file.
    """
    mutants = {each.label: each for each in matrix.read()}
    members = {each.label: each for each in panel.read()}
    base: dict[str, Session] = {}
    of_members: dict[str, Session] = {}

    def judged(order: Order, said: Session) -> list[str]:
        mutant = mutants.get(order.manifest.parent.name)
        return matrix.judge_base(said) if mutant is None else matrix.judge(mutant, said)

    orders = [*_matrix_orders(proof, tests, mutants), *_panel_orders(proof, tests, members)]
    for order, said in _again_if_hurried(proof, _mixed(orders), set(members), judged):
        label = order.manifest.parent.name
        if label in members:
            whole = of_members.setdefault(label, Session())
            whole.ended += said.ended
            if "NO_TESTS" not in (said.problem or ""):  # no test of this file applies to it
                whole.problem = whole.problem or said.problem
        else:
            proof.report("matrix", order.name, judged(order, said))
            if label not in mutants:
                base[order.name] = said
    for label, said in of_members.items():
        proof.report("panels", label, panel.judge(members[label], said))
    return base


def _again_if_hurried(
    proof: Proof,
    orders: list[Order],
    members: set[str],
    judged: Callable[[Order, Session], list[str]],
) -> Iterator[tuple[Order, Session]]:
    """Make the runs; what goes wrong with shortened waits, many at a time, is made once more by itself.

    A wait that is shortened and doesn't follow the load says nothing of the suite, which shortens none.
    """
    again: list[Order] = []
    for order, said in proof.run("programs", orders):
        hurried = order.before is not None and order.manifest.parent.name not in members
        if hurried and judged(order, said):
            again.append(order)
        else:
            yield order, said
    if again:
        yield from proof.run("once more, one at a time", again, processes=1)


def _mixed(orders: list[Order]) -> list[Order]:
    """The same order every time; runs that were requested one after the other are kept apart."""
    return sorted(orders, key=lambda order: zlib.crc32(order.name.encode()))


def _matrix_orders(proof: Proof, tests: list[SuiteTest], mutants: dict[str, Mutant]) -> list[Order]:
    """Each mutant against the tests that it names, and the base against all of those."""
    chosen = [each for each in mutants.values() if proof.chooses("matrix", each.label)]
    whole = proof.wants("matrix") or proof.wants("gates")
    if proof.wants("matrix"):
        proof.report("matrix", "mutants.toml", matrix.complaints(chosen, data.requirements()))
    named = {test for each in chosen for test in each.tests}
    orders = [
        proof.order(each.label, matrix.manifest(each), each.tests, limit_s=90.0)
        for each in chosen
        if each.tests
    ]
    needed = [test for test in tests if whole or test.id in named]
    base = _spread(proof, matrix.BASE, matrix.manifest(), needed)
    if not orders:
        return base  # for the gates, which only ask what it reads: there is no mutant to keep pace with
    return [replace(order, before=pace.shorten_waits) for order in (*orders, *base)]


def _panel_orders(
    proof: Proof, tests: list[SuiteTest], members: dict[str, panel.Member]
) -> list[Order]:
    """The whole suite against each member of the panels."""
    return [
        replace(order, before=pace.barely_wait if member.panel == "null" else None)
        for label, member in members.items()
        if proof.chooses("panels", label)
        for order in _spread(proof, label, member.manifest(), [*filter(member.faces, tests)])
    ]


def _prove_pages(proof: Proof, tests: list[SuiteTest]) -> None:
    """The pages are what the tables and the marks of the tests say."""
    walk = dimensions.render(dimensions.read(), data.requirements(), tests)
    for path, fresh in (
        (KILLS, page.render(matrix.read())),
        (DIMENSIONS, walk),
        (VERSIONS, versions.render(versions.read(VERSIONS.with_name("versions.json")))),
    ):
        stale = page.refresh(path, fresh, write=proof.options.write)
        proof.report("pages", path.name, stale)


def _prove_gates(proof: Proof, tests: list[SuiteTest], base: dict[str, Session]) -> None:
    requirements = data.requirements()
    read = {each for said in base.values() for each in said.fixtures_read}
    suite, code = repository.suite(), repository.code()
    enforced = evidence.lines(repository.sources(evidence.REFERENCE))
    for name, complaints in {
        "requirement without test": gates.requirements_without_test(requirements, tests),
        "requirement without line": gates.requirements_without_line(requirements, enforced),
        "test without requirement": gates.tests_without_requirement(requirements, tests),
        "dimension": dimensions.complaints(dimensions.read(), requirements, tests),
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


def _discover(proof: Proof, tests: list[SuiteTest]) -> int:
    """Fill in the tests of the mutants that are asked for, or of those that lack some."""
    mutants = {each.label: each for each in matrix.read()}
    there = {test.id for test in tests}
    for label, each in mutants.items():
        renamed = not there.issuperset(each.tests)
        chosen = proof.chooses("none", label) if proof.options.only else renamed
        if each.equivalent is None and chosen:
            mutants[label] = replace(each, killed_by=(), clean=())
    for choose in (matrix.candidates, matrix.others):
        orders = [
            proof.order(
                each.label,
                matrix.manifest(each),
                choose(each, [test for test in tests if each.program in test.programs]),
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


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
