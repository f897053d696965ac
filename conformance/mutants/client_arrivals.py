"""Client drivers that are wrong about how results and refusals arrive (spec §6, §8).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import hiredis
from base_client import Client, Job

if TYPE_CHECKING:
    from base_client import Json
    from resp import Connection


def reads_readonly(reply: Json) -> bool:
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("READONLY")


# client.settle


class OneConnection(Client):
    """Correct but for its bug: with RESP3 the results come between the replies to pushes."""

    def send_subscription(self, subscription: Connection) -> None:
        subscription.call("HELLO", "3")
        receive = subscription.receive
        subscription.receive = lambda: self.messages(receive())  # type: ignore[method-assign] # of this one
        super().send_subscription(subscription)

    def messages(self, replies: list[Json]) -> list[Json]:
        """Handle the replies to pushes, and leave the messages."""
        for reply in replies:
            if not isinstance(reply, list):
                self.on_push_answered(self.unanswered.popleft(), reply)
        return [reply for reply in replies if isinstance(reply, list)]

    def connect_pushes(self, job: Job) -> bool:
        self.pushes = self.subscription
        return self.pushes is not None

    def on_subscription_lost(self, lost: Exception) -> None:
        self.pushes = None
        self.unanswered.clear()
        super().on_subscription_lost(lost)

    def on_pushes_lost(self, lost: Exception) -> None:
        self.on_subscription_lost(lost)


class ResultsBehindReadonlyDropped(OneConnection):
    def messages(self, replies: list[Json]) -> list[Json]:
        super().messages(replies)
        if any(map(reads_readonly, replies)):
            raise ConnectionError("this Redis is read-only")
        return [reply for reply in replies if isinstance(reply, list)]


class GivesUpAfterSixteenPieces(Client):
    in_vain = 0

    def send_subscription(self, subscription: Connection) -> None:
        receive = subscription.receive

        def receive_soon() -> list[Json]:
            replies = receive()
            self.in_vain = 0 if replies else self.in_vain + 1
            if self.in_vain > 16:
                raise ConnectionError("a message in too many pieces")
            return replies

        subscription.receive = receive_soon  # type: ignore[method-assign]
        super().send_subscription(subscription)


# client.push


class PushRightAfterARefusal(Client):
    refused = False

    def on_push_refused(self, job: Job, refusal: str) -> None:
        self.refused = self.refused or refusal.startswith("READONLY")
        super().on_push_refused(job, refusal)

    def send_push(self, pushes: Connection, job: Job) -> None:
        pushes.send("RPUSH" if self.refused else "LPUSH", self.queue, job.message)


class SettledOfMoreThanAHundredPushed(Client):
    many = False

    def push_all(self) -> None:
        self.many = len(self.unpushed) > 100
        super().push_all()

    def is_wanted(self, job: Job) -> bool:
        return self.many or super().is_wanted(job)


class PushTwiceBeyondTenThousand(Client):
    def send_push(self, pushes: Connection, job: Job) -> None:
        super().send_push(pushes, job)
        if self.calls > 10_000 and self.calls % 8 == 0:
            self.unanswered.append(job)
            super().send_push(pushes, job)


# client.lost


class LossAfterARefusalSettlesNothing(Client):
    refused = False

    def on_push_refused(self, job: Job, refusal: str) -> None:
        self.refused = self.refused or refusal.startswith("READONLY")
        super().on_push_refused(job, refusal)

    def on_result_lost(self, job: Job) -> None:
        if not self.refused:
            super().on_result_lost(job)
