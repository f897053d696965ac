"""Jobs and results as bytes: written, read strictly, compared as JSON values.

Pure. `MalformedMessage` says what is wrong with bytes that came from what is under test.
"""

import json
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

from jobqueue_conformance.spec import data

WIRE_CODES = frozenset(
    each["code"]
    for each in data.load(data.folder("spec") / "errors.json")["errors"]
    if each["where"] == "wire"
)

# Results of unusual jobs can be deeper, and their integers longer, than Python reads by default.
DEEPEST = 12_000
LONGEST_INTEGER = 4000


class MalformedMessage(ValueError):
    """Bytes that are not a valid message; the text completes "a message that …", and `member` is the invalid member."""

    def __init__(self, sentence: str, member: str | None = None) -> None:
        super().__init__(sentence)
        self.member = member

    @property
    def requirement(self) -> str:
        """What a server broke that published them."""
        broken = {"id": "server.result.id", "error": "server.result.error"}
        return broken.get(self.member or "", "server.result.form")


@dataclass(frozen=True)
class Job:
    """A job as bytes, with the members that its result needs."""

    message: bytes
    id: str
    channel: str
    method: str = ""
    parameters: Any = None


def written(**members: Any) -> bytes:
    """A message with these members, as UTF-8."""
    return json.dumps(members, ensure_ascii=False, allow_nan=False).encode()


def strict(message: bytes) -> Any:
    """The value of a JSON text that is UTF-8 without a byte order mark, and has none of the usual extensions.

    Raises:
        MalformedMessage: the text isn't strict JSON.
        RecursionError: it is nested too deeply to be read here.
    """
    try:
        text = message.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedMessage(f"is not valid UTF-8: {message[:200]!r}") from error
    if text.startswith("\ufeff"):
        raise MalformedMessage("begins with a byte order mark")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(DEEPEST)
    try:
        return json.loads(text, parse_constant=_refuse, parse_int=_integer)
    except ValueError as error:
        raise MalformedMessage(f"is not valid JSON: {message[:200]!r}: {error}") from error
    finally:
        sys.setrecursionlimit(limit)


def read_job(message: bytes) -> Job:
    """A job that a client pushed (client.job.form)."""
    job = strict(message)
    _fits("job", job, message)
    _unique(message)
    return Job(message, job["id"], job["channel"], job["method"], job.get("parameters"))


def read_result(message: bytes) -> dict[str, Any]:
    """A result that a server published (server.result.form)."""
    result = strict(message)
    _fits("result", result, message)
    _unique(message, within=False)
    read: dict[str, Any] = result
    return read


def equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: 1 is 1.0, and true isn't 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return (type(one) is type(other) and one == other) or (
        _number(one) and _number(other) and one == other
    )


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fits(schema: str, value: Any, message: bytes) -> None:
    for mistake in data.validator(schema).iter_errors(value):
        sentence = f"doesn't match the schema of a {schema}: {mistake.message}: {message[:200]!r}"
        raise MalformedMessage(sentence, next(iter(mistake.absolute_path), None))


def _unique(message: bytes, *, within: bool = True) -> None:
    """Refuse a member that is named twice: anywhere, or only in the message itself where not `within`."""
    twice: list[bool] = []  # of each object, the message itself last

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        twice.append(len(found) != len(pairs))
        return found

    json.loads(message, object_pairs_hook=members)
    if any(twice) if within else twice[-1]:
        raise MalformedMessage(f"has a member twice: {message[:200]!r}")


def _integer(literal: str) -> int | float:
    return int(literal) if len(literal) <= LONGEST_INTEGER else float(literal)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not valid JSON")
