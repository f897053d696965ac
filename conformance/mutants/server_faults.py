"""Servers that only a fault shows to be wrong (spec §7.3, §7.5, §7.6).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from base_server import Job, Json, Server
from resp import Connection, ReplyError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping


# server.publish.noperm, server.publish.again


class ForbiddenRetried(Server):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        try:
            super().answer(raw, job, result)
        except ReplyError as refusal:
            raise ConnectionError(str(refusal)) from refusal


class ForbiddenEndsServer(Server):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        try:
            super().answer(raw, job, result)
        except ReplyError:
            os._exit(1)


class ForbiddenLeft(Server):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        try:
            super().answer(raw, job, result)
        except ReplyError as refusal:
            if not str(refusal).startswith("NOPERM"):
                raise


class ForbiddenIsDeadInTransactionsOnly(Server):
    def forbids_channel(self, refusal: str) -> bool:
        assert self.answers is not None
        try:
            self.answers.call("MULTI")
            self.answers.call("DISCARD")
        except ReplyError:
            return False
        return super().forbids_channel(refusal)


class WithRefusals(Server):
    """What Redis refuses but for a reason of rights is for `on_refused`, and not for the server."""

    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        try:
            super().answer(raw, job, result)
        except ReplyError as refusal:
            if str(refusal).startswith("NOPERM"):
                raise
            self.on_refused(raw)

    def on_refused(self, raw: bytes) -> None:
        """What is wrong with each mutant that derives from this."""
        raise NotImplementedError


class RefusedLeft(WithRefusals):
    def on_refused(self, raw: bytes) -> None:
        self.held[raw] += 1  # so that no later look at the list takes it for a lost one


class RefusedEndsWithStatusZero(WithRefusals):
    def on_refused(self, raw: bytes) -> None:
        os._exit(0)


class ForbiddenCommandIsDead(Server):
    def forbids_channel(self, refusal: str) -> bool:
        return refusal.startswith("NOPERM")


class NullAfterALoss(Server):
    def value(self, value: Json) -> dict[str, Json]:
        return super().value(None if self.was_lost else value)


class LostAnswerForgotten(Server):
    def finish(self, raw: bytes, job: Job | None, result: bytes | None) -> None:
        try:
            super().finish(raw, job, result)
        except OSError as lost:
            self.on_answer_lost(lost)
            self.held[raw] += 1  # so that no look finds it


class LostAnswerRemoved(Server):
    lost_once = False

    def on_answer_lost(self, lost: Exception) -> None:
        super().on_answer_lost(lost)
        self.lost_once = True

    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        if self.lost_once:
            self.lost_once = False
            self.remove(raw)
        else:
            super().answer(raw, job, result)


class LooksTwiceOnly(Server):
    def next_look(self) -> None:
        self.looks_at.pop(0)


class LostRemovalForgotten(LooksTwiceOnly):
    def remove(self, raw: bytes) -> None:
        try:
            super().remove(raw)
        except OSError:
            self.answers = None


# server.connection.survives


class LostEndsServer(Server):
    def on_lost(self, lost: Exception) -> None:
        if self.claims is not None:
            os._exit(1)


class LostTwiceEndsServer(Server):
    def on_lost(self, lost: Exception) -> None:
        if self.was_lost:
            os._exit(1)
        super().on_lost(lost)


class LostForGood(Server):
    def on_lost(self, lost: Exception) -> None:
        signal.pause()


class LostAnswersForGood(Server):
    def connect_answers(self) -> Connection:
        if self.was_lost:
            raise ConnectionError("the one connection for answers is lost")
        return super().connect_answers()


class RefusedClaimEndsWithStatusZero(Server):
    def claim(self) -> bytes | None:
        try:
            return super().claim()
        except ReplyError:
            os._exit(0)


class RefusedClaimHangs(Server):
    def claim(self) -> bytes | None:
        try:
            return super().claim()
        except ReplyError:
            signal.pause()
            raise


class AbsentEndsWithStatusZero(Server):
    has_looked = False

    def look(self) -> list[bytes]:
        entries = super().look()
        self.has_looked = True
        return entries

    def on_lost(self, lost: Exception) -> None:
        if not self.has_looked:
            os._exit(0)
        super().on_lost(lost)


class SilentForever(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.silence_s = 600.0


class SilentClaimsForever(Server):
    def connect(self) -> None:
        super().connect()
        assert self.claims is not None
        self.claims.socket.settimeout(None)


class LeaksLostConnections(Server):
    def on_lost(self, lost: Exception) -> None:
        self.leaked = [*getattr(self, "leaked", []), self.claims]
        self.claims = None
        self.was_lost = True


class LeaksLostAnswers(Server):
    def on_answer_lost(self, lost: Exception) -> None:
        self.leaked = [*getattr(self, "leaked", []), self.answers]
        self.answers = None
        super().on_answer_lost(lost)


class WithUrl(Server):
    """Uses a database of its own choice."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        base, _, number = self.url.rpartition("/")
        if number.isdigit():
            self.url = f"{base}/{self.database(number)}"

    def database(self, number: str) -> str:
        """Which number is taken for the one in the URL."""
        raise NotImplementedError


class DatabaseZero(WithUrl):
    def database(self, _number: str) -> str:
        return "0"


class DatabaseByItsLastDigit(WithUrl):
    def database(self, number: str) -> str:
        return number[-1]


class DatabaseOneByDefault(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        if not self.url.rpartition("/")[2].isdigit():
            self.url += "/1"


# server.recovery


class ClaimBeforeRecovery(Server):
    def connect(self) -> None:
        super().connect()
        self.take()


class RecoverNothing(Server):
    def look(self) -> list[bytes]:
        return []


class RecoverOneAtStart(LooksTwiceOnly):
    def look(self) -> list[bytes]:
        return super().look()[:1]


class RecoverAtMostTen(Server):
    def look(self) -> list[bytes]:
        return super().look()[:10]


class RecoverTwiceAfterALoss(Server):
    def look(self) -> list[bytes]:
        found = super().look()
        return [raw for raw in found for _ in range(2)] if self.was_lost else found


class RecoverNewestFirst(Server):
    def look(self) -> list[bytes]:
        return super().look()[::-1]


class RecoverByRequeue(Server):
    def look(self) -> list[bytes]:
        assert self.claims is not None
        if not self.was_lost:
            while self.claims.call("LMOVE", self.list, self.queue, "RIGHT", "LEFT") is not None:
                pass
        return super().look()


class RecoverByPop(Server):
    def look(self) -> list[bytes]:
        entries = super().look()
        if not self.was_lost:
            assert self.claims is not None
            self.claims.call("DEL", self.list)
        return entries


class RecoverOnlyAtStart(Server):
    def schedule_looks(self) -> None:
        super().schedule_looks()
        if self.was_lost:
            self.looks_at.clear()


class RecoverWhenIdle(LooksTwiceOnly):
    def look(self) -> list[bytes]:
        if self.was_lost and self.running:
            return []
        return super().look()


class RecoverAsSet(LooksTwiceOnly):
    def look(self) -> list[bytes]:
        return [raw for raw in super().look() if self.held[raw] == 0]


class RecoverRunning(Server):
    def recover(self) -> None:
        for raw in self.look():
            self.wait_for_slot()
            self.start(raw)


class RecoverUnconfirmed(Server):
    def on_answer_lost(self, lost: Exception) -> None:
        super().on_answer_lost(lost)
        self.held.clear()

    def recover(self) -> None:  # without waiting for an answer that is under way
        for raw in self.look():
            if self.held[raw] <= 0:
                self.wait_for_slot()
                self.start(raw)


class LookWhileClaiming(Server):
    def claim(self) -> bytes | None:
        assert self.claims is not None
        self.claims.send("BLMOVE", self.queue, self.list, "RIGHT", "LEFT", str(self.block_s))
        if self.was_lost:
            self.look_aside()
        raw: bytes | None = self.claims.read()
        return raw

    def look_aside(self) -> None:
        aside = Connection(self.url, self.silence_s)
        for raw in aside.call("LRANGE", self.list, 0, -1):
            if self.held[raw] == 0:
                self.start(raw)
        aside.close()


class LookBeforeNotingRunning(Server):
    def recover(self) -> None:
        entries = self.look()
        held: Counter[bytes] = self.held.copy()
        for raw in entries:
            if held[raw] > 0:
                held[raw] -= 1
            else:
                self.wait_for_slot()
                self.start(raw)


class LookTwice(LooksTwiceOnly):
    pass


class LookOnce(LooksTwiceOnly):
    def schedule_looks(self) -> None:
        super().schedule_looks()
        self.looks_at.pop()


class LookTwiceAtOnce(LooksTwiceOnly):
    def schedule_looks(self) -> None:
        super().schedule_looks()
        self.looks_at[1] = self.looks_at[0]


class LookLateAfterALoss(Server):
    def schedule_looks(self) -> None:
        super().schedule_looks()
        if self.was_lost:
            self.looks_at.pop(0)


class LookTwiceAtStartOnly(LooksTwiceOnly):
    def schedule_looks(self) -> None:
        super().schedule_looks()
        if self.was_lost:
            self.looks_at.pop()


class BlockForever(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.block_s = 0


class BlockLong(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.block_s = 10
