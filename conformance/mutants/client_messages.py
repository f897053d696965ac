"""Client drivers that write jobs or read results wrongly (spec §4.1, §6 and §12).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import hashlib
import html
import json
import sys
import time
import unicodedata
import uuid

from base_client import Client, Job, Json
from resp import ReplyError

# client.job.form


class JobIdNumber(Client):
    def dump(self, job: Json) -> bytes:
        return super().dump({**job, "id": int(job["id"])})


class JobWithoutMethod(Client):
    def dump(self, job: Json) -> bytes:
        return super().dump({"type": job.pop("method"), **job})


class JobAsArray(Client):
    def dump(self, job: Json) -> bytes:
        return super().dump([job])


class JobLatin1(Client):
    def dump(self, job: Json) -> bytes:
        return super().dump(job).decode().encode("latin-1", "replace")


class JobByteOrderMark(Client):
    def dump(self, job: Json) -> bytes:
        return b"\xef\xbb\xbf" + super().dump(job)


class JobWithMemberTwice(Client):
    def dump(self, job: Json) -> bytes:
        return super().dump(job)[:-1] + b', "method": ' + super().dump(job["method"]) + b"}"


# client.job.parameters


class FalsyParametersDropped(Client):
    def dump(self, job: Json) -> bytes:
        return super().dump({name: member for name, member in job.items() if member})


class FalsyParametersNull(Client):
    def parameters(self, call: dict[str, Json]) -> Json:
        return call.get("parameters") or None


class NullParametersObject(Client):
    def parameters(self, call: dict[str, Json]) -> Json:
        parameters = call.get("parameters")
        return {} if parameters is None else parameters


class ParametersInList(Client):
    def parameters(self, call: dict[str, Json]) -> Json:
        parameters = call.get("parameters")
        return parameters if isinstance(parameters, list | dict) else [parameters]


class ParametersTwiceEncoded(Client):
    def parameters(self, call: dict[str, Json]) -> Json:
        return json.dumps(call.get("parameters"))


class ParametersRounded(Client):
    def parameters(self, call: dict[str, Json]) -> Json:
        parameters = call.get("parameters")
        text = json.dumps(parameters)
        return json.loads(text, parse_float=lambda digits: round(float(digits), 6))


class ParametersNormalized(Client):
    def parameters(self, call: dict[str, Json]) -> Json:
        text = json.dumps(call.get("parameters"), ensure_ascii=False)
        return json.loads(unicodedata.normalize("NFC", text))


class ParametersWithoutNulls(Client):
    def parameters(self, call: dict[str, Json]) -> Json:
        def drop(members: dict[str, Json]) -> dict[str, Json]:
            return {name: member for name, member in members.items() if member is not None}

        return json.loads(json.dumps(call.get("parameters")), object_hook=drop)


# client.job.id


class IdConstant(Client):
    def job_id(self, call: dict[str, Json]) -> str:
        return "job"


class IdOfContent(Client):
    def job_id(self, call: dict[str, Json]) -> str:
        content = json.dumps([call["method"], call.get("parameters")])
        return hashlib.sha256(content.encode()).hexdigest()


class IdReused(Client):
    def job_id(self, call: dict[str, Json]) -> str:
        return next(str(n) for n in range(1, self.calls + 1) if str(n) not in self.pending)


class IdOfSecond(Client):
    def job_id(self, call: dict[str, Json]) -> str:
        return str(int(time.time()))


class IdWraps(Client):
    def job_id(self, call: dict[str, Json]) -> str:
        return str(self.calls % 128)


class IdCountedOnFixedChannel(Client):
    def channel_name(self) -> str:
        return f"{self.queue}:results:client"


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


class ErrorAsResult(Client):
    def on_message(self, message: bytes) -> None:
        super().on_message(message.replace(b'"error"', b'"result"', 1))


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
            self.settle_error(job, "invalid-result", "a message on the channel is no result")


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


# client.channel.name


class ChannelNamedAnotherWay(Client):
    def channel_name(self) -> str:
        return f"replies-{uuid.uuid4()}"


# client.security


class NeedsInfo(Client):
    def connect_pushes(self, job: Job) -> bool:
        connected = super().connect_pushes(job)
        if self.pushes is not None:
            try:
                self.pushes.call("INFO", "server")
            except ReplyError:
                sys.exit(1)
        return connected


class LogsUrl(Client):
    def subscribe(self) -> None:
        self.log(f"connecting to {self.url}")
        super().subscribe()


class LogsUrlWhenLost(Client):
    def on_subscription_lost(self, lost: Exception) -> None:
        self.log(f"lost {self.url}")
        super().on_subscription_lost(lost)


class WholeResultAsValue(Client):
    def read(self, message: bytes) -> dict[str, Json] | None:
        result = super().read(message)
        return result and {**result, "result": result} if "result" in (result or {}) else result
