"""One run of the suite: which tests apply, and the verdict of each.

The records come together in the process that reports, wherever the tests ran; `records` is what a report is made of.
"""

from collections.abc import Generator
from dataclasses import asdict, replace
from typing import Any

import pytest

from jobqueue_conformance.programs.subjects import REDIS_VERSION, SUBJECTS, WANTED_REDIS, Subjects
from jobqueue_conformance.redis_servers import choice
from jobqueue_conformance.running import evidence, prepare
from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.verdicts import Record, Unmet, Unsupported, judge, stale

RAN = {"pass", "fail", "warning", "known-failure", "stale-known-failure"}


class Run:
    """The kit's part in one pytest session, or in one of its xdist workers."""

    def __init__(self, config: pytest.Config) -> None:
        """Prepare everything, or raise a usage error of one sentence."""
        self.config = config
        self.subjects: Subjects = prepare.subjects(config)
        self.records: list[Record] = []
        self.collected: dict[str, tuple[str, ...]] = {}
        self.chosen: list[str] = []
        self.smoke_failed = False
        self.cannot_run = ""
        config.stash[SUBJECTS] = self.subjects
        config.stash[WANTED_REDIS] = config.option.redis
        self.reports = not hasattr(config, "workerinput")
        if self.reports:
            prepare.redis(config)
            missing = map(prepare.setup, self.subjects.implementations)
            self.cannot_run = "; ".join(filter(None, missing))
            self.smoke_failed = not (self.cannot_run or prepare.smoke(config))
            if self.cannot_run or self.smoke_failed:
                config.args[:] = [str(prepare.SMOKE)]
                config.option.dist, config.option.tx = "no", []  # one process is enough for that
        else:
            # A process that runs tests parses the command line again, and knows nothing else.
            known = config.workerinput["jobqueue"]  # type: ignore[attr-defined]
            config.option.redis, config.args[:] = known

    @property
    def redis(self) -> str:
        """The name and the version of the server that the tests ran on; empty before any has."""
        return self.config.stash.get(REDIS_VERSION, "")

    def pytest_report_header(self) -> list[str]:
        """The lines that name what is under test, and on which Redis."""
        lines = []
        for role in ("server", "client"):
            implementation = getattr(self.subjects, role)
            if implementation is not None:
                features = ", ".join(sorted(implementation.features)) or "no features"
                lines.append(f"{role} under test: {implementation.label} ({features})")
        options = self.config.option
        lines.append(f"redis: {choice.describe(options.redis, options.redis_image)}")
        if self.cannot_run:
            lines.append(f"unsupported here: {self.cannot_run}")
        if self.smoke_failed:
            lines.append("the smoke test failed, so nothing else is run")
        return lines

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests that apply to what is under test, the smoke test first."""
        kept: list[pytest.Item] = []
        left_out: list[pytest.Item] = []
        for item in items:
            ids = requirements_of(item)
            for each in ids:
                if each not in data.requirements():
                    raise pytest.UsageError(f"{item.nodeid}: the spec has no {each}")
            item.extra_keyword_matches.update(ids)  # -k server.remove
            (kept if self._applies(item) else left_out).append(item)
        if not self.reports:  # one of several processes
            kept.sort(key=waits_s, reverse=True)
        kept.sort(key=lambda item: item.path != prepare.SMOKE)
        items[:] = kept
        self.collected = {item.nodeid: requirements_of(item) for item in kept}
        self.records += [
            Record(
                each.nodeid,
                requirements_of(each),
                "not-applicable",
                about_test=evidence.about(each),
            )
            for each in left_out
        ]
        if left_out:
            self.config.hook.pytest_deselected(items=left_out)

    def _applies(self, item: pytest.Item) -> bool:
        """Whether what is under test has promised what the test asks for."""
        mark = item.get_closest_marker("all_serve")
        return self.subjects.apply(requirements_of(item)) and (
            mark is None or self.subjects.all_serve(*mark.args)
        )

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what is to be run, once the command line has chosen among what applies."""
        self.chosen = [item.nodeid for item in session.items]

    def pytest_runtest_setup(self) -> None:
        """Mark each test as unsupported where a tool is missing."""
        if self.cannot_run:
            raise Unsupported(self.cannot_run)

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
            item.nodeid,
            ids,
            error,
            known,
            strict=self.config.getini("strict"),
            took_s=call.duration,
            replay=prepare.replay(item),
        )
        hide = evidence.redactor(item)
        shown = error is not None and record.verdict != "unsupported"
        record = replace(
            record,
            about_test=evidence.about(item),
            reason=hide(record.reason),
            replay=hide(record.replay),
            evidence=hide(evidence.of(item, error, report)) if shown else None,
        )
        # junit.xml takes them from the report of the teardown, which is made from the item's.
        item.user_properties += [("requirement", each) for each in ids]
        item.user_properties.append(("verdict", record.verdict))
        report.jobqueue = asdict(record)  # type: ignore[attr-defined]
        if record.verdict in {"known-failure", "warning"}:
            report.outcome = "skipped"
            report.wasxfail = record.reason
        if report.failed:
            said = [(title, hide(text)) for title, text in evidence.sections(item)]
            report.sections += [*said, ("replay", record.replay)]
            if isinstance(error, Unmet):
                # That is complete; a traceback would only help the suite's authors.
                report.longrepr = "\n".join([record.reason, *getattr(error, "__notes__", ())])
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the verdict where the report is made."""
        if self.reports:
            said = getattr(report, "jobqueue", None)
            if said is not None:
                self.records.append(Record(**said))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand over what only this process knows, or set the exit status of the whole run."""
        if not self.reports:
            session.config.workeroutput["jobqueue"] = {  # type: ignore[attr-defined]
                "collected": self.collected,
                "chosen": self.chosen,
                "left_out": [asdict(each) for each in self.records],
                "redis": self.redis,
            }
            return
        whole = prepare.collects_all(session.config)
        stale_ones = [
            each
            for known in self.subjects.known_failures
            for each in stale(known, self.collected, self.records, whole=whole)
        ]
        gone = {each.test for each in stale_ones}
        self.records = [each for each in self.records if each.test not in gone] + stale_ones
        said = {each.verdict for each in self.records}
        if self.config.option.collectonly:
            return
        ended = {each.test for each in self.records}
        self.records += [
            Record(test, self.collected[test], "not-run")
            for test in self.chosen
            if test not in ended
        ]
        if session.exitstatus != pytest.ExitCode.OK:
            return
        if not said & RAN:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        elif stale_ones or ("unsupported" in said and self.config.option.forbid_unsupported):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a process that will run tests what this one has found out."""
        node.workerinput["jobqueue"] = self.config.option.redis, list(self.config.args)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a process that ran tests knows, once."""
        handed = getattr(node, "workeroutput", {}).get("jobqueue")
        if handed is not None and not self.collected:
            self.collected = {test: tuple(ids) for test, ids in handed["collected"].items()}
            self.chosen = handed["chosen"]
            self.records += [Record(**each) for each in handed["left_out"]]
        if handed is not None and handed["redis"]:
            self.config.stash[REDIS_VERSION] = handed["redis"]


def requirements_of(item: pytest.Item) -> tuple[str, ...]:
    """The ids that a test is marked with."""
    return tuple(each for marker in item.iter_markers("requirement") for each in marker.args)


def waits_s(item: pytest.Item | pytest.Collector) -> float:
    """How long a test waits. Whatever comes last keeps all processes but one idle, so the longest is first."""
    mark = item.get_closest_marker("waits")
    return mark.args[0] if mark else 0.0
