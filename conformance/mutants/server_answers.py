"""Servers that publish or remove wrongly, or say too much (spec §7.2 to §7.4 and §12).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from typing import TYPE_CHECKING

from base_server import Job, Server
from resp import ReplyError

if TYPE_CHECKING:
    from collections.abc import Mapping


# server.publish


class PublishOnFixedChannel(Server):
    def publish(self, channel: str, result: bytes) -> None:
        super().publish(f"{self.queue}:results", result)


class PublishOnFirstChannel(Server):
    first = ""

    def publish(self, channel: str, result: bytes) -> None:
        self.first = self.first or channel
        super().publish(self.first, result)


class PublishOnLowerCaseChannel(Server):
    def publish(self, channel: str, result: bytes) -> None:
        super().publish(channel.lower(), result)


class PublishOnStrippedChannel(Server):
    def publish(self, channel: str, result: bytes) -> None:
        super().publish(channel.strip() or channel, result)


class PublishOnAsciiChannel(Server):
    def publish(self, channel: str, result: bytes) -> None:
        super().publish(channel.encode("ascii", "replace").decode(), result)


class PublishBroadcast(Server):
    def publish(self, channel: str, result: bytes) -> None:
        super().publish(channel, result)
        super().publish(f"{self.queue}:events", result)


class PublishToAllOfId(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.channels: defaultdict[str, set[str]] = defaultdict(set)

    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        self.channels[job["id"]].add(job["channel"])
        for channel in self.channels[job["id"]]:
            self.publish(channel, result)
        self.remove(raw)


class PublishHundredthTwice(Server):
    published = 0

    def publish(self, channel: str, result: bytes) -> None:
        super().publish(channel, result)
        self.published += 1
        if self.published % 100 == 0:
            super().publish(channel, result)


class PublishTwice(Server):
    def publish(self, channel: str, result: bytes) -> None:
        super().publish(channel, result)
        super().publish(channel, result)


class PublishErrorTwice(Server):
    def publish(self, channel: str, result: bytes) -> None:
        super().publish(channel, result)
        if b'"error"' in result:
            super().publish(channel, result)


class SilentToJobsThatAskForNothing(Server):
    """Once a job has asked that its result be kept, it answers no other."""

    asked = False

    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        self.asked |= "keep_ms" in job
        if self.asked and "keep_ms" not in job:
            self.remove(raw)
        else:
            super().answer(raw, job, result)


class PublishUntilSomebodyListens(Server):
    def publish(self, channel: str, result: bytes) -> None:
        for _ in range(3):
            if self.ask("PUBLISH", channel, result) > 0:
                break


class PublishNotForNull(Server):
    def publish(self, channel: str, result: bytes) -> None:
        if json.loads(result).get("result", True) is not None:
            super().publish(channel, result)


class PublishOncePerId(Server):
    answered: frozenset[str] = frozenset()

    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        if job["id"] not in self.answered:
            self.publish(job["channel"], result)
        self.answered |= {job["id"]}
        self.remove(raw)


class PublishStarted(Server):
    def handle(self, raw: bytes) -> None:
        job = self.read(raw)
        if job is not None and job.get("method") == "wait":
            with self.answering:
                self.finish_early(job)
        super().handle(raw)

    def finish_early(self, job: Job) -> None:
        self.answers = self.answers or self.connect_answers()
        self.publish(job["channel"], self.encode(job, {"result": job["parameters"]}))


class RemoveBeforePublish(Server):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        self.remove(raw)
        self.publish(job["channel"], result)


class RemoveBeforeRun(Server):
    def handle(self, raw: bytes) -> None:
        with self.answering:
            self.answers = self.answers or self.connect_answers()
            self.remove(raw)
        super().handle(raw)


class RemoveFailedFirst(Server):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        if b'"error"' in result:
            self.remove(raw)
        super().answer(raw, job, result)


class PlainPipeline(Server):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        assert self.answers is not None
        self.answers.send("PUBLISH", job["channel"], result)
        self.answers.send("LREM", self.list, -1, raw)
        refusals = [self.refusal(), self.refusal()]
        if refusals[0] is not None:
            raise refusals[0]

    def refusal(self) -> ReplyError | None:
        assert self.answers is not None
        try:
            self.answers.read()
        except ReplyError as refusal:
            return refusal
        return None


class PublishRefusedIgnored(Server):
    def publish(self, channel: str, result: bytes) -> None:
        try:
            super().publish(channel, result)
        except ReplyError as refusal:
            self.log(str(refusal))


# server.remove


class RemoveReencoded(Server):
    def remove(self, raw: bytes) -> None:
        try:
            super().remove(json.dumps(json.loads(raw)).encode())
        except ValueError:
            super().remove(raw)


class RemoveReencodedCompact(Server):
    def remove(self, raw: bytes) -> None:
        try:
            job = json.loads(raw)
            super().remove(json.dumps(job, separators=(",", ":"), ensure_ascii=False).encode())
        except ValueError:
            super().remove(raw)


class RemoveStripped(Server):
    def remove(self, raw: bytes) -> None:
        super().remove(raw.strip())


class RemoveDecoded(Server):
    def remove(self, raw: bytes) -> None:
        super().remove(raw.decode(errors="replace").encode())


class RemoveNever(Server):
    def remove(self, raw: bytes) -> None:
        pass


class RemoveNotErrors(Server):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        self.publish(job["channel"], result)
        if b'"error"' not in result:
            self.remove(raw)


class RemoveNotWhenNobodyListens(Server):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        if self.ask("PUBLISH", job["channel"], result) > 0:
            self.remove(raw)


class RemoveOldest(Server):
    def remove(self, raw: bytes) -> None:
        self.ask("RPOP", self.list)


class RemoveNewest(Server):
    def remove(self, raw: bytes) -> None:
        self.ask("LPOP", self.list)


class RemoveList(Server):
    def remove(self, raw: bytes) -> None:
        self.ask("DEL", self.list)


class RemoveAllCopies(Server):
    def remove(self, raw: bytes) -> None:
        self.ask("LREM", self.list, 0, raw)


class RemoveRewritten(Server):
    def handle(self, raw: bytes) -> None:
        if self.read(raw) is not None:
            with self.answering:
                self.answers = self.answers or self.connect_answers()
                self.ask("LPUSH", self.list, raw.rstrip()[:-1] + b', "state": "running"}')
                super().remove(raw)
        super().handle(raw)


class RemoveFromQueueToo(Server):
    def remove(self, raw: bytes) -> None:
        super().remove(raw)
        self.ask("LREM", self.queue, 0, raw)


class RemoveByPrefix(Server):
    def remove(self, raw: bytes) -> None:
        for entry in self.ask("LRANGE", self.list, 0, -1):
            if entry[:32] == raw[:32]:
                super().remove(entry)


class GoneEndsServer(Server):
    def on_gone(self, raw: bytes) -> None:
        os._exit(1)


class GoneRunsAgain(Server):
    def on_gone(self, raw: bytes) -> None:
        raise ConnectionError("the removal found nothing, so it is tried again")


class GoneStopsServing(Server):
    def on_gone(self, raw: bytes) -> None:
        self.stopping = True


# server.security


class LogsUrl(Server):
    def connect(self) -> None:
        self.log(f"connecting to {self.url}")
        super().connect()


class LogsUrlWhenLost(Server):
    def on_lost(self, lost: Exception) -> None:
        self.log(f"lost {self.url}")
        super().on_lost(lost)


class LogsUrlWhenStopped(Server):
    def serve(self) -> int:
        status = super().serve()
        self.log(f"stopped at {self.url}")
        return status


class NeedsInfo(Server):
    def connect(self) -> None:
        super().connect()
        assert self.claims is not None
        self.claims.call("INFO", "server")
