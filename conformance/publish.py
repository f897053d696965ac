"""Builds the site: the matrix of all runs, the page of each, and the protocol with what stands behind it.

    python conformance/publish.py                     build/site, from the reports under build/reports
    python conformance/publish.py --since OLD         and what differs from an older site

`make conformance` and `.ci/run` leave the reports there. Every link is checked; status 1: one leads nowhere.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

CONFORMANCE = Path(__file__).parent
sys.path[:0] = [str(CONFORMANCE), str(CONFORMANCE.parent / "python")]

from jobqueue_conformance.reports import links, protocol, site, templates
from jobqueue_conformance.spec import data
from proof import evidence, matrix, session
from proof.session import ROOT, Order, SuiteTest

REPORTS = ROOT / "build" / "reports"
SITE = ROOT / "build" / "site"
PROTOCOL = "protocol.html"


def main() -> int:
    """Build it, check it, and name its first page."""
    parser = argparse.ArgumentParser(description="Build the site.")
    parser.add_argument("--reports", type=Path, default=REPORTS)
    parser.add_argument("--to", type=Path, default=SITE)
    parser.add_argument("--since", type=Path)
    options = parser.parse_args()
    try:
        reports = site.read([options.reports])
        index = site.merged(reports, site.earlier(options.since))
    except site.Unusable as error:
        print(error, file=sys.stderr)
        return 2
    shutil.rmtree(options.to, ignore_errors=True)
    first = site.write(options.to, reports, index, protocol=PROTOCOL)
    write_protocol(options.to)
    broken = [*links.broken(options.to)]
    print("\n".join([*broken, f"page: {first}"]))
    return 1 if broken else 0


def write_protocol(folder: Path) -> None:
    """Write the protocol's page, and next to it the data that its text links to."""
    spec = data.folder("spec")
    for path in [*spec.glob("*.json"), *spec.glob("requirements/*.json")]:
        copy = folder / path.relative_to(spec)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    behind = evidence.gathered(_suite(), matrix.read())
    templates.write(folder / PROTOCOL, protocol.page(behind, home="index.html"))


def _suite() -> list[SuiteTest]:
    """The tests of the suite, as they apply to a program that declares everything."""
    manifest = ROOT / "build" / "proof" / matrix.BASE / "impl.toml"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(matrix.manifest(), encoding="utf-8")
    collected = session.collect(Order(matrix.BASE, manifest))
    if collected.problem is not None:
        raise SystemExit(f"the suite can't be collected: {collected.problem}")
    return collected.tests


if __name__ == "__main__":
    sys.exit(main())
