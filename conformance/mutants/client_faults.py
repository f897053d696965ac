"""Client drivers that only a lost connection shows to be wrong (spec §6).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from base_client import Client, Job, Json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resp import Connection

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


# client.push.settled, client.settle.unconnected


class PushesSettledJobs(Client):
    def is_wanted(self, _job: Job) -> bool:
        return True


class UnconnectedHangs(Client):
    def settle_error(self, job: Job, code: str, message: str) -> None:
        if code != "not-queued" or not message.startswith("no "):
            super().settle_error(job, code, message)


class UnconnectedAsLost(Client):
    def settle_error(self, job: Job, code: str, message: str) -> None:
        code = "connection-lost" if message.startswith("no ") else code
        super().settle_error(job, code, message)


# client.connection


class SilentForever(Client):
    def notice_silence(self, now: float) -> None:
        pass

    def patience_s(self) -> float | None:
        self.silence_s = 600.0
        return super().patience_s()


class NeverPings(Client):
    def notice_silence(self, now: float) -> None:
        self.heard_at = now
        super().notice_silence(now)


class LeaksLostConnections(Client):
    def close(self, connection: Connection | None) -> None:
        if connection is not None:
            if connection.fileno() in self.selector.get_map():
                self.selector.unregister(connection)
            self.leaked = [*getattr(self, "leaked", []), connection]


class LeaksTheOtherConnection(Client):
    def on_subscription_lost(self, lost: Exception) -> None:
        super().on_subscription_lost(lost)
        if self.pushes is not None and not self.unanswered:
            self.selector.unregister(self.pushes)
            self.leaked = [*getattr(self, "leaked", []), self.pushes]
            self.pushes = None


class WithUrl(Client):
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


class DatabaseOneByDefault(Client):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        if not self.url.rpartition("/")[2].isdigit():
            self.url += "/1"


class LostSubscriptionAloneUnnoticed(Client):
    unnoticed: Exception | None = None

    def on_subscription_lost(self, lost: Exception) -> None:
        if self.pushes is None:
            super().on_subscription_lost(lost)
        else:
            self.unnoticed = lost
            self.selector.unregister(self.subscription)  # type: ignore[arg-type]

    def notice_silence(self, now: float) -> None:
        if self.unnoticed is None:
            super().notice_silence(now)

    def notice(self) -> None:
        lost, self.unnoticed = self.unnoticed, None
        if lost is not None:
            super().on_subscription_lost(lost)

    def on_pushes_lost(self, lost: Exception) -> None:
        super().on_pushes_lost(lost)
        self.notice()

    def on_call(self, call: dict[str, Json]) -> None:
        self.notice()
        super().on_call(call)


class LostPushesHideLostSubscription(Client):
    hidden = False

    def on_pushes_lost(self, lost: Exception) -> None:
        super().on_pushes_lost(lost)
        self.hidden = True

    def on_subscription_lost(self, lost: Exception) -> None:
        if self.hidden:
            self.close(self.subscription)
            self.subscription = None
        else:
            super().on_subscription_lost(lost)

    def connect_pushes(self, job: Job) -> bool:
        self.hidden = False
        return super().connect_pushes(job)


class LostRestartsTimeouts(Client):
    timeouts_s: dict[str, float] = {}  # noqa: RUF012 - replaced, never changed

    def register(self, job: Job) -> None:
        super().register(job)
        if job.settles_at is not None:
            self.timeouts_s = {**self.timeouts_s, job.id: job.settles_at - time.monotonic()}

    def on_subscribed(self) -> None:
        for job in self.pending.values():
            if job.pushed and job.settles_at is not None:
                job.settles_at = time.monotonic() + self.timeouts_s[job.id]
        super().on_subscribed()


class LostStopsTimeouts(Client):
    lost_at = 0.0

    def on_subscription_lost(self, lost: Exception) -> None:
        self.lost_at = self.lost_at or time.monotonic()
        super().on_subscription_lost(lost)

    def on_subscribed(self) -> None:
        if self.lost_at:
            for job in self.pending.values():
                if job.settles_at is not None:
                    job.settles_at += time.monotonic() - self.lost_at
        self.lost_at = 0.0
        super().on_subscribed()


class RefusedConnectEndsClient(Client):
    def on_subscription_lost(self, lost: Exception) -> None:
        super().on_subscription_lost(lost)
        if isinstance(lost, ConnectionRefusedError):
            os._exit(1)


class RefusedConnectIsForGood(Client):
    refused = False

    def on_subscription_lost(self, lost: Exception) -> None:
        super().on_subscription_lost(lost)
        self.refused = self.refused or isinstance(lost, ConnectionRefusedError)

    def subscribe(self) -> None:
        if self.refused:
            super().on_subscription_lost(ConnectionRefusedError("it was refused before"))
        else:
            super().subscribe()


class RefusedConnectSettlesAll(Client):
    def on_subscription_lost(self, lost: Exception) -> None:
        super().on_subscription_lost(lost)
        if isinstance(lost, ConnectionRefusedError):
            for job in list(self.pending.values()):
                self.settle_error(job, "connection-lost", "nobody listens")
