"""The error tree and the registry of codes."""

import json
from pathlib import Path

import pytest
from jobqueue import errors

REGISTRY = Path(__file__).parents[2] / "spec" / "errors.json"
SENTENCE = "something was lost"


def test_the_registry_is_the_specs() -> None:
    """Every code of spec/errors.json is known, with where it occurs and what it leaves open."""
    listed = json.loads(REGISTRY.read_text("utf-8"))["errors"]

    expected = {each["code"]: (each["where"], each["may_have_run"]) for each in listed}
    known = {code: (each.where, each.may_have_run) for code, each in errors.REGISTRY.items()}
    assert known == expected


@pytest.mark.parametrize(
    "code,may_be_published",
    [
        ("handler-error", True),
        ("method-not-found", True),
        ("billing.card-declined", True),
        (".", True),
        ("timeout", False),
        ("not-queued", False),
        ("card-declined", False),
        ("", False),
    ],
)
def test_a_code_without_a_dot_belongs_to_the_registry(code: str, may_be_published: bool) -> None:
    """server.result.code: only codes of the registry for the wire go without a dot."""
    assert errors.publishable(code) is may_be_published


@pytest.mark.parametrize("error", [errors.JobTimeout, errors.ConnectionLost, errors.NotQueued])
def test_a_client_error_carries_its_code(error: type[errors.JobQueueError]) -> None:
    """What a client settles by itself carries a code that the registry has for clients."""
    code = error(SENTENCE).code  # type: ignore[attr-defined]

    assert errors.REGISTRY[code].where == "client"
    assert str(error(SENTENCE)) == SENTENCE


def test_errors_are_what_python_calls_them() -> None:
    """A timeout is a TimeoutError and a bad message a ValueError, under one base."""
    assert issubclass(errors.JobTimeout, TimeoutError)
    assert issubclass(errors.InvalidMessage, ValueError)
    for error in (errors.JobError, errors.JobTimeout, errors.InvalidMessage, errors.ProcessorInUse):
        assert issubclass(error, errors.JobQueueError)


def test_errors_say_what_they_are_about() -> None:
    """A job's error shows its code, an invalid message its path."""
    job_error = errors.JobError("billing.card-declined", "no funds", {"left": 0})

    assert str(job_error) == "billing.card-declined: no funds"
    assert (job_error.code, job_error.message, job_error.data) == job_error.args
    assert (
        str(errors.InvalidMessage("$.error.code", "must be a string"))
        == "$.error.code must be a string"
    )
