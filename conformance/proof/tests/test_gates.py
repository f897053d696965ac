"""Each gate lets a sound repository pass, and names what breaks it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from jobqueue_conformance.spec.data import Requirement

from proof import gates
from proof.session import SuiteTest

CLAIM = Requirement(
    id="server.claim.order",
    keyword="MUST",
    conformance_class="server",
    feature=None,
    text="The server MUST claim jobs in the order in which they were pushed.",
    untested=None,
)
PUBLISH = replace(CLAIM, id="server.publish.once")
BACK_OFF = replace(CLAIM, id="server.connection.back-off", keyword="SHOULD", untested="its own")
SPEC = {each.id: each for each in (CLAIM, PUBLISH, BACK_OFF)}

SOUND = SuiteTest(
    id="test_server.py::test_order",
    requirements=(CLAIM.id, PUBLISH.id),
    docstring="The server claims jobs in the order in which they were pushed.",
    file="test_server.py",
    programs=("server",),
)


def test_every_requirement_is_tested_or_says_why_not() -> None:
    """A requirement without a test is named."""
    assert not list(gates.requirements_without_test(SPEC, [SOUND]))
    (complaint,) = gates.requirements_without_test(SPEC, [replace(SOUND, requirements=(CLAIM.id,))])
    assert complaint.startswith(PUBLISH.id)


def test_what_is_said_to_be_untested_has_no_test() -> None:
    """A requirement that the spec calls untested and a test names is named."""
    both = replace(SOUND, requirements=tuple(SPEC))
    (complaint,) = gates.requirements_without_test(SPEC, [both])
    assert complaint.startswith(BACK_OFF.id)


@pytest.mark.parametrize("keyword", ["MUST", "MUST NOT"])
def test_every_must_is_named_by_a_line_of_the_reference(keyword: str) -> None:
    """A MUST that no line names is named here, and a SHOULD isn't."""
    spec = SPEC | {PUBLISH.id: replace(PUBLISH, keyword=keyword)}

    assert not list(gates.requirements_without_line(spec, {CLAIM.id, PUBLISH.id}))
    (complaint,) = gates.requirements_without_line(spec, {CLAIM.id})
    assert complaint.startswith(PUBLISH.id)


@pytest.mark.parametrize("named", [(), ("server.claim.ordre",)], ids=["none", "misspelt"])
def test_every_test_names_requirements_of_the_spec(named: tuple[str, ...]) -> None:
    """A test that names no requirement, or one that doesn't exist, is named."""
    assert not list(gates.tests_without_requirement(SPEC, [SOUND]))
    (complaint,) = gates.tests_without_requirement(SPEC, [replace(SOUND, requirements=named)])
    assert complaint.startswith(SOUND.id)


@pytest.mark.parametrize(
    "docstring",
    [
        "",
        "the server claims jobs in order.",
        "The server claims jobs in order",
        "The server should claim jobs in order.",
        "The server will claim jobs in order.",
        "The server claimed jobs in order.",
        "Tests the order of claims.",
        "Checks that jobs are claimed in order.",
    ],
)
def test_docstrings_say_what_is_so(docstring: str) -> None:
    """A docstring that is not a sentence in the present tense is named."""
    assert not list(gates.docstrings([SOUND]))
    assert len(list(gates.docstrings([replace(SOUND, docstring=docstring)]))) == 1


def test_the_cases_of_a_test_are_one_docstring() -> None:
    """A parametrized test with a bad docstring is named once."""
    cases = [replace(SOUND, id=f"test_x.py::test_y[{n}]", docstring="Bad") for n in range(3)]
    assert len(list(gates.docstrings(cases))) == 1


@pytest.mark.parametrize(
    "acknowledged",
    [
        {CLAIM.id: "older", PUBLISH.id: "2"},
        {PUBLISH.id: "2"},
        {CLAIM.id: "1", PUBLISH.id: "2", "server.claim.gone": "3"},
    ],
    ids=["reworded", "new", "gone"],
)
def test_a_reworded_requirement_is_compared_with_its_tests(acknowledged: dict[str, str]) -> None:
    """A requirement whose text isn't the one that was acknowledged is named."""
    hashes = {CLAIM.id: "1", PUBLISH.id: "2", BACK_OFF.id: "3"}
    sound = {CLAIM.id: "1", PUBLISH.id: "2"}
    assert not list(gates.unacknowledged(hashes, sound, [SOUND]))
    assert len(list(gates.unacknowledged(hashes, acknowledged, [SOUND]))) == 1


def test_every_vector_is_read() -> None:
    """A vector that no test reads is named."""
    assert not list(gates.unread_fixtures(["jobs/plain"], {"jobs/plain"}))
    (complaint,) = gates.unread_fixtures(["jobs/plain", "jobs/odd"], {"jobs/plain"})
    assert complaint.startswith("jobs/odd")


@pytest.mark.parametrize("call", ["time.sleep(0.1)", "sleep(1)", "await asyncio.sleep(0)"])
def test_no_test_sleeps(call: str) -> None:
    """A call of any sleep in a test is named with its line."""
    source = "async def test_it() -> None:\n    {}\n"
    assert not list(gates.sleeps({"test_x.py": source.format("wait_idle()  # no sleep() here")}))
    assert list(gates.sleeps({"test_x.py": source.format(call)})) == ["test_x.py:2: a test sleeps"]


@pytest.mark.parametrize(
    "line",
    [
        'error = {"code": "handler-eror", "message": ""}',
        "fault code: 'handler-eror'",
        'if error.code == "handler-eror":',
        'raise JobError("handler-eror", "no")',
    ],
)
def test_codes_without_a_dot_are_registered(line: str) -> None:
    """An error code that the registry lacks is named with its line."""
    assert not list(gates.unregistered_codes({"a.py": line}, {"handler-eror"}))
    assert not list(gates.unregistered_codes({"a.py": '{"code": "billing.declined"}'}, set()))
    (complaint,) = gates.unregistered_codes({"a.py": line}, {"handler-error"})
    assert complaint.startswith("a.py:1:")


@pytest.mark.parametrize(
    "name, line",
    [
        ("a.py", "x = 1  # server.claim.ordre"),
        ("a.coffee", "x = 1 # server.claim.ordre"),
        ("a.mjs", "x = 1 // server.claim.ordre"),
        ("a.py", 'require(x, "server.claim.ordre")'),
        ("a.json", '"server.claim.ordre"'),
    ],
)
def test_ids_in_code_are_in_the_spec(name: str, line: str) -> None:
    """A requirement's id in a comment or a string that the spec lacks is named with its line."""
    sound = {name: line.replace("ordre", "order"), "b.py": "server.claim.ordre = 1"}
    assert not list(gates.unknown_ids(sound, SPEC))
    (complaint,) = gates.unknown_ids({name: line}, SPEC)
    assert complaint == f"{name}:1: the spec has no server.claim.ordre"
