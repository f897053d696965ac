"""Servers that run the wrong thing, or stop at it (spec §7.2).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from base_server import Job, Json, Server, is_name

if TYPE_CHECKING:
    from collections.abc import Callable


# server.run


class HandlerOfFirstJob(Server):
    first = ""

    def handler(self, method: str) -> Callable[[Json], Json] | None:
        if method in self.handlers:
            self.first = self.first or method
        return super().handler(self.first if method in self.handlers else method)


class MethodLowerCase(Server):
    def handler(self, method: str) -> Callable[[Json], Json] | None:
        return super().handler(method.lower())


class MethodStripped(Server):
    def handler(self, method: str) -> Callable[[Json], Json] | None:
        return super().handler(method.strip())


class MethodByPrefix(Server):
    def handler(self, method: str) -> Callable[[Json], Json] | None:
        return next((run for name, run in self.handlers.items() if method.startswith(name)), None)


class MethodFromAttributes(Server):
    def handler(self, method: str) -> Callable[[Json], Json] | None:
        return super().handler(method) or getattr(os, method, None)


class AbsentParametersObject(Server):
    def parameters(self, job: Job) -> Json:
        return job.get("parameters", {})


class FalsyParametersNull(Server):
    def parameters(self, job: Job) -> Json:
        return job.get("parameters") or None


class ParametersInList(Server):
    def parameters(self, job: Job) -> Json:
        parameters = job.get("parameters")
        return parameters if isinstance(parameters, list | dict) else [parameters]


class UnknownMembersInvalid(Server):
    def run(self, job: Job) -> dict[str, Json]:
        if job.keys() - {"method", "parameters", "channel", "id"}:
            return self.error("invalid-job", "the job has members that are unknown")
        return super().run(job)


class RefusesJobsThatAskForNothing(Server):
    """Once a job has asked that its result be kept, one that doesn't is invalid."""

    asked = False

    def outcome(self, raw: bytes, job: Job) -> dict[str, Json]:
        self.asked |= "keep_ms" in job
        if self.asked and "keep_ms" not in job:
            return self.error("invalid-job", "keep_ms is missing")
        return super().outcome(raw, job)


class UnknownMembersDead(Server):
    def is_answerable(self, job: Json) -> bool:
        known = {"method", "parameters", "channel", "id"}
        return super().is_answerable(job) and not job.keys() - known


class InvalidJobDead(Server):
    def is_answerable(self, job: Json) -> bool:
        return super().is_answerable(job) and is_name(job.get("method"))


class EmptyMethodNotFound(Server):
    def run(self, job: Job) -> dict[str, Json]:
        if job.get("method") == "":
            return self.error("method-not-found", "no handler is registered for method ''")
        return super().run(job)


class MethodOfAnyType(Server):
    def run(self, job: Job) -> dict[str, Json]:
        return super().run({**job, "method": str(job.get("method"))})


class MethodMissingMeansEcho(Server):
    def run(self, job: Job) -> dict[str, Json]:
        return super().run({"method": "echo", **job})


class UnknownMethodNull(Server):
    def handler(self, method: str) -> Callable[[Json], Json] | None:
        return super().handler(method) or (lambda _parameters: None)


class UnknownMethodFails(Server):
    def handler(self, method: str) -> Callable[[Json], Json] | None:
        return self.handlers[method]

    def run(self, job: Job) -> dict[str, Json]:
        try:
            return super().run(job)
        except KeyError as failure:
            return self.on_failure(failure)


class UnknownMethodInvalid(Server):
    def error(self, code: str, message: str) -> dict[str, Json]:
        return super().error("invalid-job" if code == "method-not-found" else code, message)


class FailureAsResult(Server):
    def on_failure(self, failure: BaseException) -> dict[str, Json]:
        return {"result": str(failure)}


class FailureAsInvalidJob(Server):
    def on_failure(self, failure: BaseException) -> dict[str, Json]:
        return self.error("invalid-job", str(failure))


class OddFailureAsInvalidJob(Server):
    def on_failure(self, failure: BaseException) -> dict[str, Json]:
        unusual = not isinstance(failure, ValueError)
        return self.error("invalid-job", str(failure)) if unusual else super().on_failure(failure)


class AbruptFailureUnanswered(Server):
    def on_failure(self, failure: BaseException) -> dict[str, Json]:
        if not isinstance(failure, Exception):
            raise failure  # which ends the thread without a message
        return super().on_failure(failure)


class FailureEndsServer(Server):
    def on_failure(self, failure: BaseException) -> dict[str, Json]:
        os._exit(1)


class BadUtf8EndsServer(Server):
    def parse(self, raw: bytes) -> Json:
        try:
            return super().parse(raw)
        except UnicodeDecodeError:
            os._exit(1)


class NoObjectEndsServer(Server):
    def parse(self, raw: bytes) -> Json:
        value = super().parse(raw)
        if not isinstance(value, dict):
            os._exit(1)
        return value


class DeepNestingEndsServer(Server):
    def parse(self, raw: bytes) -> Json:
        try:
            return super().parse(raw)
        except RecursionError:
            os._exit(1)


# server.dead


class AnswersWithoutId(Server):
    def is_answerable(self, job: Json) -> bool:
        if isinstance(job, dict) and "id" not in job:
            job["id"] = ""
            return is_name(job.get("channel")) and self.may_publish(job["channel"])
        return super().is_answerable(job)


class AnswersIdOfAnyType(Server):
    def is_answerable(self, job: Json) -> bool:
        if isinstance(job, dict) and type(job.get("id")) is int:
            return super().is_answerable({**job, "id": "1"})
        return super().is_answerable(job)


class AnswersEmptyId(Server):
    def is_answerable(self, job: Json) -> bool:
        if isinstance(job, dict) and job.get("id") == "":
            return super().is_answerable({**job, "id": "1"})
        return super().is_answerable(job)


class AnswersChannelOfAnyType(Server):
    def is_answerable(self, job: Json) -> bool:
        if isinstance(job, dict) and type(job.get("channel")) is int:
            job["channel"] = str(job["channel"])
            return is_name(job.get("id"))
        return super().is_answerable(job)


class AnswersMissingChannel(Server):
    def is_answerable(self, job: Json) -> bool:
        if isinstance(job, dict) and not is_name(job.get("channel")):
            job["channel"] = f"{self.queue}:results"
            return is_name(job.get("id"))
        return super().is_answerable(job)


class AnswersArray(Server):
    def parse(self, raw: bytes) -> Json:
        value = super().parse(raw)
        return value[0] if isinstance(value, list) and value else value
