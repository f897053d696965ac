"""The gates: what a change can't do silently to the spec, the suite and what they share.

Each gate is a pure function from what stands in the repository to sentences, one for each thing
that is wrong; `repository.py` reads what they judge.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from jobqueue_conformance.spec.data import Requirement

    from proof.session import SuiteTest

# A docstring states a fact: not what should be, what was, or what the test does.
NOT_PRESENT = re.compile(
    r"\b(?:should|shall|must|will|would|ought)\b|^(?:tests?|checks?|verif(?:y|ies))\b"
    r"|^(?:the|a) (?:client|server) (?:was|were|did|had|\w+ed)\b",
    re.IGNORECASE,
)
REQUIREMENT_ID = re.compile(
    r"(?<![\w.@/-])(?:client|server)\.[a-z][a-z-]*\.[a-z][a-z-]*(?![\w.(/-])"
)
ERROR_CODE = re.compile(
    r"""["']?\bcode["']?\s*(?:[:=]|==)\s*["']([a-z][a-z0-9-]*)["']  # {"code": "…"}, code = "…"
    |\b(?:JobError|ErrorCode|failure|failed|fault|fail|error)\(\s*["']([a-z][a-z0-9]*(?:-[a-z0-9]+)+)["']""",
    re.VERBOSE,
)


def requirements_without_test(
    requirements: Mapping[str, Requirement], tests: Iterable[SuiteTest]
) -> Iterator[str]:
    """A requirement without a test, or one that is said to be untestable and is tested."""
    tested = {each for test in tests for each in test.requirements}
    for requirement in requirements.values():
        if requirement.untested is None and requirement.id not in tested:
            yield f"{requirement.id}: no test names this requirement"
        if requirement.untested is not None and requirement.id in tested:
            yield f"{requirement.id}: the spec says that it isn't tested, and it is"


def requirements_without_line(
    requirements: Mapping[str, Requirement], named: Collection[str]
) -> Iterator[str]:
    """A MUST or MUST NOT that no comment of the reference names where it enforces it."""
    for requirement in requirements.values():
        if requirement.keyword.startswith("MUST") and requirement.id not in named:
            yield f"{requirement.id}: no line of the reference says that it enforces this"


def tests_without_requirement(
    requirements: Mapping[str, Requirement], tests: Iterable[SuiteTest]
) -> Iterator[str]:
    """A test that proves nothing that the spec says."""
    for test in tests:
        if not test.requirements:
            yield f"{test.id}: names no requirement"
        for each in test.requirements:
            if each not in requirements:
                yield f"{test.id}: names {each}, which the spec doesn't have"


def docstrings(tests: Iterable[SuiteTest]) -> Iterator[str]:
    """A docstring that isn't a sentence in the present tense."""
    for name, text in sorted({(test.id.partition("[")[0], test.docstring) for test in tests}):
        sentence = text.strip()
        if not sentence or not sentence[0].isupper() or not sentence.endswith("."):
            yield f"{name}: its docstring is not a sentence"
        elif found := NOT_PRESENT.search(sentence):
            yield f"{name}: '{found[0]}' in its docstring isn't the present tense of what is shown"


def unacknowledged(
    hashes: Mapping[str, str], acknowledged: Mapping[str, str], tests: Iterable[SuiteTest]
) -> Iterator[str]:
    """A requirement that was reworded since its tests were last compared with it."""
    tested = {each for test in tests for each in test.requirements}
    for requirement, digest in hashes.items():
        if requirement in tested and acknowledged.get(requirement) != digest:
            known = requirement in acknowledged
            what = "was reworded" if known else "is new"
            yield f"{requirement}: {what}; compare its tests with it, then prove.py --acknowledge"
    for requirement in acknowledged.keys() - (hashes.keys() & tested):
        yield f"{requirement}: is acknowledged, and has no tests or isn't in the spec"


def unread_fixtures(fixtures: Iterable[str], read: Collection[str]) -> Iterator[str]:
    """A vector whose content no test read."""
    for fixture in fixtures:
        if fixture not in read:
            yield f"{fixture}: no test reads this vector"


def sleeps(sources: Mapping[str, str]) -> Iterator[str]:
    """A test that waits for time to pass instead of for something to happen."""
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call):
                called = node.func
                word = (
                    called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                )
                if word == "sleep":
                    yield f"{name}:{node.lineno}: a test sleeps"


def unregistered_codes(sources: Mapping[str, str], registry: Collection[str]) -> Iterator[str]:
    """An error code without a dot that the registry doesn't have."""
    for name, source in sources.items():
        for number, line in enumerate(source.splitlines(), 1):
            for found in ERROR_CODE.finditer(line):
                code = found[1] or found[2]
                if code not in registry:
                    yield f"{name}:{number}: the registry has no error code '{code}'"


def unknown_ids(sources: Mapping[str, str], requirements: Collection[str]) -> Iterator[str]:
    """A requirement's id that the spec doesn't have."""
    for name, source in sources.items():
        for number, line in enumerate(source.splitlines(), 1):
            for found in REQUIREMENT_ID.finditer(_said(name, line)):
                if found[0] not in requirements:
                    yield f"{name}:{number}: the spec has no {found[0]}"


def _said(name: str, line: str) -> str:
    """The comment and the strings of a line of code."""
    if name.endswith((".json", ".toml", ".md")):
        return line
    said = re.findall(r'"[^"]*"|\'[^\']*\'|`[^`]*`|(?:#|//).*$', line)
    return "\n".join(said)
