"""Decodes and encodes jobs and results.

Stricter than `json` in both directions: UTF-8 only, no NaN, no number beyond a double. Decoding
raises `InvalidMessage` and nothing else, whatever the bytes. Encoding a job raises TypeError or
ValueError if the caller's value has no portable JSON. Encoding a handler's value raises `JobError`,
and encoding that doesn't fail. `decide` is the table of the protocol's section 7.2.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias, TypeVar

from jobqueue.errors import InvalidMessage, JobError, publishable
from jobqueue.protocol.portable import DEPTH_LIMIT, require_portable

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

LIMIT_BYTES = 1_048_576
EXPIRY_BYTES = len(',"expires_at_ms":') + 16  # digits, as many as a double is exact for

T = TypeVar("T")
# Exceptions that come from a signal, such as Ctrl-C, rather than from the application's values.
Interrupts: TypeAlias = tuple[type[BaseException], ...]


class Run(NamedTuple):
    """A job to run: the handler of its method is called with its parameters."""

    message: bytes
    channel: bytes
    id: str
    method: Any  # a non-empty string if `decide` returns this
    parameters: Any
    expires_at_ms: float | None = None  # by Redis's clock
    keep_ms: int = 0  # for how long the result is to be stored, before any limit


class Timed(NamedTuple):
    """A job that can expire, and the time of Redis's clock."""

    job: Run
    now_ms: float

    @property
    def expired(self) -> bool:
        """Whether the job may not be started any more."""
        return has_expired(self.job, self.now_ms)


class Answer(NamedTuple):
    """A message and its result, which is published on the channel before the message is removed."""

    message: bytes
    channel: bytes
    id: str
    result: bytes
    keep_ms: int = 0  # for how long the result is to be stored, before any limit


class Dead(NamedTuple):
    """A message that no server can answer, or that is given up, and why: it is moved to the dead list."""

    message: bytes
    reason: str
    answer: Answer | None = None  # of one that is given up


class Spent(NamedTuple):
    """A message that was started too often: it is given up instead of being run."""

    message: bytes
    readable: bool  # whether it may be parsed, in order to answer it


Work: TypeAlias = bytes | Spent  # what a handler's place is needed for


class Result(NamedTuple):
    """The outcome of the job with the id: an error, or else a value."""

    id: str
    value: Any
    error: JobError | None


def decide(
    message: bytes, methods: Container[str], channel_prefixes: tuple[str, ...] | None = None
) -> Run | Answer | Dead:
    """Decide what to do with a message.

    Args:
        message: Any bytes.
        methods: The methods that have a handler.
        channel_prefixes: The allowed prefixes of a job's channel; None allows all channels.
    """
    try:
        job = _decode(message)
        channel, job_id = _address(job, channel_prefixes)
    except InvalidMessage as error:
        # server.dead.silent: it runs no handler, and has no answer.
        return Dead(message, str(error))
    method = job.get("method")
    # server.run.parameters, server.run.members
    expires_at_ms = _number(job["expires_at_ms"]) if "expires_at_ms" in job else None
    keep_ms = _keep_ms(job) if "keep_ms" in job else 0
    run = Run(message, channel, job_id, method, job.get("parameters"), expires_at_ms, keep_ms)
    if not (isinstance(method, str) and method):
        # server.run.invalid-job
        return fail(run, JobError("invalid-job", "$.method must be a non-empty string"))
    if method not in methods:
        # server.run.method-not-found
        return fail(
            run, JobError("method-not-found", f"no handler is registered for method {method!r}")
        )
    return run


def give_up(spent: Spent, channel_prefixes: tuple[str, ...] | None = None) -> Dead:
    """Decide how to give a message up."""
    sentence = "the job was given up: each server that ran it ended before it had an answer"
    if not spent.readable:
        return Dead(spent.message, sentence)
    try:
        job = _decode(spent.message)
        channel, job_id = _address(job, channel_prefixes)
    except InvalidMessage as error:
        return Dead(spent.message, str(error))
    body = _json({"code": "too-many-attempts", "message": sentence})
    result = _result(job_id, "error", body)
    answer = Answer(spent.message, channel, job_id, result, _keep_ms(job))
    return Dead(spent.message, sentence, answer)


def has_expired(job: Run, now_ms: float) -> bool:
    """Tell by Redis's clock whether a job may not be started any more."""
    # server.expiry.refuses, server.expiry.runs
    return job.expires_at_ms is not None and now_ms > job.expires_at_ms


def message_of(work: Work) -> bytes:
    """Return the bytes on the in-process list."""
    return work.message if isinstance(work, Spent) else work


def expired(job: Run) -> Answer:
    """Answer a job whose time is over."""
    # server.expiry.refuses
    return _failed(job, _EXPIRED)


def succeed(job: Run, value: object, interrupts: Interrupts = ()) -> Answer:
    """Answer a job with its handler's value.

    Raises:
        JobError: The value can't be published; this is to be the answer in place of it.
    """
    try:
        # server.result.form, server.result.id, server.result.value
        result = _result(job.id, "result", _json(value))
    except interrupts:
        raise
    except BaseException as error:  # the value's own methods may raise anything
        # server.result.not-serializable
        sentence = f"the result can't be written as JSON: {text_of(error, interrupts)}"
        raise JobError("result-not-serializable", sentence) from None
    if len(result) > LIMIT_BYTES:
        # server.result.too-large
        sentence = f"the result has {len(result)} bytes, more than {LIMIT_BYTES}"
        raise JobError("result-too-large", sentence)
    return Answer(job.message, job.channel, job.id, result, job.keep_ms)


def fail(job: Run, failure: BaseException, interrupts: Interrupts = ()) -> Answer:
    """Answer a job with an error, whatever the exception.

    Any exception except a JobError becomes `handler-error` with the exception's message. A JobError
    that can't be published as it is gets changed: a code that isn't allowed becomes
    `handler-error`; data that has no JSON is omitted, and so is any attribute that raises.
    """
    code, data = "handler-error", None
    if is_job_error(failure):
        error: Any = failure
        own_code = read_safely(lambda: _plain(error.code), "", interrupts)
        if publishable(own_code):
            code = own_code
        sentence = read_safely(lambda: _plain(error.message), "", interrupts)
        sentence = sentence or name_of(failure, interrupts)
        data = read_safely(lambda: error.data, None, interrupts)
    else:
        sentence = text_of(failure, interrupts)
    # server.result.error
    error_body: dict[str, Any] = {"code": _encodable(code), "message": _encodable(sentence)}
    answer = _failed(job, _json(error_body))
    if data is None:
        return answer
    return read_safely(lambda: _failed(job, _json(error_body | {"data": data})), answer, interrupts)


def _failed(job: Run, error_body: str) -> Answer:
    """Answer a job with an error, given as JSON, whose code and message can be published as they are."""
    result = _result(job.id, "error", error_body)
    if len(result) > LIMIT_BYTES:
        sentence = f"the error has {len(result)} bytes, more than {LIMIT_BYTES}"
        error_body = _json({"code": "result-too-large", "message": sentence})
        result = _result(job.id, "error", error_body)
    return Answer(job.message, job.channel, job.id, result, job.keep_ms)


def read_safely(read: Callable[[], T], otherwise: T, interrupts: Interrupts) -> T:
    """Call `read`, or return `otherwise`: methods of an application's objects may raise anything."""
    try:
        return read()
    except interrupts:
        raise
    except BaseException:
        return otherwise


def is_job_error(failure: BaseException) -> bool:
    """Tell whether it is one by its type: its `__class__` may be overridden."""
    return issubclass(type(failure), JobError)


def text_of(failure: BaseException, interrupts: Interrupts) -> str:
    """Return an exception's message, or the name of its type if that is empty."""
    return read_safely(lambda: _plain(failure), "", interrupts) or name_of(failure, interrupts)


def name_of(thing: object, interrupts: Interrupts) -> str:
    """Return the name of an object's type; its metaclass may raise."""
    name = read_safely(lambda: _plain(type(thing).__name__), "", interrupts)
    return name or "something nameless"


def encode_job(
    method: str,
    parameters: object,
    channel: str,
    job_id: str,
    *,
    expires: bool = False,
    keep_ms: int = 0,
) -> bytes:
    """Encode a job; one that expires leaves room for `with_expiry`, one of 0 ms isn't kept.

    Raises:
        TypeError: The method is not a string, or the parameters have no JSON.
        ValueError: The method is empty, the parameters are not portable JSON, or the job is larger
            than 1 MiB.
    """
    if not isinstance(method, str):
        raise TypeError(f"method must be a string, not {type(method).__name__}")
    if not method:
        raise ValueError("method must be a non-empty string")
    try:
        body = _json(parameters)
    except RecursionError:
        raise ValueError(f"the parameters are nested deeper than {DEPTH_LIMIT}") from None
    # client.job.form, client.job.parameters, client.kept.member
    address = f'"channel":{_quote(channel)},"id":{_quote(job_id)}'
    kept = f',"keep_ms":{keep_ms}' if keep_ms else ""
    job = f'{{"method":{_quote(method)},"parameters":{body},{address}{kept}}}'
    message = job.encode()
    size = len(message) + (EXPIRY_BYTES if expires else 0)
    if size > LIMIT_BYTES:
        # client.job.size
        raise ValueError(f"the job has {size} bytes, more than {LIMIT_BYTES}")
    require_portable(message, parameters, body)
    return message


def with_expiry(message: bytes, at_ms: int) -> bytes:
    """Return an encoded job with the time when it expires: Redis's, in milliseconds."""
    # client.expiry.member
    return b'%b,"expires_at_ms":%d}' % (message[:-1], at_ms)


def decode_result(message: bytes) -> Result:
    """Decode a result.

    Raises:
        InvalidMessage: The bytes are not a valid result.
    """
    # client.ignore.members: no other member is read.
    result = _decode(message, limit_bytes=None)
    job_id = result.get("id")
    if not isinstance(job_id, str):
        raise InvalidMessage("$.id", "must be a string")
    if ("result" in result) == ("error" in result):
        raise InvalidMessage("$", "must have either the member result or the member error")
    if "result" in result:
        return Result(job_id, result["result"], None)
    error = result["error"]
    if not isinstance(error, dict):
        raise InvalidMessage("$.error", "must be an object")
    code, sentence = error.get("code"), error.get("message")
    if not isinstance(code, str):
        raise InvalidMessage("$.error.code", "must be a string")
    if not isinstance(sentence, str):
        raise InvalidMessage("$.error.message", "must be a string")
    return Result(job_id, None, JobError(code, sentence, error.get("data")))


_encoder = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
)
# JSONEncoder makes a new encoder in C for each value, which takes longer than the encoding.
_make: Any = getattr(json.encoder, "c_make_encoder", None)  # PyPy has none
_quote = json.encoder.encode_basestring
_settings = (None, _encoder.default, _quote, None, ":", ",", False, False, False)
_chunks: Callable[[Any, Any], Iterable[str]]
_chunks = _make(*_settings) if _make else _encoder.iterencode


def _json(value: object) -> str:
    return "".join(_chunks(value, 0))


def _result(job_id: str, member: str, value: str) -> bytes:
    """Encode a result, of which most is the same for each; the value is JSON."""
    return f'{{"id":{_quote(job_id)},"{member}":{value}}}'.encode()


_EXPIRED = _json({"code": "expired", "message": "the job expired before it was started"})


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large for a double")
    return number


_decoder = json.JSONDecoder(parse_constant=_constant, parse_float=_float)


def parse_by_json(message: bytes) -> Any:
    """Parse JSON with the standard library, which decides what is valid."""
    return _decoder.decode(message.decode())


def fastest_parser() -> Callable[[bytes], Any]:
    """Return msgspec's parser if it is installed, otherwise the standard library's.

    What msgspec rejects is parsed again by the standard library; what it accepts, both parse to the
    same value. msgspec isn't used for encoding: it writes NaN as null, and dates and UUIDs as
    strings, so that a program would depend on what is installed.
    """
    try:
        from msgspec import DecodeError  # noqa: PLC0415 - it is optional
        from msgspec.json import Decoder  # noqa: PLC0415 - as above
    except ImportError:
        return parse_by_json
    by_msgspec = Decoder().decode

    def parse(message: bytes) -> Any:
        try:
            return by_msgspec(message)
        except (DecodeError, ValueError, RecursionError):
            return parse_by_json(message)

    return parse


_parse = fastest_parser()


def _decode(message: bytes, limit_bytes: int | None = LIMIT_BYTES) -> dict[str, Any]:
    if limit_bytes is not None and len(message) > limit_bytes:
        raise InvalidMessage("$", f"has {len(message)} bytes, more than {limit_bytes}")
    try:
        value = _parse(message)
    except UnicodeDecodeError as error:
        raise InvalidMessage("$", f"is not valid UTF-8: {error.reason} at {error.start}") from None
    except RecursionError:
        raise InvalidMessage("$", "is nested too deeply") from None
    except ValueError as error:
        raise InvalidMessage("$", f"is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidMessage("$", "must be an object")
    return value


def _address(job: dict[str, Any], channel_prefixes: tuple[str, ...] | None) -> tuple[bytes, str]:
    channel, job_id = job.get("channel"), job.get("id")
    if not (isinstance(channel, str) and channel):
        raise InvalidMessage("$.channel", "must be a non-empty string")
    if not (isinstance(job_id, str) and job_id):
        raise InvalidMessage("$.id", "must be a non-empty string")
    # server.channel-prefix.confined
    if channel_prefixes is not None and not channel.startswith(channel_prefixes):
        raise InvalidMessage("$.channel", f"is outside the allowed prefixes: {channel!r}")
    try:
        job_id.encode()
        return channel.encode(), job_id
    except UnicodeEncodeError:
        raise InvalidMessage("$", "has a lone surrogate in its channel or id") from None


def _number(value: object) -> float | None:
    """Return a number of JSON, which true and false are not; None for any other value."""
    # server.expiry.value
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _keep_ms(job: dict[str, Any]) -> int:
    """Return for how many milliseconds a job's result is to be stored; 0 is not at all."""
    # server.kept.value
    keep_ms = _number(job.get("keep_ms"))
    return 0 if keep_ms is None or keep_ms < 1 else math.floor(keep_ms)


def _plain(value: object) -> str:
    """Return a string of the exact type `str`: methods of a subclass are the application's."""
    return str.__str__(value if issubclass(type(value), str) else str(value))


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
