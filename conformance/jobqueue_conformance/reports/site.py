"""One site of many reports: a matrix of implementations, Redis servers and pairs, each cell of which leads to its run.

`merged` and `changes` are pure: reports in, the form of `schemas/site.schema.json` out. `write` makes the folder:
index.html and index.json, for each run its page, its report and its badge.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jobqueue_conformance.reports import page, templates
from jobqueue_conformance.reports.files import PAGE
from jobqueue_conformance.reports.report import RED, VERSION, badge
from jobqueue_conformance.reports.templates import anchor, environment
from jobqueue_conformance.spec import data

REPORT = "report.json"
INDEX = "index.json"
SIGNS = {"pass": "✓", "fail": "✕", "set-up-error": "!", "stale-known-failure": "!"}
NOTHING = {"not-applicable", "untested", "not-run"}
COLOURS = {"brightgreen": "#17693a", "red": "#b3181f", "yellow": "#7a5200"}


class Unusable(Exception):
    """A folder that was named holds no report that this kit can read; one sentence says why."""


def read(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """The reports in these folders and in those below them."""
    found = []
    for folder in folders:
        paths = sorted(folder.rglob(REPORT))
        if not paths:
            raise Unusable(f"{folder} holds no {REPORT}: write one by --report={folder}")
        found += [_report(path) for path in paths]
    return found


def earlier(folder: Path | None) -> dict[str, Any] | None:
    """The index of an older site; None where none is named."""
    if folder is None:
        return None
    if not (folder / INDEX).is_file():
        raise Unusable(f"{folder} holds no {INDEX}: it isn't a site that this command wrote")
    index: dict[str, Any] = data.load(folder / INDEX)
    data.validator("site").validate(index)
    return index


def merged(
    reports: Iterable[Mapping[str, Any]], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The index of the site; of two reports on the same subjects and Redis, the later counts.

    Args:
        reports: what the runs found.
        before: the index of an older site, to which the runs are compared.
    """
    latest = {_key(each): each for each in sorted(reports, key=lambda each: str(each["date"]))}
    runs = [_run(each) for _, each in sorted(latest.items())]
    index: dict[str, Any] = {
        "version": 1,
        "date": max((each["date"] for each in runs), default=None),
        "runs": runs,
        "changes": [] if before is None else changes(before["runs"], runs),
    }
    if before is not None:
        index["since"] = before["date"]
    data.validator("site").validate(index)
    return index


def changes(
    older: Iterable[Mapping[str, Any]], runs: Iterable[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Every verdict that isn't what it was, newly red ones first, of the runs and requirements that both sets have."""
    before = {each["id"]: each["verdicts"] for each in older}
    found = [
        {"run": run["id"], "requirement": requirement, "was": was, "is": verdict}
        for run in runs
        for requirement, verdict in run["verdicts"].items()
        if (was := before.get(run["id"], {}).get(requirement, verdict)) != verdict
    ]
    return sorted(found, key=lambda each: not _newly_red(each))


def write(
    folder: Path,
    reports: Sequence[Mapping[str, Any]],
    index: Mapping[str, Any],
    protocol: str | None = None,
) -> Path:
    """Write the site of an index into the folder, and return its first page.

    Args:
        folder: where to.
        reports: what the runs found, all of them.
        index: what `merged` made of it.
        protocol: the address of the protocol's page, where the site has one.
    """
    latest = {_slug(each): each for each in sorted(reports, key=lambda each: str(each["date"]))}
    for run in index["runs"]:
        report = latest[run["id"]]
        place = folder / "runs" / run["id"]
        place.mkdir(parents=True, exist_ok=True)
        _write_json(place / REPORT, report)
        _write_json(place / "badge.json", badge(report))
        (place / "badge.svg").write_text(svg(badge(report)), "utf-8")
        templates.write(place / PAGE, page.render(report, home="../../index.html"))
    _write_json(folder / INDEX, index)
    templates.write(folder / PAGE, render(index, protocol))
    return folder / PAGE


def render(index: Mapping[str, Any], protocol: str | None = None) -> str:
    """The first page of the site.

    Args:
        index: what `merged` returned.
        protocol: the address of the protocol's page, where the site has one.
    """
    runs = index["runs"]
    whole = [each for each in runs if each["server"] == each["client"] or not _is_pair(each)]
    pairs = [each for each in runs if _is_pair(each)]
    template = environment().get_template("site.html.j2")
    return template.render(
        index=index,
        runs={each["id"]: each for each in runs},
        by_redis=_table(whole, "name", "redis"),
        by_client=_table(pairs, "server", "client"),
        sections=_sections(runs),
        newly_red=[each for each in index["changes"] if _newly_red(each)],
        other_changes=[each for each in index["changes"] if not _newly_red(each)],
        red=RED,
        signs=SIGNS,
        nothing=NOTHING,
        protocol=protocol,
    )


def svg(made: Mapping[str, Any]) -> str:
    """A badge as a picture, which needs no service."""
    template = environment().get_template("badge.svg.j2")
    widths = [len(made[each]) * 6.6 + 12 for each in ("label", "message")]
    return template.render(badge=made, widths=widths, colour=COLOURS[made["color"]])


def _report(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = data.load(path)
    if report.get("version") != VERSION:
        raise Unusable(f"{path} isn't a report of this kit: run the suite again with --report")
    data.validator("report").validate(report)
    return report


def _key(report: Mapping[str, Any]) -> tuple[str, ...]:
    redis = report["redis"]
    return report["implementation"]["name"], redis["server"], redis["version"], redis["origin"]


def _slug(report: Mapping[str, Any]) -> str:
    return anchor(" ".join(_key(report))).removeprefix("test-")


def _run(report: Mapping[str, Any]) -> dict[str, Any]:
    redis = report["redis"]
    made = badge(report)
    place = f"runs/{_slug(report)}"
    return {
        "id": _slug(report),
        "name": report["implementation"]["name"],
        "version": report["implementation"].get("version"),
        "server": report["implementation"]["server"],
        "client": report["implementation"]["client"],
        "redis": f"{redis['server']} {redis['version']} ({redis['origin']})",
        "spec": report["spec"],
        "kit": report["kit"],
        "date": report["date"],
        "page": f"{place}/{PAGE}",
        "badge": f"{place}/badge.svg",
        "headline": made["message"],
        "color": made["color"],
        "verdicts": {each["id"]: each["verdict"] for each in report["requirements"]},
    }


def _newly_red(change: Mapping[str, str]) -> bool:
    return change["is"] in RED and change["was"] not in RED


def _is_pair(run: Mapping[str, Any]) -> bool:
    return None not in {run["server"], run["client"]} and run["server"] != run["client"]


def _table(runs: Sequence[Mapping[str, Any]], row: str, column: str) -> dict[str, Any]:
    """The runs as cells of a table."""
    columns = sorted({each[column] for each in runs})
    rows = sorted({each[row] for each in runs})
    cells = {(each[row], each[column]): each for each in runs}
    return {
        "columns": columns,
        "rows": [(name, [cells.get((name, each)) for each in columns]) for name in rows],
    }


def _sections(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The requirements that any run has, in the order of the protocol, with the verdict of each run."""
    known = data.requirements()
    ids = [*known, *(each for run in runs for each in run["verdicts"] if each not in known)]
    rows = [
        {
            "id": each,
            "section": known[each].section if each in known else "Not in this version",
            "text": known[each].text if each in known else "",
            "verdicts": [(run, run["verdicts"].get(each, "untested")) for run in runs],
        }
        for each in dict.fromkeys(ids)
    ]
    return [
        {"title": title, "rows": [*members]}
        for title, members in groupby(rows, key=lambda each: str(each["section"]))
    ]


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    path.write_text(f"{text}\n", "utf-8", "backslashreplace")
