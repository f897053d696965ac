"""Servers that get results wrong: what only unusual data shows (spec §4.2).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import html
import json
import unicodedata
from typing import TYPE_CHECKING

from base_server import Job, Json, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

# server.result.form


class ResultAndError(Server):
    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        return super().encode(job, {"result": None, "error": None, **outcome})


class NeitherResultNorError(Server):
    def value(self, value: Json) -> dict[str, Json]:
        return {} if value is None else {"result": value}


class BareValue(Server):
    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        return self.dump(outcome.get("result", {"id": job["id"], **outcome}))


class ResultNan(Server):
    def parse(self, raw: bytes) -> Json:
        value = json.loads(raw.decode())
        self.dump(value)  # can it be answered?
        return value

    def dump(self, result: Json) -> bytes:
        return json.dumps(result, ensure_ascii=False).encode()


class ResultLatin1(Server):
    def dump(self, result: Json) -> bytes:
        text = super().dump(result).decode()
        return text.encode("latin-1") if max(text) <= "\xff" else text.encode()


class ResultByteOrderMark(Server):
    def dump(self, result: Json) -> bytes:
        return b"\xef\xbb\xbf" + super().dump(result)


class ResultNamesIdTwice(Server):
    def dump(self, result: Json) -> bytes:
        written = super().dump(result)
        return b'{"id": "another", ' + written[1:]


class ErrorWithoutId(Server):
    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        return self.dump(outcome) if "error" in outcome else super().encode(job, outcome)


# server.result.id


class IdAsNumber(Server):
    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        name = job["id"]
        number = int(name) if name.isascii() and name.isdecimal() else name
        return self.dump({"id": number, **outcome})


class IdLowerCase(Server):
    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        return self.dump({"id": job["id"].lower(), **outcome})


class IdPrefixed(Server):
    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        return super().encode({**job, "id": f"job-{job['id']}"}, outcome)


class IdStripped(Server):
    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        return self.dump({"id": job["id"].strip() or job["id"], **outcome})


class IdNormalized(Server):
    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        return self.dump({"id": unicodedata.normalize("NFC", job["id"]), **outcome})


class IdTruncated(Server):
    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        return self.dump({"id": job["id"][:64], **outcome})


class IdCutAtNul(Server):
    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        return self.dump({"id": job["id"].split("\0")[0] or job["id"], **outcome})


class IdWithoutLeadingZeros(Server):
    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        return self.dump({"id": job["id"].lstrip("0") or "0", **outcome})


# server.result.value


class FalsyValueNull(Server):
    def value(self, value: Json) -> dict[str, Json]:
        return {"result": value or None}


class NullValueObject(Server):
    def value(self, value: Json) -> dict[str, Json]:
        return {"result": {} if value is None else value}


class ValueTwiceEncoded(Server):
    def value(self, value: Json) -> dict[str, Json]:
        return {"result": json.dumps(value) if isinstance(value, dict) else value}


class Rewriting(Server):
    """Not a mutant: rewrites what a value holds, part by part, and changes nothing yet."""

    def value(self, value: Json) -> dict[str, Json]:
        return {"result": self.rewrite(value)}

    def rewrite(self, value: Json, depth: int = 0) -> Json:
        if isinstance(value, dict):
            return self.object(
                {key: self.rewrite(part, depth + 1) for key, part in value.items()}, depth
            )
        if isinstance(value, list):
            return self.array([self.rewrite(part, depth + 1) for part in value], depth)
        return self.scalar(value)

    def object(self, members: dict[str, Json], depth: int) -> Json:
        return members

    def array(self, elements: list[Json], depth: int) -> Json:
        return elements

    def scalar(self, value: Json) -> Json:
        return self.string(value) if isinstance(value, str) else value

    def string(self, text: str) -> Json:
        return text


class AstralReplaced(Rewriting):
    def string(self, text: str) -> Json:
        return "".join("\N{REPLACEMENT CHARACTER}" if c > "\uffff" else c for c in text)


class StringCutAtNul(Rewriting):
    def string(self, text: str) -> Json:
        return text.split("\0", maxsplit=1)[0]


class StringNormalized(Rewriting):
    def string(self, text: str) -> Json:
        return unicodedata.normalize("NFC", text)


class StringStripped(Rewriting):
    def string(self, text: str) -> Json:
        return text.strip()


class StringSlashEscaped(Rewriting):
    def string(self, text: str) -> Json:
        return text.replace("/", "\\/")


class StringMarkupEscaped(Rewriting):
    def string(self, text: str) -> Json:
        return html.escape(text, quote=False)


class StringCut(Rewriting):
    def string(self, text: str) -> Json:
        return text[:65535]


class StringNumeric(Rewriting):
    def string(self, text: str) -> Json:
        return int(text) if text.isascii() and text.isdecimal() else text


class FloatRounded(Rewriting):
    def scalar(self, value: Json) -> Json:
        return float(f"{value:.9g}") if isinstance(value, float) else value


class FractionCut(Rewriting):
    def scalar(self, value: Json) -> Json:
        return int(value) if isinstance(value, float) else value


class IntegerWrapped(Rewriting):
    def scalar(self, value: Json) -> Json:
        return value & 0xFFFFFFFF if type(value) is int and value > 0xFFFFFFFF else value


class NegativeWithoutSign(Rewriting):
    def scalar(self, value: Json) -> Json:
        return -value if type(value) is int and value < 0 else value


class BooleanAsNumber(Rewriting):
    def scalar(self, value: Json) -> Json:
        return int(value) if isinstance(value, bool) else value


class NullMembersDropped(Rewriting):
    def object(self, members: dict[str, Json], depth: int) -> Json:
        return {name: member for name, member in members.items() if member is not None}


class EmptyNameDropped(Rewriting):
    def object(self, members: dict[str, Json], depth: int) -> Json:
        return {name: member for name, member in members.items() if name}


class EmptyArrayObject(Rewriting):
    def array(self, elements: list[Json], depth: int) -> Json:
        return elements or {}


class SingleElementUnwrapped(Rewriting):
    def array(self, elements: list[Json], depth: int) -> Json:
        return elements[0] if depth == 0 and len(elements) == 1 else elements


class NestingCut(Rewriting):
    def array(self, elements: list[Json], depth: int) -> Json:
        return elements if depth < 16 else None


# server.result.error, server.result.code


class ErrorString(Server):
    def error(self, code: str, message: str) -> dict[str, Json]:
        return {"error": f"{code}: {message}"}


class ErrorWithoutMessage(Server):
    def error(self, code: str, message: str) -> dict[str, Json]:
        return {"error": {"code": code}}


class ErrorCodeNumber(Server):
    def error(self, code: str, message: str) -> dict[str, Json]:
        return {"error": {"code": -32601, "message": message}}


class ErrorMessageNull(Server):
    def on_failure(self, failure: BaseException) -> dict[str, Json]:
        return {"error": {"code": "handler-error", "message": None}}


class CodeUnregistered(Server):
    def error(self, code: str, message: str) -> dict[str, Json]:
        return super().error("exception" if code == "handler-error" else code, message)


class CodeOfClients(Server):
    def error(self, code: str, message: str) -> dict[str, Json]:
        return super().error("not-queued" if code == "method-not-found" else code, message)


class ChannelsByTheId(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.channels: dict[str, str] = {}

    def outcome(self, raw: bytes, job: Job) -> dict[str, Json]:
        self.channels[job["id"]] = job["channel"]
        return super().outcome(raw, job)

    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        super().answer(raw, {**job, "channel": self.channels[job["id"]]}, result)
