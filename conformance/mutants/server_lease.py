"""Servers that hold, renew, lose or give back their lease wrongly (spec §7.11).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resp import Connection, ReplyError
from takeover_server import TakeoverServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


# server.takeover.times


class TimesUnchecked(TakeoverServer):
    def check_times(self) -> None:
        pass


class TimesTwice(TakeoverServer):
    def check_times(self) -> None:
        if self.lease_s < 2 * self.block_s:
            sys.exit("the lease is shorter than two times T")


# server.takeover.lease-first


class LeaseAfterTheLook(TakeoverServer):
    def ask_for_lease(self) -> Iterator[Any]:
        self.look()
        return super().ask_for_lease()


class LeaseOptional(TakeoverServer):
    def acquire(self) -> bool:
        return super().acquire() or True

    def send_renewal(self, connection: Connection) -> bool:
        return super().send_renewal(connection) or True


# server.takeover.waits


class WaitsNot(TakeoverServer):
    def ask_for_lease(self) -> Iterator[Any]:
        return self.pipelined(
            ("SET", self.lease, self.token, "PX", self.lease_ms),
            ("GET", self.lease),
            ("HSET", self.processors, self.list, 0),
        )


class WaitsAndExtends(TakeoverServer):
    def wait_for_lease(self) -> None:
        super().wait_for_lease()
        assert self.claims is not None
        self.claims.call("PEXPIRE", self.lease, self.lease_ms)


class WaitsForASecond(TakeoverServer):
    polls = 0

    def wait_for_lease(self) -> None:
        super().wait_for_lease()
        self.polls += 1
        if self.polls == 5:
            assert self.claims is not None
            self.claims.call("SET", self.lease, self.token, "PX", self.lease_ms)


class WaitsNotAfterALifeHere(TakeoverServer):
    def ask_for_lease(self) -> Iterator[Any]:
        lives = Path(f"life-{hashlib.sha256(self.list.encode()).hexdigest()[:16]}")
        if not self.has_held and lives.exists():
            assert self.claims is not None
            self.claims.call("SET", self.lease, self.token, "XX", "PX", self.lease_ms)
        lives.write_text(self.token)
        return super().ask_for_lease()


# server.takeover.registers


class RegistersAtItsStart(TakeoverServer):
    def ask_for_lease(self) -> Iterator[Any]:
        if not self.has_held:
            return super().ask_for_lease()
        was_set, holder = self.pipelined(
            ("SET", self.lease, self.token, "NX", "PX", self.lease_ms), ("GET", self.lease)
        )
        return iter([was_set, holder, 0])


class RegistersAfterTheClaim(TakeoverServer):
    def ask_for_lease(self) -> Iterator[Any]:
        was_set, holder = self.pipelined(
            ("SET", self.lease, self.token, "NX", "PX", self.lease_ms), ("GET", self.lease)
        )
        return iter([was_set, holder, 1])

    def claim(self) -> bytes | None:
        raw = super().claim()
        assert self.claims is not None
        self.claims.call("HSET", self.processors, self.list, 0)
        return raw


# server.takeover.renews


class RenewsBetweenJobs(TakeoverServer):
    def renew_until_released(self) -> None:
        pass

    def take(self) -> None:
        if not self.renew():
            self.begin_anew()
        super().take()


class RenewsBySet(TakeoverServer):
    def send_renewal(self, connection: Connection) -> bool:
        renewed = connection.call("SET", self.lease, self.token, "XX", "PX", self.lease_ms)
        return renewed is not None


class RenewsLate(TakeoverServer):
    def renewal_pause_s(self) -> float:
        return self.lease_s * 0.7


class RenewsEveryHalf(TakeoverServer):
    def renewal_pause_s(self) -> float:
        return self.lease_s / 2


class RenewsEveryHalfWhileItIsBusy(TakeoverServer):
    def renewal_pause_s(self) -> float:
        return self.lease_s / 2 if self.running else super().renewal_pause_s()


class RenewsNotDuringAStop(TakeoverServer):
    def send_renewal(self, connection: Connection) -> bool:
        return self.stopping or super().send_renewal(connection)


# server.connection.closes


class LeaksLostRenewals(TakeoverServer):
    leaked: tuple[Connection | None, ...] = ()

    def connect(self) -> None:
        self.leaked += (self.renewals,)
        self.renewals = None
        super().connect()


# server.takeover.within-lease


class ClaimsWithoutRenewal(TakeoverServer):
    def is_fresh(self) -> bool:
        return True

    def is_late(self) -> bool:
        return False

    def renew(self) -> bool:
        try:
            return super().renew()
        except (OSError, ReplyError):
            return True


# server.takeover.lapse


class LapseUnnoticed(TakeoverServer):
    def check_lapse(self) -> None:
        pass


class LapseDropsTheJob(TakeoverServer):
    def check_lapse(self) -> None:
        if self.is_late():
            assert self.claims is not None
            self.claims.call("RPOP", self.list)
        super().check_lapse()


# server.takeover.lost-name


class LostNameTakenBack(TakeoverServer):
    def lose_name(self) -> None:
        assert self.claims is not None
        self.claims.call("SET", self.lease, self.token, "PX", self.lease_ms)


class LostNameEndsAtOnce(TakeoverServer):
    def lose_name(self) -> None:
        os._exit(3)


class LostNameEndsWithZero(TakeoverServer):
    def lose_name(self) -> None:
        try:
            super().lose_name()
        except SystemExit:
            sys.exit(0)


class LostNameWaits(TakeoverServer):
    def lose_name(self) -> None:
        pass


class LostNameClaimsOneMore(TakeoverServer):
    def lose_name(self) -> None:
        assert self.claims is not None
        with self.changed:
            self.changed.wait_for(lambda: self.running == 0)
        raw = self.claims.call("LMOVE", self.queue, self.list, "RIGHT", "LEFT")
        if raw is not None:
            self.start(raw)
        super().lose_name()


# server.takeover.own-list


class OwnListAfterLossesOnly(TakeoverServer):
    def next_look(self) -> None:
        super().next_look()
        if self.looks_at[0] > self.second_look_at:
            self.looks_at = [float("inf")]


class OwnListOnceMore(TakeoverServer):
    looked = 0

    def next_look(self) -> None:
        super().next_look()
        self.looked += 1
        if self.looked > 2:
            self.looks_at = [float("inf")]


# server.takeover.stops


class StopAdopts(TakeoverServer):
    def drain(self) -> None:
        super().drain()
        time.sleep(0)
        self.scan()
        self.stopping = False
        while self.due:
            self.adopt_next()
            self.wait_for_slot()


# server.takeover.releases


class ReleasesEarly(TakeoverServer):
    def on_sigterm(self, signal: int, frame: object) -> None:
        super().on_sigterm(signal, frame)
        Connection(self.url, self.silence_s).call("DEL", self.lease)


class ReleasesBlindly(TakeoverServer):
    def give_back(self) -> None:
        assert self.claims is not None
        self.claims.call("DEL", self.lease)


class ReleasesNever(TakeoverServer):
    def give_back(self) -> None:
        pass


# server.takeover.own-registration and server.takeover.unregisters


class UnregistersAlways(TakeoverServer):
    def may_unregister(self) -> bool:
        return True


class UnregistersWithEntries(TakeoverServer):
    def may_unregister(self) -> bool:
        return self.created and not self.unanswered


class UnregistersAfterALoss(TakeoverServer):
    def may_unregister(self) -> bool:
        self.unanswered = 0
        return super().may_unregister()


class UnregistersAfterALostAdoption(TakeoverServer):
    def adopt(self, key: bytes) -> bytes | None:
        before = self.unanswered
        try:
            return super().adopt(key)
        finally:
            self.unanswered = before


class UnregistersWhatWasThere(TakeoverServer):
    def may_unregister(self) -> bool:
        self.created = True
        return super().may_unregister()


class UnregistersNever(TakeoverServer):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.unanswered = 1


# server.takeover.only-lapsed and server.takeover.lease-first, of long names


class LeaseOfACutName(TakeoverServer):
    def lease_of(self, key: bytes) -> bytes:
        return super().lease_of(key[:64])


class LeaseOfACutNameOfItsOwn(TakeoverServer):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.lease = self.lease_of(self.list.encode()[:64])
