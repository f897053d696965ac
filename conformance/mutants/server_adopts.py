"""Servers that scan, adopt or prune wrongly (spec §7.11).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from resp import ReplyError
from takeover_server import SCRIPTS, TakeoverServer

if TYPE_CHECKING:
    from collections.abc import Iterator


class OtherScript(TakeoverServer):
    """One with other words in the script that adopts; `edits` are what stands there, and what stands there instead."""

    edits: ClassVar[dict[str, str]] = {}

    def adopt(self, key: bytes) -> bytes | None:
        script = SCRIPTS["adopt"]
        for words, others in self.edits.items():
            assert words in script
            script = script.replace(words, others)
        keys = (self.processors, self.lease, self.lease_of(key), self.target(), key)
        raw: bytes | None = self.within_lease(
            "EVAL", script, 5, *keys, self.token, self.lease_ms, self.grace_ms
        )
        return raw

    def target(self) -> str:
        return self.list


# server.takeover.adopts


class AdoptsToTheQueue(OtherScript):
    def target(self) -> str:
        return self.queue

    def adopt(self, key: bytes) -> bytes | None:
        super().adopt(key)
        return None


class AdoptsInPlace(TakeoverServer):
    def adopt(self, key: bytes) -> bytes | None:
        assert self.claims is not None
        raw: bytes | None = self.claims.call("LINDEX", key, -1)
        return raw

    def remove(self, raw: bytes) -> None:
        for key, _ in [*self.registered]:
            self.ask("LREM", key, -1, raw)
        super().remove(raw)

    def registrations(self) -> Iterator[tuple[bytes, bytes]]:
        self.registered = [*super().registrations()]
        yield from self.registered


class AdoptsNewestFirst(OtherScript):
    edits: ClassVar = {"'RIGHT', 'LEFT'": "'LEFT', 'LEFT'"}


class AdoptsAllAtOnce(TakeoverServer):
    def adopt(self, key: bytes) -> bytes | None:
        raw = super().adopt(key)
        while raw is not None and super().adopt(key) is not None:
            pass
        return raw


class AdoptsByAPop(TakeoverServer):
    def adopt(self, key: bytes) -> bytes | None:
        assert self.claims is not None
        raw: bytes | None = self.claims.call("RPOP", key)
        if raw is not None:
            self.claims.call("LPUSH", self.list, raw)
        return raw


class AdoptsWithoutACount(TakeoverServer):
    def start_adopted(self, raw: bytes) -> None:
        self.start(raw)


class AdoptsWithAllHandsBusy(TakeoverServer):
    def wait_for_slot(self) -> None:
        if not self.due:
            super().wait_for_slot()


class AdoptsWhatOthersMarked(TakeoverServer):
    def due_in(self, key: bytes, value: int, now_ms: int) -> float:
        return super().due_in(key, value, now_ms) if value else self.lease_ms


# server.takeover.only-lapsed


class AdoptsAfterAQuestion(TakeoverServer):
    def adopt(self, key: bytes) -> bytes | None:
        assert self.claims is not None
        if self.claims.call("EXISTS", self.lease_of(key)):
            return None
        raw: bytes | None = self.within_lease("LMOVE", key, self.list, "RIGHT", "LEFT")
        return raw


class AdoptsUnfenced(OtherScript):
    edits: ClassVar = {"redis.call('GET', KEYS[2]) ~= ARGV[1] or ": ""}


class AdoptsFromTheLiving(OtherScript):
    edits: ClassVar = {" or redis.call('EXISTS', KEYS[3]) == 1": ""}

    def due_in(self, _key: bytes, _value: int, _now_ms: int) -> float:
        return 0


# server.takeover.marked


class AdoptsAtFirstSight(OtherScript):
    edits: ClassVar = {
        "if v == 0 or math.abs(v) > now then": "if v == 0 then v = 1 end\nif false then"
    }


class MarksInItsMemory(OtherScript):
    edits: ClassVar = AdoptsAtFirstSight.edits
    marks: ClassVar[dict[bytes, float]] = {}

    def lapsed_at(self, written: bytes, now_ms: int) -> int:
        return super().lapsed_at(written, now_ms)

    def adopt(self, key: bytes) -> bytes | None:
        marked_s = self.marks.setdefault(key, time.monotonic())
        return super().adopt(key) if time.monotonic() - marked_s >= self.lease_s else None


class MarksNoGarbage(TakeoverServer):
    def lapsed_at(self, written: bytes, _now_ms: int) -> int:
        return int(written)


class MarksNothingInTheFuture(TakeoverServer):
    def lapsed_at(self, written: bytes, now_ms: int) -> int:
        if written.lstrip(b"-").isdigit():
            return int(written)
        return super().lapsed_at(written, now_ms)


class MarksForAMoment(OtherScript):
    edits: ClassVar = {"tonumber(ARGV[2])": "1"}

    def due_in(self, key: bytes, value: int, now_ms: int) -> float:
        due_in = super().due_in(key, value, now_ms)
        return 0 if value > 0 else due_in


# server.takeover.first


class AdoptsWhenIdle(TakeoverServer):
    def take(self) -> None:
        assert self.claims is not None
        due, self.due = self.due, []
        if due and not self.claims.call("LLEN", self.queue):
            self.due, due = due, []
        super().take()
        self.due += due


class AdoptsAfterAJob(TakeoverServer):
    def connect(self) -> None:
        super().connect()
        self.scan_at_s = time.monotonic() + 0.2


class AdoptsInTurn(TakeoverServer):
    turn = False

    def take(self) -> None:
        self.turn = not self.turn
        due, self.due = self.due, [] if self.turn else self.due
        super().take()
        self.due = due if self.turn else self.due


# server.takeover.late


class EmptiedIsOver(TakeoverServer):
    def due_in(self, key: bytes, value: int, now_ms: int) -> float:
        if value < 0:
            return max(1, self.grace_ms - (now_ms + value))
        return super().due_in(key, value, now_ms)


class EmptiedForLessThanG(TakeoverServer):
    def due_in(self, key: bytes, value: int, now_ms: int) -> float:
        if value < 0 and now_ms + value > self.grace_ms:
            return self.lease_ms
        return super().due_in(key, value, now_ms)


# server.takeover.prunes


class PrunesAtOnce(OtherScript):
    edits: ClassVar = {
        "redis.call('HSET', KEYS[1], KEYS[5], -now)": "redis.call('HDEL', KEYS[1], KEYS[5])"
    }


class PrunesNever(OtherScript):
    edits: ClassVar = {"redis.call('HDEL', KEYS[1], KEYS[5])": ""}


class PrunesEarly(OtherScript):
    edits: ClassVar = {"tonumber(ARGV[3])": "ARGV[3] / 2"}

    def due_in(self, key: bytes, value: int, now_ms: int) -> float:
        due_in = super().due_in(key, value, now_ms)
        return due_in - self.grace_ms / 2 if value < 0 else due_in


class PrunesTheUsed(OtherScript):
    edits: ClassVar = {
        "local message": "if v < 0 and now + v >= tonumber(ARGV[3]) then\n"
        "redis.call('HDEL', KEYS[1], KEYS[5]) return false end\nlocal message"
    }


# server.takeover.ignores


class IgnoresNoRefusal(TakeoverServer):
    def due_in(self, key: bytes, value: int, now_ms: int) -> float:
        try:
            return super().due_in(key, value, now_ms)
        except ReplyError as refusal:
            raise ConnectionError(str(refusal)) from refusal

    def adopt(self, key: bytes) -> bytes | None:
        try:
            return super().adopt(key)
        except ReplyError as refusal:
            raise ConnectionError(str(refusal)) from refusal


class IgnoresNotTheDead(TakeoverServer):
    def is_ignored(self, key: bytes) -> bool:
        return key != self.dead.encode() and super().is_ignored(key)


class IgnoresNotTheQueue(TakeoverServer):
    def is_ignored(self, key: bytes) -> bool:
        return key != self.queue.encode() and super().is_ignored(key)


class IgnoresNotTheForeign(TakeoverServer):
    def is_ignored(self, key: bytes) -> bool:
        return key.startswith(self.queue.encode()) and b":" not in key and super().is_ignored(key)


# server.takeover.scans


class ScansOnePage(TakeoverServer):
    def registrations(self) -> Iterator[tuple[bytes, bytes]]:
        assert self.claims is not None
        _, page = self.claims.call("HSCAN", self.processors, 0)
        yield from zip(page[::2], page[1::2], strict=True)


class ScansAThousand(TakeoverServer):
    def registrations(self) -> Iterator[tuple[bytes, bytes]]:
        return islice(super().registrations(), 1000)


class ScansAtItsStart(TakeoverServer):
    def scan(self) -> None:
        super().scan()
        self.scan_at_s = float("inf")


class ScansThreeTimes(TakeoverServer):
    scanned = 0

    def scan(self) -> None:
        super().scan()
        self.scanned += 1
        if self.scanned > 2:
            self.scan_at_s = float("inf")
