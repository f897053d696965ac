"""Servers that start what has expired, or refuse what hasn't (spec §7.10).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from expiry_server import ExpiryServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from base_server import Job, Json
    from resp import ReplyError


# server.expiry.refuses


class NeverExpires(ExpiryServer):
    def has_expired(self, job: Job) -> bool:
        return False


class ExpiresInSilence(ExpiryServer):
    def finish(self, raw: bytes, job: Job | None, result: bytes | None) -> None:
        if job is not None and result is not None and b'"expired"' in result:
            self.answers = self.answers or self.connect_answers()
            self.remove(raw)
        else:
            super().finish(raw, job, result)


class BuriesTheExpired(ExpiryServer):
    def finish(self, raw: bytes, job: Job | None, result: bytes | None) -> None:
        expired = result is not None and b'"expired"' in result
        super().finish(raw, None if expired else job, result)


class ExpiresAsATimeout(ExpiryServer):
    def refuse(self) -> dict[str, Json]:
        return self.error("handler-error", "expired")


class ExpiresOnlyOnce(ExpiryServer):
    refused = 0

    def has_expired(self, job: Job) -> bool:
        expired = super().has_expired(job)
        self.refused += expired
        return expired and self.refused == 1


class ExpiresEightTimes(ExpiryServer):
    refused = 0

    def has_expired(self, job: Job) -> bool:
        expired = super().has_expired(job)
        self.refused += expired
        return expired and self.refused <= 8


class ExpiresWholeNumbersOnly(ExpiryServer):
    def is_time(self, value: Json) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)


class ExpiresNoNegativeTime(ExpiryServer):
    def is_time(self, value: Json) -> bool:
        return super().is_time(value) and value >= 0


class ZeroIsNoTime(ExpiryServer):
    def is_time(self, value: Json) -> bool:
        return super().is_time(value) and value != 0


class RecoversTheExpired(ExpiryServer):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.found: Counter[bytes] = Counter()

    def start_found(self, raw: bytes) -> None:
        self.found[raw] += 1
        super().start_found(raw)

    def outcome(self, raw: bytes, job: Job) -> dict[str, Json]:
        if self.found[raw]:
            job = job | {"expires_at_ms": None}
        return super().outcome(raw, job)


class ExpiresWhenFound(ExpiryServer):
    """It judges when it looks and when it claims, and not when a place is free."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.seen_ms: dict[bytes, float] = {}

    def look(self) -> list[bytes]:
        entries = super().look()
        if entries:
            now_ms = self.now_ms()
            self.seen_ms.update({raw: self.seen_ms.get(raw, now_ms) for raw in entries})
        return entries

    def claim(self) -> bytes | None:
        raw = super().claim()
        if raw is not None:
            self.seen_ms[raw] = self.now_ms()
        return raw

    def outcome(self, raw: bytes, job: Job) -> dict[str, Json]:
        at_ms: Json = job.get("expires_at_ms")
        over = self.is_time(at_ms) and self.seen_ms.get(raw, 0.0) > at_ms
        return self.refuse() if over else super().outcome(raw, job | {"expires_at_ms": None})


class RemembersTheClock(ExpiryServer):
    """It asks for the time once, and then adds what passes by its own clock."""

    ahead_ms: float | None = None

    def now_ms(self) -> float:
        own_ms = time.monotonic() * 1_000
        if self.ahead_ms is None:
            self.ahead_ms = super().now_ms() - own_ms
        return own_ms + self.ahead_ms


class RemembersTheClockForAMoment(ExpiryServer):
    """It takes the time that it has asked for, and what has passed by its own clock, for good for 0.3 s."""

    asked_ms = -1_000.0
    was_ms = 0.0

    def now_ms(self) -> float:
        own_ms = time.monotonic() * 1_000
        if own_ms - self.asked_ms >= 300.0:
            self.asked_ms, self.was_ms = own_ms, super().now_ms()
        return self.was_ms + own_ms - self.asked_ms


class RunsWhatItCouldNotAskFor(ExpiryServer):
    def now_ms(self) -> float:
        try:
            return super().now_ms()
        except OSError:
            return 0.0


class ForbiddenToAskForGood(ExpiryServer):
    may_ask = True

    def is_over(self, at_ms: float) -> bool:
        return self.may_ask and super().is_over(at_ms)

    def on_no_time(self, refusal: ReplyError) -> bool:
        self.may_ask = False
        return super().on_no_time(refusal)


# server.expiry.runs


class ExpiresByItsOwnClock(ExpiryServer):
    def now_ms(self) -> float:
        return time.time() * 1_000


class AlwaysExpires(ExpiryServer):
    def has_expired(self, job: Job) -> bool:
        return self.is_time(job.get("expires_at_ms"))


class ExpiresInSeconds(ExpiryServer):
    def now_ms(self) -> float:
        return super().now_ms() * 1_000


class HugeTimesExpire(ExpiryServer):
    def is_over(self, at_ms: float) -> bool:
        return at_ms > 2**53 or super().is_over(at_ms)


class EndsWhatExpires(ExpiryServer):
    def run(self, job: Job) -> dict[str, Json]:
        outcome = super().run(job)
        return self.refuse() if self.has_expired(job) else outcome


# server.expiry.value


class StringsAreTimes(ExpiryServer):
    def has_expired(self, job: Job) -> bool:
        at_ms: Any = job.get("expires_at_ms")
        try:
            at_ms = float(at_ms) if isinstance(at_ms, str) else at_ms
        except ValueError:
            return False
        return super().has_expired(job | {"expires_at_ms": at_ms})


class TrueIsATime(ExpiryServer):
    def is_time(self, value: Json) -> bool:
        return isinstance(value, int | float)


class OddTimesAreInvalid(ExpiryServer):
    def run(self, job: Job) -> dict[str, Json]:
        at_ms = job.get("expires_at_ms")
        if at_ms is not None and not self.is_time(at_ms):
            return self.error("invalid-job", "expires_at_ms must be a number")
        return super().run(job)


class NullIsATime(ExpiryServer):
    def has_expired(self, job: Job) -> bool:
        at_ms = job.get("expires_at_ms", time.time() * 2_000)
        return super().has_expired(job | {"expires_at_ms": at_ms or 0})


# server.expiry.forbidden


class RefusesWithoutTime(ExpiryServer):
    def on_no_time(self, refusal: ReplyError) -> bool:
        return True


class CountsWholeSeconds(ExpiryServer):
    def now_ms(self) -> float:
        return super().now_ms() // 1_000 * 1_000


class InvalidExpires(ExpiryServer):
    def run(self, job: Job) -> dict[str, Json]:
        if job.get("method") == "" and self.has_expired(job):
            return self.refuse()
        return super().run(job)


class RemembersTheClockBeyondSixteen(ExpiryServer):
    asked = 0
    ahead_ms = 0.0

    def now_ms(self) -> float:
        self.asked += 1
        if self.asked <= 16:
            self.ahead_ms = super().now_ms() - time.monotonic() * 1_000
        return time.monotonic() * 1_000 + self.ahead_ms
