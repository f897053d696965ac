"""What is going on, in the terminal: a line for each file whose tests have all ended, and how many tests are left.

It stands in for pytest's dots, which don't say what they are about once several processes run tests; with `-v` or
`-q` pytest shows what it always does.
"""

from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from typing import Any

import pytest


class Progress:
    """Counts the tests that have ended, in the process that reports."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._left: Counter[str] = Counter()
        self._all: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what this process will run."""
        self._expect(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Note what the processes will run: each has collected the same."""
        self._expect(ids)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
        """Leave out the letter of a single test."""
        category, letter, word = yield
        return (category, "", "") if self._shown else (category, letter, word)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test that has ended, and say so where it was the last of its file."""
        file = _file(report.nodeid)
        self._failed[file] += report.failed
        if report.when != "teardown":
            return
        self._left[file] -= 1
        if self._left[file] == 0 and self._shown:
            failed = f", {self._failed[file]} failed" if self._failed[file] else ""
            left = self._left.total()
            terminal = self._config.pluginmanager.getplugin("terminalreporter")
            terminal.write_line(
                f"{file.partition('tests/')[2] or file}: {self._all[file]} run{failed}; {left} left",
                red=bool(failed),
            )

    @property
    def _shown(self) -> bool:
        return self._config.get_verbosity() == 0

    def _expect(self, ids: Iterable[str]) -> None:
        self._all = Counter(map(_file, ids)) or self._all
        self._left = self._all.copy()


def _file(test: str) -> str:
    return test.partition("::")[0]
