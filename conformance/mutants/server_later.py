"""Servers that are right at first: wrong after several losses, failures, looks or idle claims, or with more (spec §7).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import os
import socket
import unicodedata
from contextlib import suppress
from typing import TYPE_CHECKING

from base_server import Json, Server
from resp import ReplyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from base_server import Job
    from resp import Connection


# looks


class NewestFirstAfterALoss(Server):
    def look(self) -> list[bytes]:
        entries = super().look()
        return entries[::-1] if self.was_lost else entries


class NoSecondLookOnTheThirdConnection(Server):
    connections = 0

    def schedule_looks(self) -> None:
        super().schedule_looks()
        self.connections += 1
        if self.connections > 2:
            self.looks_at = self.looks_at[:1]

    def next_look(self) -> None:
        if self.connections > 2:
            self.looks_at.clear()
        else:
            super().next_look()


class NoLookAtAReconnectWhileJobsRun(Server):
    def recover(self) -> None:
        if not (self.running and self.looks_at[:1] == [self.second_look_at]):
            super().recover()


class LaterLooks(Server):
    """Leaves out entries of the looks that follow the first one of a connection."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.known: set[bytes] = set()  # what it has started

    def start(self, raw: bytes) -> None:
        self.known.add(raw)
        super().start(raw)

    def look(self) -> list[bytes]:
        found = super().look()
        first = self.looks_at[:1] == [self.second_look_at]
        return found if first else [raw for raw in found if not self.leaves_out(raw)]

    def leaves_out(self, raw: bytes) -> bool:
        """Whether this entry isn't recovered."""
        raise NotImplementedError


class CopyOfARunningEntryIsLeft(LaterLooks):
    def leaves_out(self, raw: bytes) -> bool:
        return self.held[raw] > 0


class CopyOfAFinishedEntryIsLeft(LaterLooks):
    def leaves_out(self, raw: bytes) -> bool:
        return raw in self.known and not self.held[raw]


class CopyOfAFinishedEntryIsFoundOneLookLate(LaterLooks):
    def leaves_out(self, raw: bytes) -> bool:
        suspected = raw in self.known and not self.held[raw]
        self.known.discard(raw)
        return suspected


class IdleClaimsBlockForLonger(Server):
    idle = 0

    def claim(self) -> bytes | None:
        assert self.claims is not None
        block_s = str(self.block_s) if self.idle < 5 else "8"
        raw: bytes | None = self.claims.call(
            "BLMOVE", self.queue, self.list, "RIGHT", "LEFT", block_s
        )
        self.idle = 0 if raw else self.idle + 1
        return raw


# handlers, values, channels


class AtMostThirtyTwoHandlers(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.concurrency = min(self.concurrency, 32)


class LongResultsEncodedTwice(Server):
    def dump(self, result: Json) -> bytes:
        written = super().dump(result)
        return written if len(written) <= 1 << 16 else written.decode("latin-1").encode()


class ChannelNormalized(Server):
    def publish(self, channel: str, result: bytes) -> None:
        super().publish(unicodedata.normalize("NFC", channel), result)


class RemembersForbiddenChannels(Server):
    remembered = 1 << 20  # how many characters of their names

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.forbidden: set[str] = set()

    def may_publish(self, channel: str) -> bool:
        forbidden = channel[: self.remembered] in self.forbidden
        return super().may_publish(channel) and not forbidden

    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        try:
            super().answer(raw, job, result)
        except ReplyError as refusal:
            if self.forbids_channel(str(refusal)):
                self.forbidden.add(job["channel"][: self.remembered])
            raise


class ForbiddenForGood(RemembersForbiddenChannels):
    pass


class ForbiddenByItsBeginning(RemembersForbiddenChannels):
    remembered = 8


# connections


class UrlLoggedAtTheEighthFailure(Server):
    def back_off(self, failures: int) -> None:
        if failures >= 8:
            self.log(f"still no Redis at {self.url}")
        super().back_off(failures)


class TenthFailureEndsServer(Server):
    def back_off(self, failures: int) -> None:
        if failures == 10:
            os._exit(1)
        super().back_off(failures)


class AnswersAreLostWithTheClaimsAlone(Server):
    def connect_answers(self) -> Connection:
        answers = super().connect_answers()
        answers.socket.settimeout(None)
        return answers

    def on_lost(self, lost: Exception) -> None:
        if self.answers is not None:
            with suppress(OSError):
                self.answers.socket.shutdown(socket.SHUT_RDWR)
        super().on_lost(lost)


class SilenceAfterALossForever(Server):
    def connect(self) -> None:
        super().connect()
        if self.was_lost and self.claims is not None:
            self.claims.socket.settimeout(None)


class ThirdMissingEntryEndsServer(Server):
    missing = 0

    def on_gone(self, raw: bytes) -> None:
        self.missing += 1
        if self.missing == 3:
            os._exit(1)
        super().on_gone(raw)


# stops


class StopEndsALook(Server):
    def wait_for_slot(self) -> None:
        super().wait_for_slot()
        if self.stopping and self.was_lost:
            self.drain()
            os._exit(0)


class LostClaimForgottenAtTheNextLoss(Server):
    claiming = False
    lost_claim = False

    def claim(self) -> bytes | None:
        self.claiming = True
        raw = super().claim()
        self.claiming = False
        return raw

    def on_lost(self, lost: Exception) -> None:
        self.lost_claim, self.claiming = self.claiming, False
        super().on_lost(lost)

    def look_is_due(self) -> bool:
        return super().look_is_due() and (self.lost_claim or not self.stopping)

    def drain(self) -> None:
        if not self.lost_claim:
            self.looks_at.clear()
        super().drain()


class StopKeepsNoDeadMessage(Server):
    def keep(self, raw: bytes) -> None:
        if not self.stopping:
            super().keep(raw)


class StopLeavesLongJobs(Server):
    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        if not self.stopping or len(raw) <= 1 << 16:
            super().answer(raw, job, result)


class ForbiddenStopEndsWithStatusZero(Server):
    def on_answer_lost(self, lost: Exception) -> None:
        if self.stopping and isinstance(lost, ReplyError) and self.gives_up():
            os._exit(0)
        super().on_answer_lost(lost)
