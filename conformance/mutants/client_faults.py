"""Client drivers that only a lost connection shows to be wrong (spec §6).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import os
import time

from base_client import Client, Job, Json

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


class DoubtsResultsAfterALoss(Client):
    doubtful: frozenset[str] = frozenset()

    def on_subscription_lost(self, lost: Exception) -> None:
        super().on_subscription_lost(lost)
        self.doubtful |= self.pending.keys()

    def settle(self, job: Job, outcome: dict[str, Json]) -> None:
        if job.id in self.doubtful and "result" in outcome:
            outcome = {"error": {"code": "connection-lost", "message": "there was a loss"}}
        super().settle(job, outcome)
