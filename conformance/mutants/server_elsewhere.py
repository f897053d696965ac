"""Servers that are right where one looks first: wrong at a size, on an occasion, on one connection (spec §7).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from base_server import Json, Server
from resp import Connection, ReplyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from base_server import Job


def in_database_zero(url: str) -> str:
    return urlsplit(url)._replace(path="").geturl()


# size


class ClaimNewestOfMoreThanAThousand(Server):
    def claim(self) -> bytes | None:
        assert self.claims is not None
        if self.claims.call("LLEN", self.queue) > 1000:
            raw: bytes | None = self.claims.call("LMOVE", self.queue, self.list, "LEFT", "LEFT")
            return raw
        return super().claim()


class DeadListKeepsAThousand(Server):
    def keep(self, raw: bytes) -> None:
        super().keep(raw)
        self.ask("LTRIM", self.dead, 0, 999)


class LongIdCut(Server):
    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        return super().encode({**job, "id": job["id"][:1000]}, outcome)


class LongChannelCut(Server):
    def publish(self, channel: str, result: bytes) -> None:
        super().publish(channel[:255], result)


class ManyElementsCut(Server):
    def value(self, value: Json) -> dict[str, Json]:
        return super().value(value[:1000] if isinstance(value, list) else value)


class WholeBlocksAreDead(Server):
    def read(self, raw: bytes) -> Job | None:
        return None if len(raw) % 4096 == 0 else super().read(raw)


class LargestIsDead(Server):
    def read(self, raw: bytes) -> Job | None:
        return None if len(raw) >= 1 << 20 else super().read(raw)


class TenthLossEndsServer(Server):
    losses = 0

    def on_lost(self, lost: Exception) -> None:
        self.losses += self.claims is not None and not isinstance(lost, ConnectionRefusedError)
        if self.losses == 10:
            os._exit(1)
        super().on_lost(lost)


class TenthLossOfAnswersEndsServer(Server):
    losses = 0

    def on_answer_lost(self, lost: Exception) -> None:
        self.losses += 1
        if self.losses == 10:
            os._exit(1)
        super().on_answer_lost(lost)


class StopWaitsForThreeHandlers(Server):
    def drain(self) -> None:
        with self.changed:
            rest = max(0, self.running - 3)
            self.changed.wait_for(lambda: self.running <= rest)


class OneMoreThanTwelve(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.concurrency += self.concurrency >= 12


class RecoverAllButTheNewestRunning(Server):
    """Only the job that was started last counts as running."""

    newest = b""

    def start(self, raw: bytes) -> None:
        self.newest = raw
        super().start(raw)

    def recover(self) -> None:
        with self.answering:
            entries = self.look()
        for raw in entries:
            if raw != self.newest or not self.held[raw]:
                self.wait_for_slot()
                self.start(raw)


# occasion


class SlotLostWithAConnection(Server):
    def on_lost(self, lost: Exception) -> None:
        if self.claims is not None:
            self.concurrency = max(1, self.concurrency - 1)
        super().on_lost(lost)


class OneMoreAfterALoss(Server):
    def on_lost(self, lost: Exception) -> None:
        if not self.was_lost:
            self.concurrency += 1
        super().on_lost(lost)


class ListsOfAllRecoveredAfterALoss(Server):
    def look(self) -> list[bytes]:
        assert self.claims is not None
        others = self.claims.call("KEYS", f"{self.queue}:in-process:*") if self.was_lost else []
        for other in others:
            if other.decode() != self.list:
                self.claims.call("LMOVE", other, self.list, "RIGHT", "LEFT")
        return super().look()


class PrefixIgnoredInRecovery(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.recovered: Counter[bytes] = Counter()

    def look(self) -> list[bytes]:
        found = super().look()
        self.recovered.update(found)
        return found

    def read(self, raw: bytes) -> Job | None:
        if not self.recovered[raw]:
            return super().read(raw)
        prefix, self.prefix = self.prefix, ""
        try:
            return super().read(raw)
        finally:
            self.prefix = prefix


class DatabaseForgottenAtAReconnect(Server):
    def on_lost(self, lost: Exception) -> None:
        self.url = in_database_zero(self.url)
        super().on_lost(lost)


class StopDropsFailures(Server):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        if self.stopping and b'"error"' in result:
            self.remove(raw)
        else:
            super().answer(raw, job, result)


class StopForgetsDeadMessages(Server):
    def bury(self, raw: bytes) -> None:
        if not self.stopping:
            super().bury(raw)


class SecondSigtermEndsServer(Server):
    def on_sigterm(self, signal: int, frame: object) -> None:
        if self.stopping:
            os._exit(0)
        super().on_sigterm(signal, frame)


class StopNeverEndsWhileRefused(Server):
    refused = False

    def on_lost(self, lost: Exception) -> None:
        self.refused = isinstance(lost, ConnectionRefusedError)
        super().on_lost(lost)

    def gives_up(self) -> bool:
        return super().gives_up() and not self.refused


class StopWaitsForASilentRedis(Server):
    def on_lost(self, lost: Exception) -> None:
        self.wait_where_silent(lost)
        super().on_lost(lost)

    def on_answer_lost(self, lost: Exception) -> None:
        self.wait_where_silent(lost)
        super().on_answer_lost(lost)

    def wait_where_silent(self, lost: Exception) -> None:
        while self.stopping and isinstance(lost, TimeoutError):
            time.sleep(1.0)


class RefusedAtItsStartEndsWithStatusZero(Server):
    def on_lost(self, lost: Exception) -> None:
        if self.claims is None and isinstance(lost, ConnectionRefusedError):
            os._exit(0)
        super().on_lost(lost)


# connection, answer


class AnswersInDatabaseZero(Server):
    def connect_answers(self) -> Connection:
        return Connection(in_database_zero(self.url), self.silence_s)


class SilentAnswersForever(Server):
    def connect_answers(self) -> Connection:
        answers = super().connect_answers()
        answers.socket.settimeout(None)
        return answers


class GivesUp(Server):
    """Buries a message whose answer has failed three times."""

    counted: type[Exception]  # which failures

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.failed: Counter[bytes] = Counter()

    def finish(self, raw: bytes, job: Job | None, result: bytes | None) -> None:
        if self.failed[raw] == 3:
            self.answers = self.answers or self.connect_answers()
            self.bury(raw)
            return
        try:
            super().finish(raw, job, result)
        except (OSError, ReplyError) as lost:
            self.failed[raw] += isinstance(lost, self.counted)
            raise


class AnswerLostThriceIsDead(GivesUp):
    counted = OSError


class AnswerRefusedThriceIsDead(GivesUp):
    counted = ReplyError


class RemovalLostThriceIsForgotten(Server):
    lost = 0

    def remove(self, raw: bytes) -> None:
        try:
            super().remove(raw)
        except OSError:
            self.lost += 1
            if self.lost % 3:
                raise
            self.answers = None
            self.held[raw] += 1  # so that no later look at the list takes it for a lost one


# settings


class HandlersShareTheirJob(Server):
    """Where several handlers run, each answers under the id of the job that was started last."""

    latest: Job | None = None

    def run(self, job: Job) -> dict[str, Json]:
        self.latest = job
        return super().run(job)

    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        return super().encode(self.latest or job, outcome)
