"""The files of `--report`: the data, the page, a summary in Markdown, a badge; pytest writes junit.xml next to them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from jobqueue_conformance.reports import page, templates
from jobqueue_conformance.reports.report import RED, badge, table
from jobqueue_conformance.spec import data

PAGE = "index.html"


def write(folder: Path, report: Mapping[str, Any]) -> None:
    """Write them into the folder."""
    data.validator("report").validate(report)
    folder.mkdir(parents=True, exist_ok=True)
    # A lone surrogate, as programs can write it, becomes JSON's own escape.
    (folder / "report.json").write_text(
        json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8", "backslashreplace"
    )
    templates.write(folder / PAGE, page.render(report))
    (folder / "badge.json").write_text(json.dumps(badge(report)) + "\n", "utf-8")
    (folder / "summary.md").write_text(markdown(report), "utf-8", "backslashreplace")


def markdown(report: Mapping[str, Any]) -> str:
    """The report for the page of a CI run."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # noqa: S701 - Markdown, made only from this run's own words
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    verdicts, rows = table(report)
    return environment.get_template("summary.md.j2").render(
        report=report,
        tests={each["id"]: each for each in report["tests"]},
        badge=badge(report),
        verdicts=verdicts,
        rows=rows,
        red=RED,
    )
