"""Servers that stop, share out or confine wrongly (spec §7.7 and §7.8).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

from base_server import Job, Json, Server
from resp import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping


# server.stop


class StopClaimsOnce(Server):
    def drain(self) -> None:
        super().drain()
        raw = self.claim()
        if raw is not None:
            self.start(raw)
        super().drain()


class StopWhenQueueIsEmpty(Server):
    def drain(self) -> None:
        while (raw := self.claim()) is not None:
            self.wait_for_slot()
            self.start(raw)
        super().drain()


class StopAtOnce(Server):
    def on_sigterm(self, _signal: int, _frame: object) -> None:
        os._exit(0)


class StopAbandonsClaim(Server):
    def on_sigterm(self, _signal: int, _frame: object) -> None:
        self.stopping = True
        if self.running == 0:
            os._exit(0)


class StopAbandonsWhatClaimReturns(Server):
    def start(self, raw: bytes) -> None:
        if not self.stopping:
            super().start(raw)


class StopDropsWhatClaimReturns(Server):
    def start(self, raw: bytes) -> None:
        if self.stopping:
            assert self.claims is not None
            self.claims.call("LREM", self.list, -1, raw)
        else:
            super().start(raw)


class StopReturnsToLeft(Server):
    def start(self, raw: bytes) -> None:
        if self.stopping:
            assert self.claims is not None
            self.claims.call("LREM", self.list, -1, raw)
            self.claims.call("LPUSH", self.queue, raw)
        else:
            super().start(raw)


class StopAbandonsRunning(Server):
    def drain(self) -> None:
        pass


class StopReturnsRunning(Server):
    def on_sigterm(self, _signal: int, _frame: object) -> None:
        self.stopping = True
        aside = Connection(self.url, self.silence_s)
        for raw in self.held.elements():
            aside.call("RPUSH", self.queue, raw)
            aside.call("LREM", self.list, -1, raw)
        if self.running:
            os._exit(0)


class StopPublishesOnly(Server):
    def remove(self, raw: bytes) -> None:
        if not self.stopping:
            super().remove(raw)


class StopWithStatusOne(Server):
    def exit_status(self) -> int:
        return 1


class StopBySignal(Server):
    def exit_status(self) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        return 0


class StopIgnored(Server):
    def on_sigterm(self, _signal: int, _frame: object) -> None:
        pass


class StopNeverGivesUp(Server):
    def gives_up(self) -> bool:
        return False


class StopGivesUpWithStatusZero(Server):
    def gives_up(self) -> bool:
        if super().gives_up():
            os._exit(0)
        return False


class StopNeverEnds(Server):
    def drain(self) -> None:
        super().drain()
        signal.pause()


# server.concurrency


class OneAtATime(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__({**environment, "JOBQUEUE_CONCURRENCY": "1"})


class OneFewer(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.concurrency = max(1, self.concurrency - 1)


class OneMore(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.concurrency += self.concurrency > 1


class NoLimit(Server):
    def wait_for_slot(self) -> None:
        if self.concurrency == 1:
            super().wait_for_slot()


class NoLimitInRecovery(Server):
    def recover(self) -> None:
        concurrency, self.concurrency = self.concurrency, 1000
        super().recover()
        self.concurrency = concurrency


class TwoWhereOneIsConfigured(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.concurrency = max(2, self.concurrency)


# server.channel-prefix


class PrefixIgnored(Server):
    def may_publish(self, channel: str) -> bool:
        return True


class PrefixAnywhere(Server):
    def may_publish(self, channel: str) -> bool:
        return self.prefix in channel


class PrefixIgnoresCase(Server):
    def may_publish(self, channel: str) -> bool:
        return channel.lower().startswith(self.prefix.lower())


class PrefixUpToFirstColon(Server):
    def may_publish(self, channel: str) -> bool:
        return channel.startswith(self.prefix.partition(":")[0])


class PrefixUpToSixteenCharacters(Server):
    def may_publish(self, channel: str) -> bool:
        return channel.startswith(self.prefix[:16])


class OutsidePrefixAnswered(Server):
    def run(self, job: Job) -> dict[str, Json]:
        if not super().may_publish(job["channel"]):
            return self.error("invalid-job", "the channel is outside the prefixes")
        return super().run(job)

    def may_publish(self, channel: str) -> bool:
        return True


class OutsidePrefixForgotten(Server):
    def bury(self, raw: bytes) -> None:
        try:
            outside = not self.may_publish(json.loads(raw)["channel"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            outside = False
        if outside:
            self.remove(raw)
        else:
            super().bury(raw)
