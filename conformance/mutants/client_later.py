"""Client drivers that are right at first: wrong after twenty failures in a row (spec §6).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import os
import time

from base_client import Client, Job
from resp import ReplyError

LIMIT = 20


class CountsFailures(Client):
    """Counts the attempts to subscribe that have failed since it was subscribed, and waits longer after each."""

    counted: type[Exception] = OSError  # which failures
    failures = 0

    def on_subscribed(self) -> None:
        self.failures = 0
        super().on_subscribed()

    def on_subscription_lost(self, lost: Exception) -> None:
        self.failures += isinstance(lost, self.counted)
        super().on_subscription_lost(lost)
        if self.failures == LIMIT:
            self.on_limit()

    def resubscribe(self) -> None:
        self.resubscribes_at = time.monotonic() + min(0.02 * 2**self.failures, 1.0)

    def on_limit(self) -> None:
        """What it does at the last failure that it takes."""
        raise NotImplementedError


class TwentiethFailureEndsClient(CountsFailures):
    def on_limit(self) -> None:
        os._exit(1)


class GivesUp(CountsFailures):
    gave_up = False

    def on_limit(self) -> None:
        self.gave_up = True

    def subscribe(self) -> None:
        if self.gave_up:
            super().on_subscription_lost(ConnectionError("it failed too often"))
        else:
            super().subscribe()


class TwentiethFailureIsForGood(GivesUp):
    pass


class TwentiethFailureSettlesAll(CountsFailures):
    def on_limit(self) -> None:
        for job in list(self.pending.values()):
            self.settle_error(job, "connection-lost", "it failed too often")


class TwentiethRefusedSubscriptionIsForGood(GivesUp):
    counted = ReplyError


class TwentiethRefusedPushIsForGood(Client):
    refusals = 0

    def on_push_answered(self, job: Job, reply: object) -> None:
        super().on_push_answered(job, reply)
        if job.id in self.pending:
            self.refusals = 0

    def on_push_refused(self, job: Job, refusal: str) -> None:
        self.refusals += 1
        super().on_push_refused(job, refusal)

    def push(self, job: Job) -> None:
        if self.refusals >= LIMIT:
            self.on_push_refused(job, "Redis has refused too many")
        else:
            super().push(job)
