"""Servers with a limit that the protocol doesn't have, or with a bug beyond some size (spec §7).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from base_server import Server
from resp import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from base_server import Job, Json


# server.recovery


class RecoverAtMostAHundred(Server):
    def look(self) -> list[bytes]:
        return super().look()[:100]


class RecoverAtMostAThousand(Server):
    def schedule_looks(self) -> None:
        super().schedule_looks()
        self.looks_at[1] += 60  # where jobs take long, the second look would see the rest

    def look(self) -> list[bytes]:
        return super().look()[:1000]


class RecoverAtMostFourThousand(Server):
    def schedule_looks(self) -> None:
        super().schedule_looks()
        self.looks_at[1] += 60  # where jobs take long, the second look would see the rest

    def look(self) -> list[bytes]:
        return super().look()[:4096]


class RecoverTheNewestFourThousand(Server):
    def look(self) -> list[bytes]:
        return super().look()[-4096:]


class RecoverByThousandsNewestFirst(Server):
    def look(self) -> list[bytes]:
        found = super().look()
        return found[-1000:] + found[:-1000]


class BlockWholeSeconds(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.block_s = int(self.block_s)


class HeldByItsFirst64Kibibytes(Server):
    def recover(self) -> None:
        with self.answering:
            with self.changed:
                held = Counter(raw[:65_536] for raw in self.held.elements())
            entries = self.look()
        for raw in entries:
            if held[raw[:65_536]] > 0:
                held[raw[:65_536]] -= 1
            else:
                self.start_found(raw)


# server.concurrency, server.stop


class AtMostFourHandlers(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.concurrency = min(self.concurrency, 4)


class AtMostEightHandlers(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.concurrency = min(self.concurrency, 8)


class StopWaitsTenSeconds(Server):
    def on_sigterm(self, number: int, frame: object) -> None:
        super().on_sigterm(number, frame)
        end = threading.Timer(10, os._exit, (0,))
        end.daemon = True
        end.start()


# server.claim.order


class ClaimNewestOfThoseThatWaited(Server):
    """Once jobs had to wait for a moment, the last one is claimed first."""

    took_at = 0.0

    def claim(self) -> bytes | None:
        assert self.claims is not None
        waited = self.took_at and time.monotonic() - self.took_at > 0.1
        raw: bytes | None = None
        if waited:
            raw = self.claims.call("LMOVE", self.queue, self.list, "LEFT", "LEFT")
        raw = raw or super().claim()
        self.took_at = time.monotonic() if raw else 0.0
        return raw


class ClaimNewestBehindARecovered(Server):
    recovered = False

    def recover(self) -> None:
        super().recover()
        self.recovered = self.recovered or sum(self.held.values()) > 0

    def claim(self) -> bytes | None:
        assert self.claims is not None
        if self.recovered:
            self.recovered = False
            raw: bytes | None = self.claims.call("LMOVE", self.queue, self.list, "LEFT", "LEFT")
            return raw
        return super().claim()


class SecondOfAConnectionIsNull(Server):
    answered = 0

    def on_lost(self, lost: Exception) -> None:
        self.answered = 0
        super().on_lost(lost)

    def value(self, value: Json) -> dict[str, Json]:
        self.answered += 1
        second = self.was_lost and self.answered == 2
        return super().value(None if second else value)


# server.connection


class RefusedEndsServer(Server):
    def on_lost(self, lost: Exception) -> None:
        if isinstance(lost, ConnectionRefusedError):
            os._exit(1)
        super().on_lost(lost)


class RefusedThriceEndsServer(Server):
    refusals = 0

    def on_lost(self, lost: Exception) -> None:
        self.refusals += isinstance(lost, ConnectionRefusedError)
        if self.refusals == 3:
            os._exit(1)
        super().on_lost(lost)


class RefusedSaysUrl(Server):
    def on_lost(self, lost: Exception) -> None:
        if isinstance(lost, ConnectionRefusedError):
            self.log(f"{self.url} refuses: {lost}")
        super().on_lost(lost)


class NoBackOff(Server):
    def back_off(self, failures: int) -> None:
        pass


# server.stop.drains


class StopForgetsALoss(Server):
    """What was lost before SIGTERM isn't waited for, and the outstanding claim is ended at once."""

    client_id = 0

    def connect(self) -> None:
        super().connect()
        assert self.claims is not None
        self.client_id = self.claims.call("CLIENT", "ID")

    def on_sigterm(self, signal: int, frame: object) -> None:
        super().on_sigterm(signal, frame)
        aside = Connection(self.url, self.silence_s)
        aside.call("CLIENT", "UNBLOCK", self.client_id)
        aside.close()

    def drain(self) -> None:
        self.was_lost = False
        super().drain()


class StopEndsAtALoss(Server):
    def on_lost(self, lost: Exception) -> None:
        if self.stopping:
            os._exit(0)
        super().on_lost(lost)


# server.result.value


class ResultInThePlatformsEncoding(Server):
    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        whole = super().encode(job, outcome)
        if os.environ.get("LC_ALL") == "C":
            return whole.decode().encode("ascii", "replace")
        return whole


# server.run


class GivesUpAfterSixteenPieces(Server):
    def connect(self) -> None:
        super().connect()
        assert self.claims is not None
        receive, in_vain = self.claims.receive, 0

        def receive_soon() -> list[Json]:
            nonlocal in_vain
            replies = receive()
            in_vain = 0 if replies else in_vain + 1
            if in_vain > 16:
                raise ConnectionError("a reply in too many pieces")
            return replies

        self.claims.receive = receive_soon  # type: ignore[method-assign]


# server.publish


class ChannelEndsAtANul(Server):
    def publish(self, channel: str, result: bytes) -> None:
        super().publish(channel.partition("\0")[0] or channel, result)


class ChannelEndsWithTheLine(Server):
    def publish(self, channel: str, result: bytes) -> None:
        super().publish(channel.rstrip("\r\n") or channel, result)


# server.stop


class SecondSigtermClaimsOnce(Server):
    signals = 0

    def on_sigterm(self, signal: int, frame: object) -> None:
        self.signals += 1
        super().on_sigterm(signal, frame)

    def drain(self) -> None:
        raw = self.claim() if self.signals > 1 else None
        if raw is not None:
            self.start(raw)
        super().drain()
