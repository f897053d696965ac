"""Servers that treat what they adopt otherwise than what they claim, or stop where Redis has refused (spec §7.11).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from expiry_server import ExpiryServer
from keeping_server import KeepingServer
from resp import ReplyError
from takeover_server import TakeoverServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from base_server import Job, Json


class KnowsTheAdopted(TakeoverServer):
    """One that knows which entries it has adopted."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.adopted: set[bytes] = set()

    def start_adopted(self, raw: bytes) -> None:
        self.adopted.add(raw)
        super().start_adopted(raw)


class AdoptedAndDeadIsForgotten(KnowsTheAdopted):
    def keep(self, raw: bytes) -> None:
        if raw not in self.adopted:
            super().keep(raw)


class AdoptedIsNotKept(KeepingServer, KnowsTheAdopted):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        super().answer(raw, {**job, "keep_ms": None} if raw in self.adopted else job, result)


class AdoptedNeverExpires(ExpiryServer, KnowsTheAdopted):
    def outcome(self, raw: bytes, job: Job) -> dict[str, Json]:
        adopted = raw in self.adopted
        return super().outcome(raw, {**job, "expires_at_ms": None} if adopted else job)


class AdoptedFromAnyPrefix(KnowsTheAdopted):
    def read(self, raw: bytes) -> Job | None:
        if raw in self.adopted:
            self.prefix = ""
        return super().read(raw)


class AdoptedStartsBesideAny(KnowsTheAdopted):
    def wait_for_place(self, _before: int) -> None:
        self.wait_for_slot()


class AdoptsFromUsualNamesOnly(TakeoverServer):
    def is_ignored(self, key: bytes) -> bool:
        return super().is_ignored(key) or b":in-process:" not in key


class AdoptsAHundredAndTwentyEight(TakeoverServer):
    adoptions = 0

    def adopt(self, key: bytes) -> bytes | None:
        self.adoptions += 1
        return super().adopt(key) if self.adoptions <= 128 else None


class AdoptsFromEightListsInAScan(TakeoverServer):
    def scan(self) -> None:
        super().scan()
        del self.due[8:]


class StopDropsAnAdoption(TakeoverServer):
    def start_adopted(self, raw: bytes) -> None:
        if not self.stopping:
            super().start_adopted(raw)


class SkipsRefused(TakeoverServer):
    """One that doesn't adopt from a list any more, once it was refused so."""

    refusals = ""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.skipped: set[bytes] = set()

    def adopt(self, key: bytes) -> bytes | None:
        try:
            return super().adopt(key)
        except ReplyError as refusal:
            if re.search(self.refusals, str(refusal)):
                self.skipped.add(key)
            raise

    def is_ignored(self, key: bytes) -> bool:
        return super().is_ignored(key) or key in self.skipped

    def connect(self) -> None:
        super().connect()
        self.due = []


class SkipsForGoodWhereMemoryWasShort(SkipsRefused):
    refusals = "OOM"


class SkipsForGoodWhatAReplicaRefused(SkipsRefused):
    refusals = "READONLY"


class TrustsWhoeverScans(TakeoverServer):
    def scan(self) -> None:
        assert self.claims is not None
        if self.claims.call("EXISTS", f"{self.queue}:scanned"):
            self.scan_at_s = time.monotonic() + self.lease_s
        else:
            super().scan()


class RegistersThoughItIsRefused(TakeoverServer):
    def ask_for_lease(self) -> Iterator[Any]:
        was_set, holder, created = super().ask_for_lease()
        return iter((was_set, holder, 0 if isinstance(created, ReplyError) else created))


class WaitsForALeaseThroughAStop(TakeoverServer):
    def acquire(self) -> bool:
        acquired = super().acquire()
        self.stopping = self.stopping and acquired
        return acquired

    def wait_for_lease(self) -> None:
        super().wait_for_lease()
        self.stopping = False


class KnowsWhenItIsIdle(TakeoverServer):
    """One that knows whether its last claim got nothing."""

    idle = True

    def claim(self) -> bytes | None:
        raw = super().claim()
        self.idle = raw is None
        return raw


class LooksAgainWhenIdleOnly(KnowsWhenItIsIdle):
    def look_is_due(self) -> bool:
        again = bool(self.looks_at) and self.looks_at[0] >= self.second_look_at
        return super().look_is_due() and (self.idle or not again)


class LooksLaterWhenIdleOnly(KnowsWhenItIsIdle):
    def look_is_due(self) -> bool:
        later = bool(self.looks_at) and self.looks_at[0] > self.second_look_at
        return super().look_is_due() and (self.idle or not later)
