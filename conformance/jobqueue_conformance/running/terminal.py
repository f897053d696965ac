"""The end of a run: the table in the terminal, what failed, and the files of `--report`."""

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from rich.table import Table

from jobqueue_conformance.reports import files, report
from jobqueue_conformance.running import prepare
from jobqueue_conformance.running.session import Run

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = {
    "pass": "green",
    "undecided": "yellow",
    "warning": "yellow",
    "known-failure": "yellow",
    "unsupported": "yellow",
}
COUNTED = {"pass", "not-applicable", "untested", "not-run"}  # the table says all of it


class Reporter:
    """Reports what a Run has recorded, once, in the process that collects the records."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.began = datetime.now(UTC)
        self.page: Path | None = None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show one table, then each requirement that isn't met and how to see it again."""
        config = self.run.config
        if not self.run.records or config.option.collectonly:
            return
        made = report.summarise(
            self.run.records,
            self.run.subjects,
            redis=self.run.redis,
            origin=prepare.origin(config),
            kit=_version(),
            began=self.began,
            now=datetime.now(UTC),
        )
        terminalreporter.section(f"JobQueue {made['spec']}: {made['implementation']['name']}")
        console = Console(
            file=terminalreporter._tw._file,  # noqa: SLF001 - pytest offers no file of its own
            force_terminal=terminalreporter.hasmarkup,
            no_color=not terminalreporter.hasmarkup,
            width=None if terminalreporter.hasmarkup else 120,
        )
        console.print(_table(made))
        replays = {each["id"]: each.get("replay", each["id"]) for each in made["tests"]}
        for requirement in made["requirements"]:
            for line in _lines(requirement, replays):
                terminalreporter.write_line(line)
        if config.option.report is not None:
            files.write(config.option.report, made)
            self.page = config.option.report / files.PAGE

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Name the page in the last line, behind pytest's own."""
        terminal = config.pluginmanager.getplugin("terminalreporter")
        if self.page is not None and terminal is not None:
            terminal.write_line(f"page: {shlex.quote(str(self.page))}")


def _table(made: Mapping[str, Any]) -> Table:
    verdicts, rows = report.table(made)
    table = Table("requirements")
    for each in verdicts:
        style = "red" if each in report.RED else COLOURS.get(each, "dim")
        table.add_column(each, justify="right", style=style)
    for name, counts in rows:
        table.add_row(name, *(str(count or "") for count in counts))
    return table


def _lines(requirement: Mapping[str, Any], replays: Mapping[str, str]) -> list[str]:
    if requirement["verdict"] in COUNTED:
        return []
    lines = [f"{requirement['verdict']} {requirement['id']}: {requirement['text']}"]
    for test in requirement["tests"]:
        if test["verdict"] == "undecided":
            lines.append(f"    {test['message']}: {test['id']}")
        elif test["verdict"] not in COUNTED:
            said = test.get("message", "").splitlines()
            lines += [
                f"    {each}" for each in said if each.lstrip().startswith(("expected", "got"))
            ]
            lines.append(f"    {replays[test['id']]}")
    return lines


def _version() -> str:
    try:
        return version("jobqueue")
    except PackageNotFoundError:  # a clone that was never installed
        return "unreleased"
