"""The base server with the feature `kept-results`: a result is stored, then published, then its job removed."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from base_server import Job, Json, Server
from resp import ReplyError

if TYPE_CHECKING:
    from collections.abc import Mapping

TRY_S = 5.0  # for which it tries to store a result in a Redis that is full


class NoMemory(ReplyError):
    """Redis is full, so the job's thread tries again, while others go on."""


class KeepingServer(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.keep_max_ms = int(environment.get("JOBQUEUE_KEEP_MAX_MS", "3600000"))
        self.refused_at: dict[bytes, float] = {}

    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        keep_ms = self.keep_ms(job)
        if keep_ms:
            self.keep_result(raw, result, keep_ms)
        super().answer(raw, job, result)

    def keep_ms(self, job: Job) -> int:
        """For how long the result of a job is stored; 0 where it isn't."""
        asked: Json = job.get("keep_ms")
        return self.rounded(asked) if self.is_duration(asked) else 0

    def is_duration(self, asked: Json) -> bool:
        return isinstance(asked, int | float) and not isinstance(asked, bool) and asked >= 1

    def rounded(self, asked: float) -> int:
        return int(min(asked, self.keep_max_ms))

    def result_key(self, raw: bytes) -> str:
        return f"{self.queue}:result:{self.digest(raw)}"

    def digest(self, raw: bytes) -> str:
        return hashlib.sha1(raw, usedforsecurity=False).hexdigest()

    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        try:
            self.store(self.result_key(raw), result, keep_ms)
        except ReplyError as refusal:
            if self.gives_up_keeping(raw, str(refusal)):
                self.log(f"a result isn't stored: {refusal}")
            elif str(refusal).startswith("OOM"):
                raise NoMemory(str(refusal)) from refusal
            else:
                raise

    def on_answer_lost(self, lost: Exception) -> None:
        if not isinstance(lost, NoMemory):
            super().on_answer_lost(lost)

    def store(self, key: str, result: bytes, keep_ms: int) -> None:
        self.ask("SET", key, result, "NX", "PX", keep_ms)

    def gives_up_keeping(self, raw: bytes, refusal: str) -> bool:
        if refusal.startswith("OOM"):
            since = self.refused_at.setdefault(raw, time.monotonic())
            return self.stopping or time.monotonic() > since + TRY_S
        return refusal.startswith("NOPERM")
