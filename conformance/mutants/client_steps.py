"""Client drivers that subscribe or push wrongly, or have too few jobs in flight (spec §6).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from base_client import Client, Job, Json
from resp import ReplyError

if TYPE_CHECKING:
    from resp import Connection

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


class PushWithOldSubscribedReplyWhenAllIsLost(Client):
    all_lost = False

    def on_subscription_lost(self, lost: Exception) -> None:
        super().on_subscription_lost(lost)
        self.all_lost = self.pushes is None

    def on_pushes_lost(self, lost: Exception) -> None:
        super().on_pushes_lost(lost)
        self.all_lost = self.subscription is None

    def on_subscribed(self) -> None:
        self.all_lost = False
        super().on_subscribed()

    def may_push(self) -> bool:
        return self.all_lost or super().may_push()


class PushBehindSubscribe(Client):
    def send_subscription(self, subscription: Connection) -> None:
        subscription.call("HELLO", "3")  # so that this connection may push, too
        super().send_subscription(subscription)
        while self.unpushed:
            job = self.unpushed.popleft()
            job.pushed = True
            subscription.send("LPUSH", self.queue, job.message)
        receive = subscription.receive
        subscription.receive = lambda: [  # type: ignore[method-assign]
            reply for reply in receive() if not isinstance(reply, int | bytes)
        ]


class PushWhereSubscriptionIsRefused(Client):
    def on_subscription_lost(self, lost: Exception) -> None:
        if isinstance(lost, ReplyError):
            self.on_subscribed()
        else:
            super().on_subscription_lost(lost)


class RefusedSubscriptionKept(Client):
    def on_subscription_lost(self, lost: Exception) -> None:
        if not isinstance(lost, ReplyError):
            super().on_subscription_lost(lost)

    def notice_silence(self, now: float) -> None:
        if self.subscribed:
            super().notice_silence(now)


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


class RegisterAfterPushWithoutTimeout(Client):
    def find(self, result: dict[str, Json]) -> Job | None:
        job = super().find(result)
        return None if job in self.unanswered and job and job.settles_at is None else job


# client.push


class PushRight(Client):
    def send_push(self, pushes: Connection, job: Job) -> None:
        pushes.send("RPUSH", self.queue, job.message)


class PushRightWithTimeout(Client):
    def send_push(self, pushes: Connection, job: Job) -> None:
        command = "RPUSH" if job.settles_at is not None else "LPUSH"
        pushes.send(command, self.queue, job.message)


class PushRightWhereSeveralWait(Client):
    several = False

    def push_all(self) -> None:
        self.several = len(self.unpushed) > 1
        super().push_all()

    def send_push(self, pushes: Connection, job: Job) -> None:
        pushes.send("RPUSH" if self.several else "LPUSH", self.queue, job.message)


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


class RefusedPushedLater(Client):
    refused: tuple[bytes, ...] = ()

    def on_push_refused(self, job: Job, refusal: str) -> None:
        super().on_push_refused(job, refusal)
        self.refused = (job.message,)

    def send_push(self, pushes: Connection, job: Job) -> None:
        pushes.send("LPUSH", self.queue, *self.refused, job.message)
        self.refused = ()


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


class BeyondTwoHundredRefused(Client):
    def register(self, job: Job) -> None:
        super().register(job)
        if len(self.pending) > 200:
            self.settle_error(job, "not-queued", "too many jobs")


class BeyondOneThousandForgotten(Client):
    def register(self, job: Job) -> None:
        if len(self.pending) < 1000:
            super().register(job)
