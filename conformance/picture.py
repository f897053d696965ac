"""Takes the pictures that the documents show: the matrix of the last run, and the page of a program that is wrong.

    python conformance/picture.py            take them again
    python conformance/picture.py --check    status 1 where they don't show the last run

`make site` has built the matrix. The wrong program is a mutant that removes a job before it publishes the result; its
run is made here. `pictures.json` keeps what the pictures show: names, headlines and verdicts, without times.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONFORMANCE = Path(__file__).parent
sys.path[:0] = [str(CONFORMANCE), str(CONFORMANCE.parent / "python")]

from jobqueue_conformance.reports import site
from page_tests.browser import WIDE, launched, visited
from proof import matrix
from proof.session import ROOT, located

PICTURES = CONFORMANCE / "pictures"
SHOWN = PICTURES / "pictures.json"
SITE = ROOT / "build" / "site"
WRONG = ROOT / "build" / "wrong"
MUTANT = "server-remove-before-publish"


def main() -> int:
    """Take the pictures, or say which of them are stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    index = site.earlier(SITE)
    if index is None or not index["runs"]:
        raise SystemExit("build/site shows no run: make site")
    requirement = run_wrong_program()
    shown = {"matrix": facts(index), "run": facts(site.merged(site.read([WRONG])))}
    if options.check:
        kept = json.loads(SHOWN.read_text("utf-8"))
        stale = [name for name in shown if kept.get(name) != shown[name]]
        for name in stale:
            print(f"{name}.png is stale: make site-picture")
        return 1 if stale else 0
    PICTURES.mkdir(exist_ok=True)
    take(requirement)
    SHOWN.write_text(json.dumps(shown, indent=2) + "\n", "utf-8")
    print(f"pictures: {PICTURES.relative_to(ROOT)}")
    return 0


def facts(index: dict[str, Any]) -> dict[str, list[str]]:
    """What a picture shows, without what differs from run to run."""
    found = {}
    for run in index["runs"]:
        verdicts = json.dumps(run["verdicts"], sort_keys=True).encode()
        digest = hashlib.sha256(verdicts).hexdigest()[:16]
        found[f"{run['name']} on {run['redis']}"] = [run["headline"], digest]
    return found


def run_wrong_program() -> str:
    """Run the first test that kills the mutant, and return the requirement that it breaks."""
    [mutant] = (each for each in matrix.read() if each.label == MUTANT)
    WRONG.mkdir(parents=True, exist_ok=True)
    (WRONG / "impl.toml").write_text(matrix.manifest(mutant), encoding="utf-8")
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", located(mutant.killed_by[0]), "-n0"),
            *("--impl=build/wrong", "--redis=embedded", "--report=build/wrong"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 1:
        raise SystemExit(f"{MUTANT} isn't found wrong: {ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return mutant.requirement


def take(requirement: str) -> None:
    """Photograph both pages."""
    with launched() as browser:
        with visited(browser, SITE / "index.html", size=WIDE) as visit:
            visit.page.screenshot(path=PICTURES / "matrix.png")
        wrong = WRONG / "index.html"
        with visited(browser, wrong, f"#{requirement}", size=(1280, 1000)) as visit:
            visit.page.mouse.move(0, 0)
            visit.page.screenshot(path=PICTURES / "run.png")


if __name__ == "__main__":
    sys.exit(main())
