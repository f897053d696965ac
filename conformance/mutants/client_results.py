"""Client drivers that read results wrongly (spec §6).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import html
import json
import os
import sys

from base_client import Client, Job, Json

# client.settle.value, client.settle.error


class FalsyResultNull(Client):
    def value(self, value: Json) -> Json:
        return value or None


class FalsyResultIgnored(Client):
    def is_result(self, result: Json) -> bool:
        return super().is_result(result) and bool(result.get("result") or result.get("error"))


class NullResultIgnored(Client):
    def is_result(self, result: Json) -> bool:
        return super().is_result(result) and result.get("result", "error") is not None


class ResultAstralReplaced(Client):
    def parse(self, message: bytes) -> Json:
        text = message.decode()
        return json.loads("".join("?" if c > "\uffff" else c for c in text))


class ResultStripped(Client):
    def value(self, value: Json) -> Json:
        return value.strip() if isinstance(value, str) else value


class ResultRounded(Client):
    def parse(self, message: bytes) -> Json:
        return json.loads(message, parse_float=lambda digits: round(float(digits), 6))


class ResultMarkupEscaped(Client):
    def value(self, value: Json) -> Json:
        return html.escape(value) if isinstance(value, str) else value


class ResultNumberFromString(Client):
    def value(self, value: Json) -> Json:
        return int(value) if isinstance(value, str) and value.isdecimal() else value


class ResultWithErrorMember(Client):
    def value(self, value: Json) -> Json:
        return value["error"] if isinstance(value, dict) and "error" in value else value


class ErrorCodeReplaced(Client):
    known = ("method-not-found", "invalid-job", "handler-error")

    def error(self, error: Json) -> Json:
        return {**super().error(error), "code": self.known_code(error["code"])}

    def known_code(self, code: str) -> str:
        return code if code in self.known else "handler-error"


class ErrorCodeCutAtDot(Client):
    def error(self, error: Json) -> Json:
        return {**super().error(error), "code": error["code"].rpartition(".")[2]}


class ErrorMessageReplaced(Client):
    def error(self, error: Json) -> Json:
        return {**super().error(error), "message": "the job failed"}


class ErrorMessageCut(Client):
    def error(self, error: Json) -> Json:
        return {**super().error(error), "message": error["message"].split("\n")[0][:80]}


class ErrorDataDropped(Client):
    def error(self, error: Json) -> Json:
        return {name: said for name, said in super().error(error).items() if name != "data"}


class ErrorDataDroppedWhereFalsy(Client):
    def error(self, error: Json) -> Json:
        return {k: v for k, v in super().error(error).items() if v or k != "data"}


class ErrorMessageTrimmed(Client):
    def error(self, error: Json) -> Json:
        return {**super().error(error), "message": error["message"].strip()}


class EmptyErrorCodeIsMalformed(Client):
    def is_error(self, error: Json) -> bool:
        return super().is_error(error) and error["code"] != ""


class ErrorDataAsText(Client):
    def error(self, error: Json) -> Json:
        return {k: json.dumps(v) if k == "data" else v for k, v in super().error(error).items()}


class LongErrorMessageCut(Client):
    def error(self, error: Json) -> Json:
        return {**super().error(error), "message": error["message"][:1000]}


class LongErrorCodeCut(Client):
    def error(self, error: Json) -> Json:
        return {**super().error(error), "code": error["code"][:64]}


class ResultInPlatformEncoding(Client):
    def parse(self, message: bytes) -> Json:
        encoding = "ascii" if os.environ.get("LC_ALL") == "C" else "utf-8"
        return json.loads(message.decode(encoding, "replace"))


class ResultOfWholeBlocksIgnored(Client):
    def read(self, message: bytes) -> dict[str, Json] | None:
        return None if len(message) % 1024 == 0 else super().read(message)


class ResultBelowOneMebibyteOnly(Client):
    def read(self, message: bytes) -> dict[str, Json] | None:
        return None if len(message) >= 1 << 20 else super().read(message)


class ErrorAsResult(Client):
    def on_message(self, message: bytes) -> None:
        super().on_message(message.replace(b'"error"', b'"result"', 1))


class WholeResultAsValue(Client):
    def read(self, message: bytes) -> dict[str, Json] | None:
        result = super().read(message)
        if result is None or "result" not in result:
            return result
        return {**result, "result": result}


# client.ignore


class UnknownEndsClient(Client):
    def on_unknown(self, result: dict[str, Json]) -> None:
        sys.exit(1)


class UnknownSettlesOldest(Client):
    def find(self, result: dict[str, Json]) -> Job | None:
        return super().find(result) or next(iter(self.pending.values()), None)


class MalformedEndsClient(Client):
    def on_malformed(self, message: bytes) -> None:
        sys.exit(1)


class MalformedSettlesAll(Client):
    def on_malformed(self, message: bytes) -> None:
        for job in list(self.pending.values()):
            self.settle_error(
                job, "invalid-result", "a message on the channel is not a valid result"
            )


class MalformedUtf8EndsClient(Client):
    def on_malformed(self, message: bytes) -> None:
        message.decode()


class MalformedEndsSubscription(Client):
    def on_malformed(self, message: bytes) -> None:
        assert self.subscription is not None
        self.selector.unregister(self.subscription)


class NoObjectEndsClient(Client):
    def is_result(self, result: Json) -> bool:
        if not isinstance(result, dict):
            sys.exit(1)
        return super().is_result(result)


class ResultAndErrorAccepted(Client):
    def is_result(self, result: Json) -> bool:
        both = isinstance(result, dict) and {"id", "result", "error"} <= result.keys()
        return both or super().is_result(result)


class NeitherAccepted(Client):
    def is_result(self, result: Json) -> bool:
        if isinstance(result, dict) and result.keys() == {"id"}:
            result["result"] = None
        return super().is_result(result)


class MemberTwiceSettlesTwice(Client):
    def on_message(self, message: bytes) -> None:
        if message.count(b'"result"') > 1:
            names = json.loads(message, object_pairs_hook=list)
            job = self.pending.get(dict(names)["id"])
            for name, value in names:
                if name == "result" and job is not None:
                    self.write(job, {"result": value})
        super().on_message(message)


class ErrorStringAccepted(Client):
    def is_result(self, result: Json) -> bool:
        if isinstance(result, dict) and isinstance(result.get("error"), str):
            result["error"] = {"code": "handler-error", "message": result["error"]}
        return super().is_result(result)


class ErrorNullMeansResult(Client):
    def is_result(self, result: Json) -> bool:
        if isinstance(result, dict) and result.get("error", "") is None:
            del result["error"]
        return super().is_result(result)


class UnknownMembersRefused(Client):
    def is_result(self, result: Json) -> bool:
        return super().is_result(result) and result.keys() <= {"id", "result", "error"}


class UnknownErrorMembersRefused(Client):
    def is_error(self, error: Json) -> bool:
        return super().is_error(error) and error.keys() <= {"code", "message", "data"}


# client.settle.result


class ResultOfAnyId(Client):
    def find(self, result: dict[str, Json]) -> Job | None:
        return next(iter(self.pending.values()), None)


class IdComparedAsNumber(Client):
    def find(self, result: dict[str, Json]) -> Job | None:
        name = result["id"].strip()
        return self.pending.get(str(int(name)) if name.isdecimal() else name)


class IdOfAnyType(Client):
    def is_result(self, result: Json) -> bool:
        if isinstance(result, dict):
            result["id"] = str(result.get("id"))
        return super().is_result(result)


class ErrorAwaitsResult(Client):
    def find(self, result: dict[str, Json]) -> Job | None:
        retried = "error" in result and result["error"]["code"] == "handler-error"
        return None if retried else super().find(result)
