"""Servers that count wrongly, or give up the wrong entries (spec §7.9).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

from attempts_server import KEPT_S, AttemptsServer
from base_server import Server
from expiry_server import ExpiryServer
from resp import ReplyError
from takeover_server import TakeoverServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from base_server import Job, Json


# server.attempts.counts


class CountsNothing(TakeoverServer):
    def count(self, raw: bytes, before: int) -> int:
        return before + 1


class CountsWhatItFinds(TakeoverServer):
    def look(self) -> list[bytes]:
        first = self.found is None
        entries = super().look()
        for raw in entries if first else ():
            super().count(raw, 0)
        return entries

    def count(self, _raw: bytes, before: int) -> int:
        return before


class CountsWhatItClaims(TakeoverServer):
    def claim(self) -> bytes | None:
        raw = super().claim()
        if raw is not None:
            self.count(raw, 0)
        return raw


class CountsAtEveryLook(TakeoverServer):
    def is_of_another_life(self, raw: bytes) -> bool:
        return super().is_of_another_life(raw) or True


class CountsEachAnswer(TakeoverServer):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.answered: set[bytes] = set()

    def finish(self, raw: bytes, job: Job | None, result: bytes | None) -> None:
        self.answers = self.answers or self.connect_answers()
        if raw in self.counts and raw in self.answered:
            self.ask("INCR", self.key(raw))
        self.answered.add(raw)
        super().finish(raw, job, result)


class CountsNoLostAdoption(TakeoverServer):
    def look(self) -> list[bytes]:
        return AttemptsServer.look(self)


class CountsAfterTheRun(TakeoverServer):
    def count(self, _raw: bytes, before: int) -> int:
        return before + 1

    def outcome(self, raw: bytes, job: Job) -> dict[str, Json]:
        outcome = super().outcome(raw, job)
        if raw in self.counts:
            self.answers = self.answers or self.connect_answers()
            self.ask("INCR", self.key(raw))
            self.ask("EXPIRE", self.key(raw), KEPT_S)
        return outcome


class CountsForEver(TakeoverServer):
    def count(self, raw: bytes, before: int) -> int:
        count = super().count(raw, before)
        assert self.claims is not None
        self.claims.call("PERSIST", self.key(raw))
        return count


class CountsForAnHour(TakeoverServer):
    def count(self, raw: bytes, before: int) -> int:
        count = super().count(raw, before)
        assert self.claims is not None
        self.claims.call("EXPIRE", self.key(raw), 3600)
        return count


class CountsUnderAnotherDigest(TakeoverServer):
    def key(self, raw: bytes) -> str:
        return f"{self.queue}:attempts:{hashlib.sha256(raw).hexdigest()}"


class CountsByTheFirst64KibibytesOnly(TakeoverServer):
    def key(self, raw: bytes) -> str:
        return super().key(raw[: 1 << 16])


class CountsNothingOnceRefused(TakeoverServer):
    may_count = True

    def count(self, raw: bytes, before: int) -> int:
        return super().count(raw, before) if self.may_count else 1

    def on_uncounted(self, raw: bytes, refusal: ReplyError) -> int:
        self.may_count = False
        return super().on_uncounted(raw, refusal)


# server.attempts.limit


class LimitOneFewer(TakeoverServer):
    def exceeds(self, raw: bytes) -> int:
        return max(0, self.counts.get(raw, 0) - self.limit + 1)


class LimitOneMore(TakeoverServer):
    def exceeds(self, raw: bytes) -> int:
        return max(0, self.counts.get(raw, 0) - self.limit - 1)


class LimitAlwaysThree(TakeoverServer):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__({**environment, "JOBQUEUE_MAX_ATTEMPTS": "3"})


class LimitIgnored(TakeoverServer):
    def exceeds(self, _raw: bytes) -> int:
        return 0


class LimitInSilence(TakeoverServer):
    def publish(self, channel: str, result: bytes) -> None:
        if b"too-many-attempts" not in result:
            super().publish(channel, result)


class LimitAsHandlerError(TakeoverServer):
    def error(self, code: str, message: str) -> dict[str, Json]:
        return super().error("handler-error" if code == "too-many-attempts" else code, message)


class LimitAnswersOnly(TakeoverServer):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        self.publish(job["channel"], result)
        self.remove(raw)


class LimitRunsFirst(TakeoverServer):
    def outcome(self, raw: bytes, job: Job) -> dict[str, Json]:
        return self.run(job)


class LimitKeepsTheEntry(TakeoverServer):
    def bury(self, raw: bytes) -> None:
        if self.exceeds(raw) == 1:
            self.keep(raw)
        else:
            super().bury(raw)


class LimitWithTakeoverOnly(TakeoverServer):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        if "JOBQUEUE_LEASE_MS" not in environment:
            self.limit = 1_000_000


# server.attempts.unread


class UnreadAnswered(TakeoverServer):
    def exceeds(self, raw: bytes) -> int:
        return min(1, super().exceeds(raw))


class UnreadForgotten(TakeoverServer):
    def keep(self, raw: bytes) -> None:
        if self.exceeds(raw) <= 1:
            super().keep(raw)


class UnreadOnceOnly(TakeoverServer):
    def exceeds(self, raw: bytes) -> int:
        exceeds = super().exceeds(raw)
        return 1 if exceeds > 2 else exceeds


# server.attempts.alone


class AloneIgnored(TakeoverServer):
    def may_run_beside(self, _before: int) -> bool:
        return True


class AloneAmongThoseCountedBefore(TakeoverServer):
    def may_run_beside(self, before: int) -> bool:
        return not before or not self.counts


# server.attempts.refused


class RefusedIsLost(TakeoverServer):
    def count(self, raw: bytes, before: int) -> int:
        assert self.claims is not None
        try:
            self.claims.call("INCR", self.key(raw))
        except ReplyError as refusal:
            raise ConnectionError(str(refusal)) from refusal
        return super().count(raw, before) - 1


class RefusedIsTooMany(TakeoverServer):
    def count(self, raw: bytes, before: int) -> int:
        assert self.claims is not None
        try:
            count = int(self.claims.call("INCR", self.key(raw)))
        except ReplyError:
            return self.limit + 1
        self.claims.call("EXPIRE", self.key(raw), KEPT_S)
        return count


class RefusedIsLeft(TakeoverServer):
    def start_counted(self, raw: bytes) -> None:
        assert self.claims is not None
        self.wait_for_slot()
        try:
            self.claims.call("INCRBY", self.key(raw), 0)
        except ReplyError:
            assert self.found is not None
            self.found[raw] += 1  # so that no later look starts it either
            return
        super().start_counted(raw)


class CountsAStrippedMessage(AttemptsServer):
    def key(self, raw: bytes) -> str:
        return super().key(raw.strip())


# Entries that are not plain jobs, and settings that are not usual


class LetsCountsEnd(TakeoverServer):
    def count(self, raw: bytes, before: int) -> int:
        if before == 0:
            return super().count(raw, before)
        assert self.claims is not None
        return int(self.claims.call("INCR", self.key(raw)))


class CountsWhatItRunsOnly(TakeoverServer):
    def start_counted(self, raw: bytes) -> None:
        job = self.read(raw)
        if job is not None and job.get("method") in self.handlers:
            super().start_counted(raw)
        else:
            self.wait_for_slot()
            self.start(raw)


class CountsByTheText(TakeoverServer):
    def key(self, raw: bytes) -> str:
        return super().key(raw.decode(errors="replace").encode())


class ForbiddenCountIsALoss(TakeoverServer):
    def on_uncounted(self, raw: bytes, refusal: ReplyError) -> int:
        if str(refusal).startswith("NOPERM"):
            raise ConnectionError(str(refusal))
        return super().on_uncounted(raw, refusal)


class ZeroIsALimit(TakeoverServer):
    def is_unlimited(self) -> bool:
        return False


class GivenUpAndForbiddenIsRetried(TakeoverServer):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        try:
            super().answer(raw, job, result)
        except ReplyError as refusal:
            if self.exceeds(raw):
                raise ConnectionError(str(refusal)) from refusal
            raise


class ExpiryBeforeTheLimit(ExpiryServer, TakeoverServer):
    def outcome(self, raw: bytes, job: Job) -> dict[str, Json]:
        return self.run(job) if self.has_expired(job) else super().outcome(raw, job)

    def exceeds(self, raw: bytes) -> int:
        job = Server.read(self, raw)
        expired = job is not None and self.has_expired(job)
        return 0 if expired else super().exceeds(raw)


class MethodsBeforeTheLimit(TakeoverServer):
    def exceeds(self, raw: bytes) -> int:
        job = Server.read(self, raw)
        known = job is None or job.get("method") in self.handlers
        return super().exceeds(raw) if known else 0


class LimitBeforeThePrefix(TakeoverServer):
    def read(self, raw: bytes) -> Job | None:
        if self.exceeds(raw) == 1:
            self.prefix = ""
        return super().read(raw)


class ForgetsAtALossWhatItFound(TakeoverServer):
    def connect(self) -> None:
        super().connect()
        if self.found is not None:
            self.found = Counter()
