"""Servers that keep no result, another one, elsewhere, or not for long enough (spec §7.12).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from typing import TYPE_CHECKING

from attempts_server import AttemptsServer
from expiry_server import ExpiryServer
from keeping_server import KeepingServer
from resp import ReplyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from base_server import Job, Json


# server.kept.stores


class KeepsNothing(KeepingServer):
    def keep_ms(self, job: Job) -> int:
        return 0


class ExpiredIsNotKept(KeepingServer, ExpiryServer):
    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        if b'"expired"' not in result:
            super().keep_result(raw, result, keep_ms)


class GivenUpIsNotKept(KeepingServer, AttemptsServer):
    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        if not self.exceeds(raw):
            super().keep_result(raw, result, keep_ms)


class DigestOfAStrippedMessage(KeepingServer):
    def digest(self, raw: bytes) -> str:
        return super().digest(raw.strip())


class PublishesThenStores(KeepingServer):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        self.publish(job["channel"], result)
        if keep_ms := self.keep_ms(job):
            self.keep_result(raw, result, keep_ms)
        self.remove(raw)


class StoresWhatItHasRemoved(KeepingServer):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        self.publish(job["channel"], result)
        self.remove(raw)
        if keep_ms := self.keep_ms(job):
            self.keep_result(raw, result, keep_ms)


class KeepsOtherBytes(KeepingServer):
    def store(self, key: str, result: bytes, keep_ms: int) -> None:
        super().store(key, json.dumps(json.loads(result), indent=1).encode(), keep_ms)


class KeepsTheBareValue(KeepingServer):
    def store(self, key: str, result: bytes, keep_ms: int) -> None:
        answer = json.loads(result)
        super().store(key, self.dump(answer.get("result", answer.get("error"))), keep_ms)


class KeepsForEver(KeepingServer):
    def store(self, key: str, result: bytes, keep_ms: int) -> None:
        self.ask("SET", key, result, "NX")


class KeepsForSeconds(KeepingServer):
    def store(self, key: str, result: bytes, keep_ms: int) -> None:
        self.ask("SET", key, result, "NX", "EX", keep_ms)


class KeepsForTheLimit(KeepingServer):
    def rounded(self, asked: float) -> int:
        return self.keep_max_ms


class KeepsUnderAnotherDigest(KeepingServer):
    def digest(self, raw: bytes) -> str:
        return hashlib.sha256(raw).hexdigest()[:40]


class KeepsUnderCapitals(KeepingServer):
    def digest(self, raw: bytes) -> str:
        return super().digest(raw).upper()


class KeepsUnderWhatItRead(KeepingServer):
    """It writes the job again, and takes the digest of that."""

    def digest(self, raw: bytes) -> str:
        return super().digest(json.dumps(json.loads(raw)).encode())


class KeepsUnderTheId(KeepingServer):
    def digest(self, raw: bytes) -> str:
        return super().digest(json.loads(raw)["id"].encode())


class KeepsUnderAnotherQueue(KeepingServer):
    def result_key(self, raw: bytes) -> str:
        return f"job-queue:result:{self.digest(raw)}"


class KeepsOnlyValues(KeepingServer):
    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        if b'"error"' not in result:
            super().keep_result(raw, result, keep_ms)


class KeepsNoRegistryErrors(KeepingServer):
    """It keeps what a handler says, an error or a value."""

    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        if json.loads(result).get("error", {}).get("code") in {None, "handler-error"}:
            super().keep_result(raw, result, keep_ms)


class KeepsNoNull(KeepingServer):
    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        if json.loads(result).get("result", "") is not None:
            super().keep_result(raw, result, keep_ms)


class KeepsNothingLarge(KeepingServer):
    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        if len(result) <= 65_536:
            super().keep_result(raw, result, keep_ms)


class KeepsAsciiOnly(KeepingServer):
    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        if result.isascii():
            super().keep_result(raw, result, keep_ms)


class KeepsOnlyTheFirst(KeepingServer):
    kept = 0

    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        self.kept += 1
        if self.kept == 1:
            super().keep_result(raw, result, keep_ms)


class KeepsEight(KeepingServer):
    kept = 0

    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        self.kept += 1
        if self.kept <= 8:
            super().keep_result(raw, result, keep_ms)


class KnowsWhatItFound(KeepingServer):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.found: Counter[bytes] = Counter()

    def start_found(self, raw: bytes) -> None:
        self.found[raw] += 1
        super().start_found(raw)


class KeepsNothingFound(KnowsWhatItFound):
    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        if not self.found[raw]:
            super().keep_result(raw, result, keep_ms)


class KeepsNothingAfterALoss(KeepingServer):
    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        if not self.was_lost:
            super().keep_result(raw, result, keep_ms)


class StoresOnce(KeepingServer):
    """It doesn't store again what it had sent when its connection was lost."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.sent: set[bytes] = set()

    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        if raw not in self.sent:
            self.sent.add(raw)
            super().keep_result(raw, result, keep_ms)


class KeepsNothingOnceForbidden(KeepingServer):
    may_keep = True

    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        if self.may_keep:
            super().keep_result(raw, result, keep_ms)

    def gives_up_keeping(self, raw: bytes, refusal: str) -> bool:
        self.may_keep = not refusal.startswith("NOPERM")
        return super().gives_up_keeping(raw, refusal)


# server.kept.first


class KeepsTheLast(KeepingServer):
    def store(self, key: str, result: bytes, keep_ms: int) -> None:
        self.ask("SET", key, result, "PX", keep_ms)


class KeepsTheLastOfWhatItFound(KnowsWhatItFound):
    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        if self.found[raw]:
            self.ask("SET", self.result_key(raw), result, "PX", keep_ms)
        else:
            super().keep_result(raw, result, keep_ms)


class ExtendsTheFirst(KeepingServer):
    def store(self, key: str, result: bytes, keep_ms: int) -> None:
        if self.ask("SET", key, result, "NX", "PX", keep_ms) is None:
            self.ask("PEXPIRE", key, keep_ms)


class DeletesTheFirst(KeepingServer):
    def store(self, key: str, result: bytes, keep_ms: int) -> None:
        if self.ask("SET", key, result, "NX", "PX", keep_ms) is None:
            self.ask("DEL", key)


# server.kept.value


class PassesTheTimeOn(KeepingServer):
    def rounded(self, asked: float) -> int:
        return asked  # type: ignore[return-value] # that is the bug


class KeepsForWholeSeconds(KeepingServer):
    def rounded(self, asked: float) -> int:
        return super().rounded(asked) // 1000 * 1000 or 1


class KeepsForASecondBegun(KeepingServer):
    def rounded(self, asked: float) -> int:
        return -(-super().rounded(asked) // 1000) * 1000


class ParsesTheTime(KeepingServer):
    def keep_ms(self, job: Job) -> int:
        asked: Json = job.get("keep_ms")
        try:
            asked = float(asked) if isinstance(asked, str) else asked
        except ValueError:
            return 0
        return super().keep_ms(job | {"keep_ms": asked})


class TrueIsOne(KeepingServer):
    """Kept for a millisecond, which nobody would see: it takes the number for seconds."""

    def keep_ms(self, job: Job) -> int:
        asked: Json = job.get("keep_ms")
        return super().keep_ms(job | {"keep_ms": 60_000 if asked is True else asked})


class KeepsNegativeTimes(KeepingServer):
    def keep_ms(self, job: Job) -> int:
        asked: Json = job.get("keep_ms")
        return super().keep_ms(job | {"keep_ms": abs(asked) if self.is_number(asked) else asked})

    def is_number(self, asked: Json) -> bool:
        return isinstance(asked, int | float) and not isinstance(asked, bool)


class OddTimesToKeepAreInvalid(KeepingServer):
    def outcome(self, raw: bytes, job: Job) -> dict[str, Json]:
        asked = job.get("keep_ms")
        if asked is not None and not self.is_duration(asked):
            return self.error("invalid-job", "keep_ms must be a number of at least 1")
        return super().outcome(raw, job)


class OddTimesAreTheLimit(KeepingServer):
    def keep_ms(self, job: Job) -> int:
        return super().keep_ms(job) or (self.keep_max_ms if job.get("keep_ms") is not None else 0)


class KeepsWithoutBeingAsked(KeepingServer):
    def keep_ms(self, job: Job) -> int:
        return super().keep_ms(job | {"keep_ms": job.get("keep_ms", 60_000)})


class KeepsOnceAsked(KeepingServer):
    """Once a job has asked, the results of all others are stored, too."""

    asked: Json = None

    def keep_ms(self, job: Job) -> int:
        self.asked = job.get("keep_ms", self.asked)
        return super().keep_ms(job | {"keep_ms": self.asked})


class KeepsIntegersOnly(KeepingServer):
    def is_duration(self, asked: Json) -> bool:
        return isinstance(asked, int) and super().is_duration(asked)


class KeepsBeyondTheLimit(KeepingServer):
    def rounded(self, asked: float) -> int:
        return int(min(asked, 1e15))


class KeepsWithinALimitOfItsOwn(KeepingServer):
    def rounded(self, asked: float) -> int:
        return int(min(asked, 3_600_000))


class KeepsNothingBeyondTheLimit(KeepingServer):
    def is_duration(self, asked: Json) -> bool:
        return super().is_duration(asked) and asked <= self.keep_max_ms


class KeepsUntilATimeOfItsOwn(KeepingServer):
    def store(self, key: str, result: bytes, keep_ms: int) -> None:
        until_ms = int(time.time() * 1_000) + keep_ms
        self.ask("SET", key, result, "NX", "PXAT", until_ms)


class NoLimitIsNone(KeepingServer):
    def rounded(self, asked: float) -> int:
        return int(min(asked, self.keep_max_ms or 3_600_000))


# server.kept.again


class GivesUpKeepingAtOnce(KeepingServer):
    def gives_up_keeping(self, raw: bytes, refusal: str) -> bool:
        return refusal.startswith(("OOM", "NOPERM"))


class TriesAgainOnlyOnce(KeepingServer):
    def gives_up_keeping(self, raw: bytes, refusal: str) -> bool:
        again = raw in self.refused_at
        return super().gives_up_keeping(raw, refusal) or again


class StandsStillWhileItTries(KeepingServer):
    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        while True:
            try:
                super().keep_result(raw, result, keep_ms)
                break
            except ReplyError:
                self.back_off(1)


class TriesOnThroughAStop(KeepingServer):
    def gives_up_keeping(self, raw: bytes, refusal: str) -> bool:
        return not self.stopping and super().gives_up_keeping(raw, refusal)


# server.kept.refused


class BuriesWhatItCantKeep(KeepingServer):
    def keep_result(self, raw: bytes, result: bytes, keep_ms: int) -> None:
        try:
            super().keep_result(raw, result, keep_ms)
        except ReplyError as refusal:
            raise ReplyError(f"NOPERM on the channel of results: {refusal}") from refusal

    def gives_up_keeping(self, raw: bytes, refusal: str) -> bool:
        return False


class RemovesWhatItCantKeep(KeepingServer):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        try:
            super().answer(raw, job, result)
        except ReplyError:
            self.remove(raw)

    def gives_up_keeping(self, raw: bytes, refusal: str) -> bool:
        return False


class TriesForEver(KeepingServer):
    def gives_up_keeping(self, raw: bytes, refusal: str) -> bool:
        return False


class TriesForEverWithoutMemory(KeepingServer):
    def gives_up_keeping(self, raw: bytes, refusal: str) -> bool:
        return self.stopping or refusal.startswith("NOPERM")


# server.kept.first, without transactions


class ReplacesWithoutTransactions(KeepingServer):
    def store(self, key: str, result: bytes, keep_ms: int) -> None:
        try:
            self.ask("MULTI")
            self.ask("DISCARD")
        except ReplyError:
            self.ask("SET", key, result, "PX", keep_ms)
        else:
            super().store(key, result, keep_ms)


class TriesForTwoSeconds(KeepingServer):
    def gives_up_keeping(self, raw: bytes, refusal: str) -> bool:
        since = self.refused_at.get(raw, time.monotonic())
        return super().gives_up_keeping(raw, refusal) or time.monotonic() > since + 2.0


class KeepsSixtyFour(KeepingServer):
    kept = 0

    def store(self, key: str, result: bytes, keep_ms: int) -> None:
        self.kept += 1
        if self.kept <= 64:
            super().store(key, result, keep_ms)
