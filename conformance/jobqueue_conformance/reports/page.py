"""The page of one run: `index.html`, one file that works offline.

Pure but for the kit's own files: a report in the form of its schema in, HTML out. A test is described once, at the
requirement that it broke or else at its first; elsewhere the page links there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from jobqueue_conformance.reports import diagram, protocol
from jobqueue_conformance.reports.report import FAILED, RED, VERDICTS, badge
from jobqueue_conformance.reports.templates import anchor, environment

IN_TEXT = "protocol."  # the anchors of the protocol's text begin with it


def render(report: Mapping[str, Any], home: str | None = None) -> str:
    """The whole page.

    Args:
        report: what the run found.
        home: the address of the site that the page is part of.
    """
    homes = {each["id"]: each.get("broken") or each["requirements"][0] for each in report["tests"]}
    tests = {each["id"]: _test(each) for each in report["tests"]}
    requirements = [_requirement(each, tests, homes) for each in report["requirements"]]
    sections = [
        {
            "title": title,
            "anchor": IN_TEXT + protocol.section_anchor(title),
            "requirements": [*members],
        }
        for title, members in groupby(requirements, key=lambda each: each["section"])
    ]
    return (
        environment()
        .get_template("run.html.j2")
        .render(
            report=report,
            home=home,
            badge=badge(report),
            sections=sections,
            failed=[each for each in requirements if each["verdict"] in RED],
            totals={each: report["totals"][each] for each in VERDICTS if report["totals"][each]},
            classes=_values(requirements, "class"),
            features=_values(requirements, "feature"),
            ran=Counter(each["verdict"] for each in report["tests"] if each["duration_ms"]),
            protocol=protocol.rendered(IN_TEXT, embedded=True),
            in_text=IN_TEXT,
        )
    )


def _requirement(
    requirement: Mapping[str, Any], tests: Mapping[str, Any], homes: Mapping[str, str]
) -> dict[str, Any]:
    """A requirement with its tests, those that failed first."""
    listed = [
        {**tests[each["id"]], "said": each, "at_home": homes[each["id"]] == requirement["id"]}
        for each in requirement["tests"]
    ]
    listed.sort(key=lambda each: VERDICTS.index(each["said"]["verdict"]))
    blamed = [each for each in listed if each["said"]["verdict"] in FAILED]
    return {**requirement, "tests": listed, "blamed": blamed}


def _test(test: Mapping[str, Any]) -> dict[str, Any]:
    """A test as the template shows it."""
    file, _, name = test["id"].rpartition("::")
    shown = {**test, "anchor": anchor(test["id"]), "file": file.partition("tests/")[2] or file}
    shown |= {"name": name, "failed": test["verdict"] in FAILED, "diagram": None}
    if "exchange" in test:
        shown["diagram"] = diagram.drawn(test["exchange"], test.get("fault", ""))
    return shown


def _values(requirements: Iterable[Mapping[str, Any]], member: str) -> list[str]:
    return sorted({each[member] for each in requirements if each[member]})
