"""Client drivers that write jobs or name channels wrongly, or need and say too much (spec §4.1, §6 and §12).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import unicodedata
import uuid

from base_client import Client, Job, Json
from resp import Connection, ReplyError

# client.job.form


class JobIdNumber(Client):
    def dump(self, job: Json) -> bytes:
        return super().dump({**job, "id": int(job["id"])})


class JobWithoutMethod(Client):
    def dump(self, job: Json) -> bytes:
        return super().dump({"type": job.pop("method"), **job})


class JobMethodLowerCase(Client):
    def dump(self, job: Json) -> bytes:
        return super().dump({**job, "method": job["method"].lower()})


class JobMethodComposed(Client):
    def dump(self, job: Json) -> bytes:
        return super().dump({**job, "method": unicodedata.normalize("NFC", job["method"])})


class JobMethodCut(Client):
    def dump(self, job: Json) -> bytes:
        return super().dump({**job, "method": job["method"][:255]})


class JobInPlatformEncoding(Client):
    def dump(self, job: Json) -> bytes:
        text = super().dump(job).decode()
        return text.encode("ascii" if os.environ.get("LC_ALL") == "C" else "utf-8", "replace")


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


class ParametersOfManyElementsCut(Client):
    def parameters(self, call: dict[str, Json]) -> Json:
        parameters = call.get("parameters")
        return parameters[:1000] if isinstance(parameters, list) else parameters


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


class IdWrapsBeyondOneThousand(Client):
    def job_id(self, call: dict[str, Json]) -> str:
        return str(self.calls % 1024)


class IdWrapsBeyondTenThousand(Client):
    def job_id(self, call: dict[str, Json]) -> str:
        return str(self.calls % 10_000)


class IdCountedOnFixedChannel(Client):
    def channel_name(self) -> str:
        return f"{self.queue}:results:client"


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


class LogsUrlAtItsEnd(Client):
    def serve(self) -> int:
        status = super().serve()
        self.log(f"closed {self.url}")
        return status


class LogsUrlWhenRefused(Client):
    def on_subscription_lost(self, lost: Exception) -> None:
        if isinstance(lost, ConnectionRefusedError):
            self.log(f"nobody listens at {self.url}")
        super().on_subscription_lost(lost)


class NeedsEval(Client):
    def send_push(self, pushes: Connection, job: Job) -> None:
        script = "return redis.call('LPUSH', KEYS[1], ARGV[1])"
        pushes.send("EVAL", script, 1, self.queue, job.message)


class NeedsLlenToSettle(Client):
    def settle(self, job: Job, outcome: dict[str, Json]) -> None:
        try:
            Connection(self.url, self.silence_s).call("LLEN", self.queue)
        except ReplyError as refusal:
            outcome = {"error": {"code": "connection-lost", "message": str(refusal)}}
        super().settle(job, outcome)
