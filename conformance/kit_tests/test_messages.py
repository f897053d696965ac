"""Jobs and results as bytes: what a peer may write, and when two values are the same."""

from typing import Any

import pytest
from jobqueue_conformance.spec import messages
from jobqueue_conformance.spec.messages import MalformedMessage

JOB = b'{"method": "echo", "parameters": [1], "channel": "c", "id": "1"}'


@pytest.mark.parametrize(
    "message, fault",
    [
        (b"\xff", "not valid UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"{", "not valid JSON"),
        (b'{"id": "1", "result": NaN}', "NaN"),
        (b'{"id": "1", "result": -Infinity}', "Infinity"),
        (b'{"id": 1, "result": 1}', "schema of a result"),
        (b'{"id": "1"}', "schema of a result"),
        (b'{"id": "1", "error": {"code": "x"}}', "schema of a result"),
        (b"[" * 5000, "not valid JSON"),
    ],
)
def test_what_is_not_a_result_says_why(message: bytes, fault: str) -> None:
    """A message that isn't strictly a result is refused with its fault."""
    with pytest.raises(MalformedMessage, match=fault):
        messages.read_result(message)


@pytest.mark.parametrize(
    "message, fault",
    [
        (b'{"method": "echo", "channel": "c"}', "schema of a job"),
        (b'{"method": "", "channel": "c", "id": "1"}', "schema of a job"),
        (b'{"method": "a", "method": "a", "channel": "c", "id": "1"}', "twice"),
        (b'{"method": "a", "channel": "c", "id": "1", "parameters": {"x": 1, "x": 2}}', "twice"),
    ],
)
def test_what_is_no_job_says_why(message: bytes, fault: str) -> None:
    """A message that isn't a job of the portable set is refused with its fault."""
    with pytest.raises(MalformedMessage, match=fault):
        messages.read_job(message)


def test_a_job_is_read() -> None:
    """A job keeps its bytes, and says what a server has to know."""
    job = messages.read_job(JOB)

    assert (job.message, job.id, job.channel, job.method) == (JOB, "1", "c", "echo")
    assert job.parameters == [1]


@pytest.mark.parametrize(
    "one, other",
    [(1, 1.0), ([1, {"a": 0}], [1.0, {"a": 0.0}]), (None, None), ("a", "a"), (True, True)],
)
def test_equal_values(one: Any, other: Any) -> None:
    """Numbers are equal by value, however they are spelled."""
    assert messages.equal(one, other)


@pytest.mark.parametrize(
    "one, other",
    [
        (1, True),
        (0, False),
        (None, False),
        ("1", 1),
        ([], {}),
        ([1], [1, 2]),
        ({"a": 1}, {"b": 1}),
        ([True], [1]),
        ("", None),
    ],
)
def test_different_values(one: Any, other: Any) -> None:
    """Values of different kinds are different, at any depth."""
    assert not messages.equal(one, other)
    assert not messages.equal(other, one)
