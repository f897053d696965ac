"""The base server with the feature `takeover`: it holds a lease on its list, and adopts from lists whose lease is gone.

The main thread makes all connections, acquires the lease, scans and adopts; a thread of its own renews the lease. What
either finds to be wrong sets `anew`, and the main thread begins again with new connections. The scripts are those of
the protocol's text.
"""

from __future__ import annotations

import random
import re
import secrets
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attempts_server import AttemptsServer
from resp import Connection, ReplyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SPEC = Path(__file__).parents[2] / "spec" / "protocol.md"
SCRIPTS = dict(
    re.findall(r"^```lua (\w+)\n(.*?)^```$", SPEC.read_text("utf-8"), re.MULTILINE | re.DOTALL)
)
NUMBER = re.compile(rb"-?[0-9]+")
LOST = re.compile(r"\b(?:READONLY|MASTERDOWN|LOADING|UNBLOCKED)\b")
POLL_S = 0.2  # how often it asks for a lease that another life has
PAGE = 100  # registrations, in one step of a scan


class Lapsed(ConnectionError):
    """Something that counts as a lost connection, though none was."""


class TakeoverServer(AttemptsServer):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.lease_ms = int(environment.get("JOBQUEUE_LEASE_MS", "8000"))
        self.grace_ms = int(environment.get("JOBQUEUE_GRACE_MS", "3600000"))
        self.lease_s = self.lease_ms / 1000
        self.processors = f"{self.queue}:processors"
        self.lease = self.lease_of(self.list.encode())
        self.token = secrets.token_hex(16)
        self.renewals: Connection | None = None
        self.renewing = threading.Lock()
        self.renewed_s = 0.0  # when the last successful renewal was sent
        self.has_held = False
        self.created = False  # whether the first HSET of this life created the registration
        self.unanswered = 0  # claims and adoptions
        self.adopting = False  # an adoption is unanswered, or was when its connection was lost
        self.anew = False
        self.released = threading.Event()
        self.scan_at_s = 0.0
        self.due: list[bytes] = []

    def lease_of(self, key: bytes) -> bytes:
        return f"{self.queue}:lease:".encode() + key

    def serve(self) -> int:
        self.check_times()
        threading.Thread(target=self.renew_until_released, daemon=True).start()
        return super().serve()

    def check_times(self) -> None:
        if self.lease_s < 3 * self.block_s:
            sys.exit(f"a lease of {self.lease_s} s is shorter than three times T, {self.block_s} s")

    # Connections: what is lost on one of them is lost on all.

    def connect(self) -> None:
        super().connect()
        with self.renewing:
            if self.renewals is not None:
                self.renewals.close()
            self.renewals = Connection(self.url, min(self.silence_s, self.lease_s / 3))
        self.anew = False
        while not self.acquire():
            if self.stopping:
                sys.exit(0)
            self.wait_for_lease()
        with self.answering:
            if self.answers is not None:
                self.answers.close()
                self.answers = None
        self.scan_at_s = 0.0

    def wait_for_lease(self) -> None:
        time.sleep(POLL_S)

    def back_off(self, failures: int) -> None:
        time.sleep(min(0.01 * 2**failures, self.lease_s / 3) * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    def on_answer_lost(self, lost: Exception) -> None:
        super().on_answer_lost(lost)
        self.begin_anew()

    def begin_anew(self) -> None:
        with self.changed:
            self.anew = True
            self.changed.notify_all()

    def check_connections(self) -> None:
        if self.anew:
            raise Lapsed("another connection or the lease is lost")

    def wait_for_slot(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.anew or self.running < self.concurrency)
        self.check_connections()

    def wait_for_place(self, before: int) -> None:
        with self.changed:
            self.changed.wait_for(
                lambda: (
                    self.anew or (self.running < self.concurrency and self.may_run_beside(before))
                )
            )
        self.check_connections()

    def drain(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.anew or self.running == 0)
        self.check_connections()
        super().drain()

    # The lease.

    def acquire(self) -> bool:
        """Ask for the lease and register; false where another life has it, and this one never had it."""
        sent_s = time.monotonic()
        was_set, holder, created = self.ask_for_lease()
        if isinstance(holder, ReplyError):
            raise holder
        if holder != self.token.encode():
            if self.has_held and holder is not None:
                self.lose_name()
            return False
        if was_set == b"OK":
            self.renewed_s = sent_s
        elif not self.renew():
            return False
        if isinstance(created, ReplyError):
            raise created
        if not self.has_held:
            self.has_held, self.created = True, created == 1
        return True

    def ask_for_lease(self) -> Iterator[Any]:
        return self.pipelined(
            ("SET", self.lease, self.token, "NX", "PX", self.lease_ms),
            ("GET", self.lease),
            ("HSET", self.processors, self.list, 0),
        )

    def pipelined(self, *commands: tuple[str | bytes | int, ...]) -> Iterator[Any]:
        """The replies, with errors among them."""
        assert self.claims is not None
        for command in commands:
            self.claims.send(*command)
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(self.claims.read())
            except ReplyError as refusal:
                replies.append(refusal)
        return iter(replies)

    def lose_name(self) -> None:
        self.log("another life has the lease of this list")
        with self.changed:
            self.changed.wait_for(lambda: self.running == 0)
        sys.exit(3)

    def renew(self) -> bool:
        with self.renewing:
            assert self.renewals is not None
            sent_s = time.monotonic()
            renewed = self.send_renewal(self.renewals)
            if renewed:
                self.renewed_s = sent_s
        return renewed

    def send_renewal(self, connection: Connection) -> bool:
        renewed = connection.call(
            "EVAL", SCRIPTS["renew"], 1, self.lease, self.token, self.lease_ms
        )
        return bool(renewed)

    def renew_until_released(self) -> None:
        while not self.released.wait(self.renewal_pause_s()):
            if self.anew or not self.has_held:
                continue
            try:
                held = self.renew()
            except (OSError, ReplyError) as lost:
                self.log(f"the lease isn't renewed: {lost}")
                held = False
            if not held:
                self.begin_anew()
            with self.changed:
                self.changed.notify_all()

    def renewal_pause_s(self) -> float:
        return self.lease_s / 4

    def is_fresh(self) -> bool:
        """Whether a claim that is sent now ends within the lease."""
        return time.monotonic() - self.renewed_s < self.lease_s - self.block_s

    def is_late(self) -> bool:
        """Whether the lease may have lapsed before the reply to a claim was read."""
        return time.monotonic() - self.renewed_s > self.lease_s

    # Claims and adoptions.

    def take(self) -> None:
        self.wait_for_slot()
        with self.changed:
            self.changed.wait_for(lambda: self.stopping or self.anew or self.is_fresh())
        self.check_connections()
        if self.stopping:
            return
        if self.due:
            self.adopt_next()
        elif self.scan_is_due():
            self.scan()
        else:
            raw = self.claim()
            if raw is not None:
                self.start(raw)

    def claim(self) -> bytes | None:
        block_s = min(self.block_s, max(0.01, self.scan_at_s - time.monotonic()))
        raw: bytes | None = self.within_lease(
            "BLMOVE", self.queue, self.list, "RIGHT", "LEFT", f"{block_s:.3f}"
        )
        self.check_lapse()
        return raw

    def within_lease(self, *command: str | bytes | int) -> Any:
        assert self.claims is not None
        self.unanswered += 1
        reply = self.claims.call(*command)
        self.unanswered -= 1
        return reply

    def check_lapse(self) -> None:
        """Leave what a claim returned too late to the next look."""
        if self.is_late():
            raise Lapsed("the lease may have lapsed during a claim")
        self.check_connections()

    def adopt_next(self) -> None:
        self.adopting = True
        try:
            raw = self.adopt(self.due[0])
        except ReplyError as refusal:
            if LOST.search(str(refusal)):
                raise
            self.log(f"a list can't be adopted from: {refusal}")
            raw = None
        self.adopting = False
        if raw is None:
            self.due.pop(0)
            return
        assert self.found is not None
        self.found[raw] += 1
        self.check_lapse()
        self.found[raw] -= 1
        self.start_adopted(raw)

    def start_adopted(self, raw: bytes) -> None:
        self.start_counted(raw)

    def adopt(self, key: bytes) -> bytes | None:
        keys = (self.processors, self.lease, self.lease_of(key), self.list, key)
        raw: bytes | None = self.within_lease(
            "EVAL", SCRIPTS["adopt"], 5, *keys, self.token, self.lease_ms, self.grace_ms
        )
        return raw

    def look(self) -> list[bytes]:
        entries = super().look()
        if self.adopting:  # what is new there was perhaps adopted
            assert self.found is not None
            self.found |= Counter(entries) - self.held
            self.adopting = False
        return entries

    # The scan.

    def scan_is_due(self) -> bool:
        return time.monotonic() >= self.scan_at_s

    def scan(self) -> None:
        assert self.claims is not None
        try:
            seconds, micros = self.claims.call("TIME")
        except ReplyError as refusal:
            if not str(refusal).startswith("NOPERM"):
                raise
            self.log(f"no list is adopted from: {refusal}")
            self.scan_at_s = time.monotonic() + self.lease_s
            return
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        in_ms = self.lease_ms * random.uniform(0.8, 1.0)  # noqa: S311 - no secret
        due = []
        for key, written in self.registrations():
            if self.is_ignored(key):
                continue
            try:
                due_in_ms = self.due_in(key, self.lapsed_at(written, now_ms), now_ms)
            except ReplyError as refusal:
                self.log(f"a registration is skipped: {refusal}")
                continue
            if due_in_ms <= 0:
                due.append(key)
            in_ms = min(in_ms, due_in_ms if due_in_ms > 0 else self.lease_ms)
        self.due = due
        self.scan_at_s = time.monotonic() + max(in_ms, 1) / 1000

    def registrations(self) -> Iterator[tuple[bytes, bytes]]:
        assert self.claims is not None
        cursor = b"0"
        while True:
            cursor, page = self.claims.call("HSCAN", self.processors, cursor, "COUNT", PAGE)
            yield from zip(page[::2], page[1::2], strict=True)
            if cursor == b"0":
                return

    def is_ignored(self, key: bytes) -> bool:
        ours = {self.queue.encode(), self.dead.encode(), self.list.encode()}
        return key in ours or not key.startswith(f"{self.queue}:".encode())

    def lapsed_at(self, written: bytes, now_ms: int) -> int:
        """When a list lapsed, or below zero when it was found empty; 0 for one that isn't marked."""
        if not NUMBER.fullmatch(written) or abs(int(written)) > now_ms:
            return 0
        return int(written)

    def due_in(self, key: bytes, value: int, now_ms: int) -> float:
        """In how many milliseconds the list has to be looked after."""
        assert self.claims is not None
        if value < 0:
            left = self.claims.call("LLEN", key)
            return 0 if left else self.grace_ms - (now_ms + value)
        lease_ms: int = self.claims.call("PTTL", self.lease_of(key))
        if lease_ms == -1:
            return self.lease_ms
        if lease_ms >= 0:
            return lease_ms + 1
        return self.lease_ms - (now_ms - value) if value else 0

    def next_look(self) -> None:
        super().next_look()
        self.looks_at[0] = min(self.looks_at[0], time.monotonic() + self.lease_s)

    # The stop.

    def exit_status(self) -> int:
        status = super().exit_status()
        self.released.set()
        try:
            if self.may_unregister():
                self.unregister()
            self.give_back()
        except (OSError, ReplyError) as lost:
            self.log(f"the lease isn't released: {lost}")
        return status

    def may_unregister(self) -> bool:
        assert self.claims is not None
        return self.created and not self.unanswered and self.claims.call("LLEN", self.list) == 0

    def unregister(self) -> None:
        assert self.claims is not None
        self.claims.call("HDEL", self.processors, self.list)

    def give_back(self) -> None:
        assert self.claims is not None
        self.claims.call("EVAL", SCRIPTS["release"], 1, self.lease, self.token)
