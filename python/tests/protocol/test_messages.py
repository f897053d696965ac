"""What the vectors don't say of messages: limits, and what only Python's values can be."""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobqueue.errors import InvalidMessage, JobError
from jobqueue.protocol import messages
from jobqueue.protocol.messages import Answer, Dead, Run

RUN = Run(b"the message", b"c", "1", "echo", None)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=4
        )
    ),
    max_leaves=20,
)


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def nested(depth: int) -> Any:
    """Lists in lists, so many of them."""
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def refusal_of(value: object) -> JobError:
    """Why a handler's value can't be published."""
    with pytest.raises(JobError) as raised:
        messages.succeed(RUN, value)
    return raised.value


def error_of(answer: Answer) -> Any:
    """The error that an answer publishes, with nothing that strict JSON lacks."""
    result = json.loads(
        answer.result, parse_constant=lambda name: pytest.fail(f"{name} is not valid JSON")
    )
    assert result.keys() == {"id", "error"}
    return result["error"]


@given(JSON)
def test_any_portable_value_goes_round(value: Any) -> None:
    """client.job.parameters, server.result.value: hypothesis finds no value that changes."""
    job = messages.decide(messages.encode_job("echo", value, "c", "1"), {"echo"})
    assert isinstance(job, Run)

    assert messages.decode_result(messages.succeed(job, job.parameters).result).value == value


@given(st.binary())
def test_any_bytes_are_decided_and_decoded(junk: bytes) -> None:
    """server.run.goes-on, client.ignore.malformed: no bytes raise anything unexpected."""
    assert messages.decide(junk, {"echo"}).message == junk
    with suppress(InvalidMessage):
        messages.decode_result(junk)


def read(parse: Callable[[bytes], Any], sent: bytes) -> str:
    """What comes of the bytes; `repr` tells 1 from 1.0 and true, and one order from another."""
    try:
        return repr(parse(sent))
    except (ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"


@given(
    JSON | st.floats() | st.integers(),
    st.lists(
        st.tuples(
            st.integers(0, 200),
            st.integers(0, 2),
            st.sampled_from(
                [*(bytes([byte]) for byte in range(256)), b"\\u0000", b"\\ud800", b"1e400", b"01"]
            ),
        ),
        max_size=4,
    ),
)
def test_msgspec_reads_what_the_standard_library_reads(
    value: Any, changes: list[tuple[int, int, bytes]]
) -> None:
    """server.run.parameters, client.settle.value: whatever the bytes are, both come to the same."""
    sent = json.dumps(value, ensure_ascii=False).encode()
    for place, removed, added in changes:
        at = place % (len(sent) + 1)
        sent = sent[:at] + added + sent[at + removed :]

    assert read(messages.fastest_parser(), sent) == read(messages.parse_by_json, sent)


def test_nobody_needs_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the standard library reads."""
    assert messages.fastest_parser() is not messages.parse_by_json
    monkeypatch.setitem(sys.modules, "msgspec", None)
    assert messages.fastest_parser() is messages.parse_by_json


@pytest.mark.parametrize(
    "junk",
    [
        b'{"id": "1", "channel": "c", "method": "echo", "parameters": ' + b"[" * 100_000,
        b'{"id": "1", "channel": "c", "method": "echo", "parameters": ' + b"9" * 5_000 + b"}",
        b'{"id": "1", "channel": "c", "method": "echo", "parameters": 1e999}',
        b'{"id": "1", "channel": "c", "method": "echo", "parameters": NaN}',
        b'{"id": "1", "channel": "\\ud800", "method": "echo"}',
        b'{"id": "\\ud800", "channel": "c", "method": "echo"}',
        b'{"id": "1", "channel": "c", "method": "' + b"x" * messages.LIMIT_BYTES + b'"}',
    ],
    ids=["deep", "digits", "infinite", "nan", "channel", "id", "large"],
)
def test_what_python_alone_can_read_is_dead(junk: bytes) -> None:
    """server.dead.odd-bytes: outside the portable set nothing is run that can't be answered."""
    assert isinstance(messages.decide(junk, {"echo"}), Dead)


@pytest.mark.parametrize(
    "channel,prefixes,runs",
    [
        ("q:results:1", None, True),
        ("q:results:1", ("q:results:",), True),
        ("q:results:1", ("other:", "q:results:"), True),
        ("elsewhere", ("q:results:",), False),
        ("q:results:1", (), False),
    ],
)
def test_a_server_is_confined_to_prefixes(
    channel: str, prefixes: tuple[str, ...] | None, *, runs: bool
) -> None:
    """server.channel-prefix.confined: a job for another channel is dead."""
    decision = messages.decide(messages.encode_job("echo", 1, channel, "1"), {"echo"}, prefixes)

    assert isinstance(decision, Run if runs else Dead)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), "\ud800", {(): 1}])
def test_a_result_that_is_no_json_is_told(value: object) -> None:
    """server.result.not-serializable: the code tells it from a handler that failed."""
    assert refusal_of(value).code == "result-not-serializable"


def test_a_result_that_contains_itself_is_told() -> None:
    """server.result.not-serializable: a cycle has no JSON."""
    cycle: list[Any] = []
    cycle.append(cycle)

    assert refusal_of(cycle).code == "result-not-serializable"


def test_a_large_result_is_told() -> None:
    """server.result.too-large: a result has at most 1 MiB."""
    envelope = len(messages.succeed(RUN, "").result)
    fits = messages.succeed(RUN, "x" * (messages.LIMIT_BYTES - envelope))

    assert len(fits.result) == messages.LIMIT_BYTES
    too_large = refusal_of("x" * (messages.LIMIT_BYTES - envelope + 1))
    assert too_large.code == "result-too-large"


@pytest.mark.parametrize(
    "failure,expected",
    [
        (ValueError("no such user"), {"code": "handler-error", "message": "no such user"}),
        (ValueError(), {"code": "handler-error", "message": "ValueError"}),
        (OddError(), {"code": "handler-error", "message": "OddError"}),
        (SystemExit(3), {"code": "handler-error", "message": "3"}),
        (ValueError("\ud800"), {"code": "handler-error", "message": "\\ud800"}),
        (JobError("a.b", "m"), {"code": "a.b", "message": "m"}),
        (JobError("a.b", "m", {"n": 0}), {"code": "a.b", "message": "m", "data": {"n": 0}}),
        (JobError("invalid-job", "m"), {"code": "invalid-job", "message": "m"}),
        (JobError("unregistered", "m"), {"code": "handler-error", "message": "m"}),
        (JobError("timeout", "m"), {"code": "handler-error", "message": "m"}),
        (JobError("a.b", "m", object()), {"code": "a.b", "message": "m"}),
        (JobError("a.b", 7), {"code": "a.b", "message": "7"}),  # type: ignore[arg-type]
    ],
)
def test_a_failure_is_answered(failure: BaseException, expected: dict[str, Any]) -> None:
    """server.result.error, server.result.code, server.run.handler-error: whatever was raised."""
    assert error_of(messages.fail(RUN, failure)) == expected


def raises(*_: object) -> Any:
    """Be a method that ends the program."""
    raise SystemExit(3)


def interrupted(*_: object) -> Any:
    """Be a method during which Control-C comes."""
    raise KeyboardInterrupt


def hostile(base: type, *given: object, method: Callable[..., Any] = raises, **names: str) -> Any:
    """Make an object of a subclass with a method, or a property, that doesn't return."""
    members: dict[str, Any] = {name: method for name in names if names[name] == "method"}
    members |= {name: property(method) for name in names if names[name] == "property"}
    return type("Hostile", (base,), members)(*given)


class Nameless(type):
    """The type of types whose name can't be read."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        """Raise."""
        raise RuntimeError


class NamelessError(Exception, metaclass=Nameless):
    """An error that can't be described."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: hostile(dict, {"a": 1}, items="method"),
        lambda: [hostile(object, __class__="property")],
    ],
)
def test_a_value_whose_methods_fail_is_told(make: Callable[[], object]) -> None:
    """server.result.not-serializable: whatever they raise."""
    assert refusal_of(make()).code == "result-not-serializable"


@pytest.mark.parametrize(
    "make,code,sentence",
    [
        (lambda: hostile(JobError, "a.b", "m", __str__="method"), "a.b", "m"),
        (lambda: hostile(JobError, "a.b", "m", __class__="property"), "a.b", "m"),
        (
            lambda: hostile(JobError, "a.b", "m", __getattribute__="method"),
            "handler-error",
            "Hostile",
        ),
        (lambda: JobError("a.b", hostile(str, "m", __str__="method")), "a.b", "m"),
        (lambda: JobError("a.b", "m", hostile(dict, {"a": 1}, items="method")), "a.b", "m"),
        (lambda: JobError("a.b", ""), "a.b", "JobError"),
        (lambda: hostile(ValueError, "m", __str__="method"), "handler-error", "Hostile"),
        (lambda: hostile(ValueError, "m", __class__="property"), "handler-error", "m"),
        (lambda: NamelessError(), "handler-error", "something nameless"),  # noqa: PLW0108 - a case is named by its name
    ],
)
def test_a_failure_that_cant_be_read_is_answered(
    make: Callable[[], BaseException], code: str, sentence: str
) -> None:
    """server.run.handler-error, server.run.goes-on: by what can be read, and never without words."""
    assert error_of(messages.fail(RUN, make())) == {"code": code, "message": sentence}


def test_an_interrupt_goes_through() -> None:
    """What isn't the application's to raise isn't taken for its failure."""
    value = hostile(dict, {"a": 1}, items="method", method=interrupted)
    failure = hostile(ValueError, __str__="method", method=interrupted)

    with pytest.raises(KeyboardInterrupt):
        messages.succeed(RUN, value, (KeyboardInterrupt,))
    with pytest.raises(KeyboardInterrupt):
        messages.fail(RUN, failure, (KeyboardInterrupt,))
    assert refusal_of(value).message.endswith("KeyboardInterrupt")
    assert error_of(messages.fail(RUN, failure))["message"] == "Hostile"


def test_a_large_error_is_told() -> None:
    """server.result.too-large: an error has at most 1 MiB, too."""
    answer = messages.fail(RUN, ValueError("x" * messages.LIMIT_BYTES))

    assert error_of(answer)["code"] == "result-too-large"
    assert len(answer.result) < messages.LIMIT_BYTES


@pytest.mark.parametrize(
    "method,parameters,error",
    [
        (7, None, TypeError),
        ("", None, ValueError),
        ("echo", object(), TypeError),
        ("echo", {1, 2}, TypeError),
        ("echo", float("nan"), ValueError),
        ("echo", "\ud800", ValueError),
        ("echo", 2**53, ValueError),
        ("echo", {"a": [-(2**53)]}, ValueError),
        ("echo", nested(33), ValueError),
        ("echo", nested(100_000), ValueError),
        ("echo", "x" * messages.LIMIT_BYTES, ValueError),
    ],
)
def test_a_caller_is_told_of_what_cant_be_pushed(
    method: Any, parameters: object, error: type[Exception]
) -> None:
    """client.job.form, client.job.size: only the portable set is pushed."""
    with pytest.raises(error):
        messages.encode_job(method, parameters, "c", "1")


@pytest.mark.parametrize(
    "parameters",
    [
        2**53 - 1,
        "12345678901234567890",
        nested(32),
        [[] for _ in range(40)],
        (1, [{"a": (2,)}], "9" * 20),
        [1234567890123456.5, True],
    ],
)
def test_what_only_looks_unportable_is_pushed(parameters: Any) -> None:
    """client.job.form: the check looks at values, not at their text."""
    pushed = messages.encode_job("echo", parameters, "c", "1")

    assert json.loads(pushed)["parameters"] == json.loads(json.dumps(parameters))


def test_a_caller_is_told_where_the_number_is() -> None:
    """A number that other languages can't read is named by its path."""
    with pytest.raises(ValueError, match=r"parameters\['a'\]\[1\] is beyond"):
        messages.encode_job("echo", {"a": [0, 2**60]}, "c", "1")


@pytest.mark.parametrize(
    "sent,path",
    [
        (b"[]", "$"),
        (b'{"result": 1}', "$.id"),
        (b'{"id": 1, "result": 1}', "$.id"),
        (b'{"id": "1"}', "$"),
        (b'{"id": "1", "result": 1, "error": {}}', "$"),
        (b'{"id": "1", "error": "broken"}', "$.error"),
        (b'{"id": "1", "error": {"message": "m"}}', "$.error.code"),
        (b'{"id": "1", "error": {"code": "c", "message": null}}', "$.error.message"),
    ],
)
def test_an_invalid_result_is_refused_with_its_path(sent: bytes, path: str) -> None:
    """client.ignore.malformed: the error says what is wrong with the result."""
    with pytest.raises(InvalidMessage) as caught:
        messages.decode_result(sent)

    assert caught.value.path == path


@pytest.mark.parametrize(
    "make", [messages.succeed, lambda job, _: messages.fail(job, ValueError())]
)
def test_an_answer_names_its_job(make: Callable[[Run, object], Answer]) -> None:
    """server.remove.exact-bytes, server.publish.channel: it keeps the bytes and the channel."""
    answer = make(RUN, 1)

    assert (answer.message, answer.channel, answer.id) == (b"the message", b"c", "1")


def test_a_name_that_json_writes_as_text_is_one() -> None:
    """client.job.form: only two names that become equal are refused, not one that becomes a text."""
    job = json.loads(messages.encode_job("echo", {1: "a", "2": "b"}, "channel", "1"))

    assert job["parameters"] == {"1": "a", "2": "b"}
