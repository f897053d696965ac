"""The verdict of a test on an implementation, and the message of a failure.

Pure: sentences and exceptions; the plugin puts them into pytest's reports.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import pytest

from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.manifest import MANIFEST, KnownFailure

LONGEST = 2000  # characters of what a failure shows


class Unmet(AssertionError):
    """What a test expected isn't there; which requirement is broken by that, only a Failure says."""

    def __init__(self, said: str, *, expected: str, got: str) -> None:
        self.expected = expected
        self.got = got
        super().__init__(said)


class Failure(Unmet):
    """The implementation broke one requirement; the message is complete but for the transcript."""

    def __init__(self, requirement: str, expected: str, got: str) -> None:
        self.requirement = requirement
        super().__init__(_in_three_lines([requirement], expected, got), expected=expected, got=got)


class Unsupported(pytest.skip.Exception):  # type: ignore[name-defined,misc] # made at run time
    """The test can't be run here, and says why; it is counted, and never green."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"unsupported: {reason}")


def fail(requirement: str, *, expected: str, got: Any) -> NoReturn:
    """Say that the requirement is broken."""
    __tracebackhide__ = True
    said = got if isinstance(got, str) else repr(got)
    raise Failure(requirement, expected, said if len(said) <= LONGEST else f"{said[:LONGEST]} …")


def require(condition: object, requirement: str, *, expected: str, got: Any) -> None:
    """Say that the requirement is broken unless the condition holds."""
    __tracebackhide__ = True
    if not condition:
        fail(requirement, expected=expected, got=got)


def _in_three_lines(requirements: Sequence[str], expected: str, got: str) -> str:
    first, *others = requirements
    said = f"one of {', '.join(requirements)} isn't met" if others else _sentence(first)
    return f"{said}\n  expected: {expected}\n  got:      {got}"


def _sentence(requirement: str) -> str:
    return f"{requirement}: {data.requirements()[requirement].text}"


def explained(error: BaseException, requirements: Sequence[str]) -> str:
    """What a failure says of a test that is marked with these requirements."""
    if isinstance(error, Unmet) and not isinstance(error, Failure) and requirements:
        return _in_three_lines(requirements, error.expected, error.got)
    return str(error)


@dataclass(frozen=True)
class Record:
    """What one test said; `broken` is the requirement that its failed assertion names.

    `about_test` is the test's own docstring, and `evidence` what a report shows of a failure, in the form of its
    schema.
    """

    test: str
    requirements: tuple[str, ...]
    verdict: str
    reason: str = ""
    duration_s: float = 0.0
    replay: str = ""
    broken: str | None = None
    about_test: str = ""
    evidence: Mapping[str, Any] | None = None

    @property
    def about(self) -> dict[str, str]:
        """Its verdict on each requirement: the test ended before it could decide about others than the broken one."""
        if self.broken is None:
            return dict.fromkeys(self.requirements, self.verdict)
        return {**dict.fromkeys(self.requirements, "undecided"), self.broken: self.verdict}


def judge(
    test: str,
    requirements: tuple[str, ...],
    error: BaseException | None,
    known: str | None,
    *,
    strict: bool,
    took_s: float = 0.0,
    replay: str = "",
) -> Record:
    """The verdict of one test.

    Args:
        test: its node id.
        requirements: what it is marked with.
        error: how it ended; None when it passed.
        known: why it is expected to fail, where it is.
        strict: whether failing a SHOULD fails.
        took_s: how long it took.
        replay: the command that runs it again.
    """
    broken = error.requirement if isinstance(error, Failure) else None
    blamed = (broken,) if broken else requirements
    advice = bool(blamed) and not any(data.requirements()[each].binds for each in blamed)
    reason = "" if error is None else explained(error, requirements)
    if error is None:
        verdict = "pass"
    elif isinstance(error, pytest.skip.Exception):
        verdict, reason = "unsupported", reason.removeprefix("unsupported: ")
    elif not isinstance(error, AssertionError):
        verdict = "set-up-error"
    elif known is not None:
        verdict, reason = "known-failure", known
    elif advice and not strict:
        verdict = "warning"
    else:
        verdict = "fail"
    return Record(test, requirements, verdict, reason, took_s, replay, broken)


def stale(
    known: KnownFailure,
    collected: Mapping[str, tuple[str, ...]],
    records: Iterable[Record],
    *,
    whole: bool = True,
) -> list[Record]:
    """What is wrong with an entry of the manifest: a listed test passed, or no such test exists.

    Args:
        known: the entry.
        collected: the requirements of every test that applies, by the test's id.
        records: what was said; an entry is judged only where all of its tests have run.
        whole: whether these are all tests of the suite; else others may be the ones that are listed.
    """
    listed = {test for test, ids in collected.items() if known.covers(ids, test)}
    said = [each for each in records if each.test in listed]
    about = f"the manifest lists {known.requirement} as a known failure"
    if not listed and not whole:
        return []
    if not listed:
        reason = f"{about} of tests that don't exist: {', '.join(known.tests)}"
        return [Record(MANIFEST, (known.requirement,), "stale-known-failure", reason)]
    if {each.test for each in said} != listed:
        return []
    return [
        replace(
            each,
            verdict="stale-known-failure",
            reason=f"{about}, but this test passes: take it off the list",
        )
        for each in said
        if each.verdict == "pass"
    ]
