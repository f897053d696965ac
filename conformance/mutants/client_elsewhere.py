"""Client drivers that are right where one looks first: wrong at a size, on an occasion, on one connection (spec §6).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from base_client import Client, Job, Json
from resp import ReplyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resp import Connection


# size


class LongErrorDataCut(Client):
    def error(self, error: Json) -> Json:
        answer = super().error(error)
        if isinstance(answer.get("data"), str | list):
            answer["data"] = answer["data"][:1000]
        return answer


class LostSettlesTenAtMost(Client):
    def on_subscription_lost(self, lost: Exception) -> None:
        self.settles = 10
        super().on_subscription_lost(lost)

    def on_result_lost(self, job: Job) -> None:
        self.settles = getattr(self, "settles", 10) - 1
        if self.settles >= 0:
            super().on_result_lost(job)


class OnlySixteenTimers(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        timers = sum(job.settles_at is not None for job in self.pending.values())
        return super().settles_at(call) if timers < 16 else None


class TenthLossEndsClient(Client):
    losses = 0

    def on_subscription_lost(self, lost: Exception) -> None:
        super().on_subscription_lost(lost)
        self.losses += 1
        if self.losses == 10:
            os._exit(1)


class OldestOfHundredForgotten(Client):
    calls = 0

    def register(self, job: Job) -> None:
        super().register(job)
        self.calls += 1
        if self.calls % 100 == 0 and len(self.pending) > 1:
            del self.pending[next(iter(self.pending))]


class TimeoutThreeSecondsLate(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        settles_at = super().settles_at(call)
        return None if settles_at is None else settles_at + 3


class TimeoutsLookedAtEveryFiveSeconds(Client):
    looked_at = 0.0

    def on_timeout(self, job: Job) -> None:
        if time.monotonic() > self.looked_at + 5:
            for each in list(self.pending.values()):
                if each.settles_at is not None and each.settles_at <= time.monotonic():
                    super().on_timeout(each)
            self.looked_at = time.monotonic()


class ForgetsTimersBeyondThreeHundred(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        timers = sum(job.settles_at is not None for job in self.pending.values())
        return super().settles_at(call) if timers < 300 else None


class ForgetsTimersBeyondAThousand(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        timers = sum(job.settles_at is not None for job in self.pending.values())
        return super().settles_at(call) if timers < 1024 else None


class EqualTimeoutsShareATimer(Client):
    """Of two jobs with one timeout, in one millisecond, only the later one is timed out."""

    def register(self, job: Job) -> None:
        for each in self.pending.values():
            if None not in {each.settles_at, job.settles_at}:
                apart_s = (job.settles_at or 0.0) - (each.settles_at or 0.0)
                if abs(apart_s) < 0.0005:
                    each.settles_at = None
        super().register(job)


class MembersOfPrototypesDropped(Client):
    def parameters(self, call: dict[str, Json]) -> Json:
        value = super().parameters(call)
        if isinstance(value, dict):
            value = {name: each for name, each in value.items() if name != "__proto__"}
        return value


class LongJobsPushedRight(Client):
    def send_push(self, pushes: Connection, job: Job) -> None:
        pushes.send("RPUSH" if len(job.message) > 1 << 16 else "LPUSH", self.queue, job.message)


class ManyJobsPushedRight(Client):
    def send_push(self, pushes: Connection, job: Job) -> None:
        pushes.send("RPUSH" if len(self.pending) > 300 else "LPUSH", self.queue, job.message)


# occasion


class IdBeginsAnewAtAReconnect(Client):
    def resubscribe(self) -> None:
        super().resubscribe()
        self.calls = 0

    def on_subscription_lost(self, lost: Exception) -> None:
        super().on_subscription_lost(lost)
        if not self.pending:
            self.calls = 0


class PushRightAfterALoss(Client):
    lost = False

    def on_subscription_lost(self, lost: Exception) -> None:
        self.lost = True
        super().on_subscription_lost(lost)

    def send_push(self, pushes: Connection, job: Job) -> None:
        pushes.send("RPUSH" if self.lost else "LPUSH", self.queue, job.message)


class SecondResultAfterALossNull(Client):
    results = -(10**9)

    def on_subscription_lost(self, lost: Exception) -> None:
        self.results = 0
        super().on_subscription_lost(lost)

    def value(self, value: Json) -> Json:
        self.results += 1
        return None if self.results == 2 else value


class DatabaseForgottenAtAReconnect(Client):
    def on_subscription_lost(self, lost: Exception) -> None:
        super().on_subscription_lost(lost)
        self.url = urlsplit(self.url)._replace(path="").geturl()


class LaterLossesSettleNothing(Client):
    losses = 0

    def on_subscription_lost(self, lost: Exception) -> None:
        self.losses += self.subscribed
        super().on_subscription_lost(lost)

    def on_result_lost(self, job: Job) -> None:
        if self.losses < 2:
            super().on_result_lost(job)


class ThirdLossSettlesAll(Client):
    losses = 0

    def on_subscription_lost(self, lost: Exception) -> None:
        self.losses += self.subscribed
        if self.losses == 3:
            for job in list(self.pending.values()):
                self.settle_error(job, "connection-lost", "three times")
        super().on_subscription_lost(lost)


class ThreeMalformedInARowAreALoss(Client):
    malformed = 0

    def on_message(self, message: bytes) -> None:
        self.malformed = 0 if self.read(message) else self.malformed + 1
        if self.malformed == 3:
            raise ConnectionError("what arrives isn't valid")
        super().on_message(message)


# moment, connection, answer


class TimeoutWaitsForThePushsReply(Client):
    def on_timeout(self, job: Job) -> None:
        if job not in self.unanswered:
            super().on_timeout(job)


class TimeoutWaitsForTheSubscription(Client):
    def on_timeout(self, job: Job) -> None:
        if self.subscribed:
            super().on_timeout(job)


class TimeoutWaitsForTheNextSubscription(Client):
    lost = False

    def on_subscription_lost(self, lost: Exception) -> None:
        self.lost = True
        super().on_subscription_lost(lost)

    def on_timeout(self, job: Job) -> None:
        if self.subscribed or not self.lost:
            super().on_timeout(job)


class PushesAgainAfterASilence(Client):
    def on_pushes_lost(self, lost: Exception) -> None:
        if isinstance(lost, TimeoutError):
            self.unpushed.extend(self.unanswered)
            self.unanswered.clear()
        super().on_pushes_lost(lost)
        self.push_all()


class SilenceAfterALossForever(Client):
    lost = False

    def on_subscription_lost(self, lost: Exception) -> None:
        self.lost = True
        super().on_subscription_lost(lost)

    def notice_silence(self, now: float) -> None:
        if not self.lost:
            super().notice_silence(now)


class RegistersAfterThePushsReplyAfterALoss(Client):
    lost = False

    def on_subscription_lost(self, lost: Exception) -> None:
        self.lost = True
        super().on_subscription_lost(lost)

    def find(self, result: dict[str, Json]) -> Job | None:
        job = super().find(result)
        return None if self.lost and job in self.unanswered else job


class AsksForItsIdAfterALoss(Client):
    """A client may not use CLIENT ID, which a server may."""

    lost = False

    def on_subscription_lost(self, lost: Exception) -> None:
        self.lost = True
        super().on_subscription_lost(lost)

    def send_push(self, pushes: Connection, job: Job) -> None:
        if self.lost:
            try:
                pushes.call("CLIENT", "ID")
            except ReplyError as refusal:
                raise ConnectionError(str(refusal)) from None
        super().send_push(pushes, job)


class SilentPushesForever(Client):
    def notice_silence(self, now: float) -> None:
        self.pushes_heard_at = now
        super().notice_silence(now)


class RefusedSettlesAll(Client):
    def on_push_refused(self, job: Job, refusal: str) -> None:
        for each in list(self.pending.values()):
            super().on_push_refused(each, refusal)


class RefusedSubscriptionSettlesAll(Client):
    def on_subscription_lost(self, lost: Exception) -> None:
        if isinstance(lost, ReplyError):
            for job in list(self.pending.values()):
                self.settle_error(job, "connection-lost", f"no subscription: {lost}")
        super().on_subscription_lost(lost)


class RefusedSubscriptionStaysOpen(Client):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.refused: list[Connection] = []

    def on_subscription_lost(self, lost: Exception) -> None:
        if isinstance(lost, ReplyError) and self.subscription is not None:
            self.selector.unregister(self.subscription)
            self.refused.append(self.subscription)
            self.subscription = None
        super().on_subscription_lost(lost)


class IdsThatNameAttributesAreFound(Client):
    def find(self, result: dict[str, Json]) -> Job | None:
        job: Job | None = getattr(self.pending, result["id"], None)
        return job or super().find(result)
