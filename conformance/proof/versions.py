"""The page VERSIONS.md: which implementations passed the suite on which versions of Redis. Pure but for the files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DEPLOYMENTS = "cluster and Sentinel"  # the tests of the reference on several servers

HEADER = """\
# Implementations on versions of Redis

Each cell is a run of the conformance suite with an implementation's own server and client. The last column has the
tests of the Python reference on a cluster of six nodes and on three sentinels of that version. `make matrix` fetches
the servers, and runs what is asked for; this page has the last run of each cell, with its date and the commit that was
tested. Generated from `versions.json` by `python conformance/prove.py --only pages --write`.
"""


@dataclass(frozen=True)
class Run:
    """How the suite ended once, and on which commit of this repository."""

    redis: str
    passed: int
    skipped: int
    failed: int
    took_s: int
    date: str
    commit: str = ""


def read(path: Path) -> dict[str, dict[str, Run]]:
    """The last run of each server and implementation."""
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return {
        server: {name: Run(**run) for name, run in runs.items()} for server, runs in kept.items()
    }


def keep(path: Path, runs: Mapping[str, Mapping[str, Run]]) -> None:
    """Write them for the next time."""
    kept = {server: {name: asdict(run) for name, run in of.items()} for server, of in runs.items()}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def render(runs: Mapping[str, Mapping[str, Run]]) -> str:
    """The whole page."""
    names = sorted({name for of in runs.values() for name in of} - {DEPLOYMENTS})
    rows = [("server", *names, DEPLOYMENTS), ("---",) * (len(names) + 2)]
    for server, of in sorted(runs.items()):
        versions = ", ".join(sorted({run.redis for run in of.values()}))
        cells = [_cell(of.get(name)) for name in (*names, DEPLOYMENTS)]
        rows.append((f"{server} ({versions})", *cells))
    return f"{HEADER}\n{_table(rows)}\n"


def _cell(run: Run | None) -> str:
    if run is None:
        return "not run"
    skipped = f", {run.skipped} skipped" if run.skipped else ""
    failed = f", **{run.failed} failed**" if run.failed else ""
    commit = f", {run.commit}" if run.commit else ""
    return f"{run.passed} passed{skipped}{failed}, {run.date}{commit}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
