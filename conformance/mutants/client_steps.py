"""Client drivers that take a wrong step, or the wrong way out of a fault (spec §6).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import math
import os
import sys
import time

from base_client import SILENCE_S, Client, Job, Json
from resp import Connection, ReplyError

# client.subscribe.before-push, client.register.before-push


class PushBeforeSubscribe(Client):
    def on_call(self, call: dict[str, Json]) -> None:
        self.subscribe_later = self.subscription is None
        super().on_call(call)
        if self.subscribe_later:
            self.subscribe_later = False
            super().subscribe()

    subscribe_later = False

    def subscribe(self) -> None:
        if not self.subscribe_later:
            super().subscribe()

    def may_push(self) -> bool:
        return True


class PushWithoutSubscribedReply(Client):
    def may_push(self) -> bool:
        return True


class PushWithOldSubscribedReply(Client):
    was_subscribed = False

    def may_push(self) -> bool:
        self.was_subscribed = self.was_subscribed or self.subscribed
        return self.was_subscribed


class SubscribeForEachJob(Client):
    def settle(self, job: Job, outcome: dict[str, Json]) -> None:
        super().settle(job, outcome)
        if not self.pending and self.subscription is not None:
            self.subscription.send("UNSUBSCRIBE", self.channel)
            self.subscription.send("SUBSCRIBE", self.channel)


class RegisterAfterPush(Client):
    def find(self, result: dict[str, Json]) -> Job | None:
        job = super().find(result)
        return None if job in self.unanswered else job


# client.push


class PushRight(Client):
    def send_push(self, pushes: Connection, job: Job) -> None:
        pushes.send("RPUSH", self.queue, job.message)


class PushRightWithTimeout(Client):
    def send_push(self, pushes: Connection, job: Job) -> None:
        command = "RPUSH" if job.settles_at is not None else "LPUSH"
        pushes.send(command, self.queue, job.message)


class PushTwice(Client):
    def send_push(self, pushes: Connection, job: Job) -> None:
        pushes.send("LPUSH", self.queue, job.message, job.message)


class PushAgainWhenLost(Client):
    def on_push_lost(self, job: Job) -> None:
        self.unpushed.append(job)
        self.push_all()


class PushAgainOnceWhenLost(Client):
    repeated: frozenset[str] = frozenset()

    def on_push_lost(self, job: Job) -> None:
        if job.id in self.repeated:
            super().on_push_lost(job)
            return
        self.repeated |= {job.id}
        self.unpushed.append(job)
        self.push_all()


class PushAgainWhenResubscribed(Client):
    def on_subscribed(self) -> None:
        self.unpushed.extend(job for job in self.pending.values() if job.pushed)
        super().on_subscribed()


class PushAgainWhenSlow(Client):
    slow_at = 0.0

    def push(self, job: Job) -> None:
        self.slow_at = time.monotonic() + 1.0
        super().push(job)

    def patience_s(self) -> float | None:
        return 0.1

    def on_time(self) -> None:
        super().on_time()
        if time.monotonic() >= self.slow_at:
            self.unpushed.extend(self.pending.values())
            self.push_all()


# client.settle


class SettleTwice(Client):
    registered: dict[str, Job] = {}  # noqa: RUF012 - replaced, never changed

    def register(self, job: Job) -> None:
        self.registered = {**self.registered, job.id: job}
        super().register(job)

    def find(self, result: dict[str, Json]) -> Job | None:
        return self.registered.get(result["id"])

    def settle(self, job: Job, outcome: dict[str, Json]) -> None:
        self.pending.pop(job.id, None)
        self.write(job, outcome)


class SettleAgainWhenLate(Client):
    late: dict[str, Job] = {}  # noqa: RUF012 - replaced, never changed

    def on_timeout(self, job: Job) -> None:
        super().on_timeout(job)
        self.late = {**self.late, job.id: job}

    def find(self, result: dict[str, Json]) -> Job | None:
        return super().find(result) or self.late.get(result["id"])

    def settle(self, job: Job, outcome: dict[str, Json]) -> None:
        if job.id in self.late:
            self.write(job, outcome)
        super().settle(job, outcome)


class RefusedMeansLost(Client):
    def on_push_refused(self, job: Job, refusal: str) -> None:
        self.settle_error(job, "connection-lost", refusal)


class RefusedIgnored(Client):
    def on_push_refused(self, job: Job, refusal: str) -> None:
        self.log(refusal)


class RefusedPushedAgain(Client):
    def on_push_refused(self, job: Job, refusal: str) -> None:
        time.sleep(0.05)
        self.unpushed.append(job)
        self.push_all()


class RefusedEndsClient(Client):
    def on_push_refused(self, job: Job, refusal: str) -> None:
        sys.exit(1)


class RefusedMeansTimeout(Client):
    def on_push_refused(self, job: Job, refusal: str) -> None:
        if job.settles_at is None:
            super().on_push_refused(job, refusal)


# client.timeout


class TimeoutIgnored(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        return None


class TimeoutAsError(Client):
    def on_timeout(self, job: Job) -> None:
        self.settle_error(job, "handler-error", "no result came in time")


class TimeoutAsNull(Client):
    def on_timeout(self, job: Job) -> None:
        self.settle(job, {"result": None})


class TimeoutHalf(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        settles_at = super().settles_at(call)
        return None if settles_at is None else settles_at - call["timeout_ms"] / 2000


class TimeoutAtMostOneSecond(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        timeout_ms = call.get("timeout_ms")
        return super().settles_at({"timeout_ms": timeout_ms and min(timeout_ms, 1000)})


class NoTimeoutMeansOneSecond(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        return super().settles_at({"timeout_ms": 1000, **call})


class TimeoutNeedsTraffic(Client):
    def patience_s(self) -> float | None:
        return None


class TimeoutFromPushAnswered(Client):
    pushed_at = 0.0

    def push(self, job: Job) -> None:
        self.pushed_at = time.monotonic()
        super().push(job)

    def on_push_answered(self, job: Job, reply: Json) -> None:
        if job.settles_at is not None:
            job.settles_at += time.monotonic() - self.pushed_at
        super().on_push_answered(job, reply)


class TimeoutOfOneEndsAll(Client):
    def on_timeout(self, job: Job) -> None:
        for other in list(self.pending.values()):
            super().on_timeout(other)


# client.lost


class LostResultHangs(Client):
    def on_result_lost(self, job: Job) -> None:
        pass


class LostPushHangs(Client):
    def on_push_lost(self, job: Job) -> None:
        pass


class LostPushNotQueued(Client):
    def on_push_lost(self, job: Job) -> None:
        self.settle_error(job, "not-queued", "the connection for pushing is lost")


class LostAsTimeout(Client):
    def on_result_lost(self, job: Job) -> None:
        if job.settles_at is None:
            self.on_timeout(job)


class LostSettlesAll(Client):
    def on_result_lost(self, job: Job) -> None:
        self.settle_error(job, "connection-lost", "the result or the push may be lost")


class LostPushSettlesAll(Client):
    def on_push_lost(self, job: Job) -> None:
        self.settle_error(job, "connection-lost", "the push may be lost")


class LostMovesToNewChannel(Client):
    def resubscribe(self) -> None:
        self.channel = self.channel_name()
        super().resubscribe()


class LostNotSubscribedAgain(Client):
    def resubscribe(self) -> None:
        pass


class LostSubscribedAgainLate(Client):
    def resubscribe(self) -> None:
        self.resubscribes_at = time.monotonic() + 20.0


class LostEndsClient(Client):
    def on_subscription_lost(self, lost: Exception) -> None:
        super().on_subscription_lost(lost)
        os._exit(1)


class LostForGood(Client):
    lost_once = False

    def on_subscription_lost(self, lost: Exception) -> None:
        self.lost_once = True
        super().on_subscription_lost(lost)

    def subscribe(self) -> None:
        if not self.lost_once:
            super().subscribe()


class LostPushesForGood(Client):
    lost_once = False

    def on_pushes_lost(self, lost: Exception) -> None:
        self.lost_once = True
        super().on_pushes_lost(lost)

    def connect_pushes(self, job: Job) -> bool:
        if self.lost_once:
            self.settle_error(job, "not-queued", "the connection for pushing is lost")
            return False
        return super().connect_pushes(job)


# client.concurrent.in-flight


class OneInFlight(Client):
    def may_push(self) -> bool:
        return super().may_push() and not any(job.pushed for job in self.pending.values())

    def settle(self, job: Job, outcome: dict[str, Json]) -> None:
        super().settle(job, outcome)
        self.push_all()


class ResultsInOrder(Client):
    early: dict[str, dict[str, Json]] = {}  # noqa: RUF012 - replaced, never changed

    def settle(self, job: Job, outcome: dict[str, Json]) -> None:
        self.early = {**self.early, job.id: outcome}
        while self.pending and (oldest := next(iter(self.pending.values()))).id in self.early:
            super().settle(oldest, self.early[oldest.id])


class FourInFlight(Client):
    def may_push(self) -> bool:
        return super().may_push() and sum(job.pushed for job in self.pending.values()) < 4

    def settle(self, job: Job, outcome: dict[str, Json]) -> None:
        super().settle(job, outcome)
        self.push_all()


class OldestDisplaced(Client):
    def register(self, job: Job) -> None:
        if len(self.pending) == 100:
            self.settle_error(next(iter(self.pending.values())), "not-queued", "too many jobs")
        super().register(job)


class SubscribeToAll(Client):
    def send_subscription(self, subscription: Connection) -> None:
        subscription.send("PSUBSCRIBE", f"{self.queue}:results:*")


class RefusedPushedLater(Client):
    refused: tuple[bytes, ...] = ()

    def on_push_refused(self, job: Job, refusal: str) -> None:
        super().on_push_refused(job, refusal)
        self.refused = (job.message,)

    def send_push(self, pushes: Connection, job: Job) -> None:
        pushes.send("LPUSH", self.queue, *self.refused, job.message)
        self.refused = ()


class TimeoutOfEarlierJob(Client):
    earliest = math.inf

    def settles_at(self, call: dict[str, Json]) -> float | None:
        own = super().settles_at(call)
        if own is not None:
            own = self.earliest = min(own, self.earliest)
        return own


class DoubtsResultsAfterALoss(Client):
    doubtful: frozenset[str] = frozenset()

    def on_subscription_lost(self, lost: Exception) -> None:
        super().on_subscription_lost(lost)
        self.doubtful |= self.pending.keys()

    def settle(self, job: Job, outcome: dict[str, Json]) -> None:
        if job.id in self.doubtful and "result" in outcome:
            outcome = {"error": {"code": "connection-lost", "message": "there was a loss"}}
        super().settle(job, outcome)


class NeedsEval(Client):
    def send_push(self, pushes: Connection, job: Job) -> None:
        script = "return redis.call('LPUSH', KEYS[1], ARGV[1])"
        pushes.send("EVAL", script, 1, self.queue, job.message)


class NeedsLlenToSettle(Client):
    def settle(self, job: Job, outcome: dict[str, Json]) -> None:
        try:
            Connection(self.url, SILENCE_S).call("LLEN", self.queue)
        except ReplyError as refusal:
            outcome = {"error": {"code": "connection-lost", "message": str(refusal)}}
        super().settle(job, outcome)
