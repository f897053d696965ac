"""One run of the suite: which tests apply, and the verdict of each.

The records come together in the process that reports, wherever the tests ran; `records` is what a report is made of.
"""

from collections.abc import Generator, Iterator
from dataclasses import asdict
from typing import Any

import pytest

from jobqueue_conformance import data, prepare, redis_server, transcript
from jobqueue_conformance.peer import Peer
from jobqueue_conformance.subjects import SUBJECTS, Subjects
from jobqueue_conformance.tap import Tap
from jobqueue_conformance.verdicts import Record, judge

SHOWN = 60  # passages of the transcript


class Run:
    """The kit's part in one pytest session, or in one of its xdist workers."""

    def __init__(self, config: pytest.Config) -> None:
        """Prepare everything, or raise a usage error of one sentence."""
        self.config = config
        self.subjects: Subjects = prepare.subjects(config)
        self.records: list[Record] = []
        self.collected: list[str] = []
        self.redis_version = ""
        self.smoke_failed = False
        config.stash[SUBJECTS] = self.subjects
        self.reports = not hasattr(config, "workerinput")
        if self.reports:
            prepare.redis(config)
            for implementation in self.subjects.implementations:
                prepare.setup(implementation)
            self.smoke_failed = not prepare.smoke(config)
            if self.smoke_failed:
                config.args[:] = [str(prepare.SMOKE)]

    def pytest_report_header(self) -> list[str]:
        """Say what is under test, and on what."""
        lines = []
        for role in ("server", "client"):
            implementation = getattr(self.subjects, role)
            if implementation is not None:
                features = ", ".join(sorted(implementation.features)) or "no features"
                lines.append(f"{role} under test: {implementation.label} ({features})")
        options = self.config.option
        lines.append(f"redis: {redis_server.describe(options.redis, options.redis_image)}")
        if self.smoke_failed:
            lines.append("the smoke test failed, so nothing else is run")
        return lines

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests that apply to what is under test, the smoke test first."""
        kept, left_out = [], []
        for item in items:
            ids = requirements_of(item)
            for each in ids:
                if each not in data.requirements():
                    raise pytest.UsageError(f"{item.nodeid}: the spec has no {each}")
            (kept if self.subjects.apply(ids) else left_out).append(item)
        kept.sort(key=lambda item: item.path != prepare.SMOKE)
        items[:] = kept
        self.collected = [item.nodeid for item in kept]
        self.records += [
            Record(each.nodeid, requirements_of(each), "not applicable") for each in left_out
        ]
        if left_out:
            self.config.hook.pytest_deselected(items=left_out)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn what happened into a verdict, and show what is needed to understand it."""
        report = yield
        error = call.excinfo.value if call.excinfo is not None else None
        if report.when != "call" and error is None:
            return report
        ids = requirements_of(item)
        known = self.subjects.known_failure(ids, item.name)
        record = judge(
            item.nodeid, ids, error, known, strict=self.config.getini("strict"), took_s=call.duration
        )
        report.user_properties = [
            *(("requirement", each) for each in ids),
            ("verdict", record.verdict),
            ("record", asdict(record)),
        ]
        if record.verdict in {"known failure", "warning"}:
            report.outcome = "skipped"
            report.wasxfail = record.reason
        if report.failed:
            report.sections += _sections(item)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the verdict where the report is made."""
        if self.reports:
            said = dict(report.user_properties).get("record")
            if isinstance(said, dict):
                self.records.append(Record(**said))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand over what only this process knows."""
        if not self.reports:
            session.config.workeroutput["jobqueue"] = {  # type: ignore[attr-defined]
                "collected": self.collected,
                "left_out": [asdict(each) for each in self.records],
            }
            return
        ran = any(each.verdict in {"pass", "fail", "warning", "known failure"} for each in self.records)
        if not ran and session.exitstatus == pytest.ExitCode.OK and not session.config.option.collectonly:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a process that ran tests knows, once."""
        handed = getattr(node, "workeroutput", {}).get("jobqueue")
        if handed is not None and not self.collected:
            self.collected = handed["collected"]
            self.records += [Record(**each) for each in handed["left_out"]]


def requirements_of(item: pytest.Item) -> tuple[str, ...]:
    """The ids that a test is marked with."""
    return tuple(each for marker in item.iter_markers("requirement") for each in marker.args)


def _sections(item: pytest.Item) -> Iterator[tuple[str, str]]:
    """The transcript, what the processes wrote, and the command that repeats the test."""
    given: dict[str, Any] = getattr(item, "funcargs", {})
    if isinstance(tap := given.get("tap"), Tap):
        passed = transcript.lines(tap.passages)
        cut = [f"… {len(passed) - SHOWN} earlier lines"] if len(passed) > SHOWN else []
        yield "transcript", "\n".join(cut + passed[-SHOWN:])
    if isinstance(peer := given.get("peer"), Peer):
        for process in [*peer.servers, *peer.clients]:
            if written := process.stdout + process.stderr:
                yield f"output of the {process.name}", written
    options = " ".join(prepare.subject_options(item.config))
    yield "replay", f"pytest '{item.nodeid}' {options} --redis={item.config.option.redis}"
