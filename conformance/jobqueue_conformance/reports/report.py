"""What a run found.

Pure: the records of the tests become one verdict for each requirement of the spec, in the form of
`schemas/report.schema.json`; a badge and a table are made of that form.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from jobqueue_conformance.programs.subjects import Subjects
from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.verdicts import Record

VERSION = 2  # of the form
# The first of these that one of its tests got is the verdict of a requirement.
VERDICTS = (
    "set-up-error",
    "fail",
    "stale-known-failure",
    "known-failure",
    "unsupported",
    "warning",
    "undecided",
    "not-run",
    "pass",
    "not-applicable",
    "untested",
)
RED = {"set-up-error", "fail", "stale-known-failure"}
FAILED = RED | {"warning", "known-failure"}  # what shows why


def summarise(
    records: Iterable[Record],
    subjects: Subjects,
    *,
    redis: str,
    origin: str,
    kit: str,
    began: datetime,
    now: datetime,
) -> dict[str, Any]:
    """The report of one run.

    Args:
        records: what each test said.
        subjects: what was under test.
        redis: the name and the version of the server that the tests ran on.
        origin: where that server came from.
        kit: the version of the kit.
        began: when the run started, in UTC.
        now: when it ended.
    """
    records = [*records]
    tests: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        for each in record.about:
            tests[each].append(record)
    requirements = [
        _requirement(requirement, tests[requirement.id], subjects)
        for requirement in data.requirements().values()
    ]
    server, _, version = (redis or "redis").partition(" ")
    counts = Counter(each["verdict"] for each in requirements)
    names = [each.name for each in subjects.implementations]
    versions = [each.version for each in subjects.implementations if each.version]
    return {
        "version": VERSION,
        "spec": data.SPEC,
        "kit": kit,
        "date": began.astimezone(UTC).isoformat(timespec="seconds"),
        "duration_ms": round((now - began).total_seconds() * 1000),
        "implementation": {
            "name": " and ".join(names),
            "version": " and ".join(versions) or None,
            "server": subjects.server.name if subjects.server else None,
            "client": subjects.client.name if subjects.client else None,
        },
        "redis": {"server": server, "version": version or "unknown", "origin": origin},
        "totals": {verdict: counts[verdict] for verdict in VERDICTS},
        "requirements": requirements,
        "tests": _tests(records),
    }


def _requirement(
    requirement: data.Requirement, records: list[Record], subjects: Subjects
) -> dict[str, Any]:
    said: dict[str, Any] = {
        "id": requirement.id,
        "keyword": requirement.keyword,
        "class": requirement.conformance_class,
        "feature": requirement.feature,
        "section": requirement.section,
        "text": requirement.text,
        "why": requirement.why,
        "tests": [_said(each, requirement.id) for each in records],
    }
    verdicts = [each["verdict"] for each in said["tests"]]
    said["verdict"] = min(verdicts, key=VERDICTS.index, default="untested")
    if not subjects.apply([requirement.id]) and not RED & set(verdicts):
        said["verdict"] = "not-applicable"
    elif requirement.untested and not records:
        said["reason"] = requirement.untested
    return said


def _said(record: Record, requirement: str) -> dict[str, Any]:
    """What a test says about one of its requirements."""
    said: dict[str, Any] = {"id": record.test, "verdict": record.about[requirement]}
    if said["verdict"] == "undecided":
        said["message"] = f"the test ended at {record.broken}"
    elif record.reason:
        said["message"] = record.reason
    return said


def _tests(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Each test once, by the worst that it said: one that passed can still fail when it cleans up."""
    said: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        said[record.test].append(record)
    tests = []
    for of_test in said.values():
        worst = min(of_test, key=lambda each: VERDICTS.index(each.verdict))
        about = dict.fromkeys(id_ for each in of_test for id_ in each.requirements)
        tests.append(_test(replace(worst, requirements=tuple(about))))
    return tests


def _test(record: Record) -> dict[str, Any]:
    named = {"broken": record.broken, "message": record.reason, "replay": record.replay}
    return {
        "id": record.test,
        "about": record.about_test,
        "verdict": record.verdict,
        "duration_ms": round(record.duration_s * 1000, 1),
        "requirements": list(record.requirements),
        **{name: said for name, said in named.items() if said},
        **(record.evidence or {}),
    }


def badge(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report as an endpoint badge of shields.io."""
    totals = report["totals"]
    tested = sum(totals[each] for each in VERDICTS if each not in {"not-applicable", "untested"})
    red = sum(totals[each] for each in RED)
    if red:
        message, color = f"{red} of {tested} fail", "red"
    elif tested == totals["pass"] > 0:
        message, color = f"{tested} of {tested}", "brightgreen"
    else:
        message, color = f"{totals['pass']} of {tested}", "yellow"
    return {
        "schemaVersion": 1,
        "label": f"JobQueue {report['spec']}",
        "message": message,
        "color": color,
        "isError": bool(red),
    }


def table(report: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """The verdicts that occur, and for each class and feature how many requirements got each."""
    verdicts = [each for each in VERDICTS[::-1] if report["totals"][each]]
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for each in report["requirements"]:
        rows[each["class"] + (f" · {each['feature']}" if each["feature"] else "")][
            each["verdict"]
        ] += 1
    return verdicts, [(name, [counts[each] for each in verdicts]) for name, counts in rows.items()]
