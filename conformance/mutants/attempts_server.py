"""The base server with the feature `attempts`: what it finds at its start is counted, and given up in the end.

`found` is the multiset of entries that the first look of this life saw and that aren't started yet; `counts` has
the count of those that are running.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

from base_server import Job, Json, Server
from resp import ReplyError

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT_S = 259_200


class AttemptsServer(Server):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.limit = int(environment.get("JOBQUEUE_MAX_ATTEMPTS", "3"))
        self.found: Counter[bytes] | None = None
        self.counts: dict[bytes, int] = {}

    # The main thread.

    def look(self) -> list[bytes]:
        entries = super().look()
        if self.found is None:
            self.found = Counter(entries)
        return entries

    def start_found(self, raw: bytes) -> None:
        if self.is_of_another_life(raw):
            self.start_counted(raw)
        else:
            super().start_found(raw)

    def is_of_another_life(self, raw: bytes) -> bool:
        assert self.found is not None
        if not self.found[raw]:
            return False
        self.found[raw] -= 1
        return True

    def is_unlimited(self) -> bool:
        return self.limit == 0

    def start_counted(self, raw: bytes) -> None:
        if self.is_unlimited():
            self.wait_for_slot()
            self.start(raw)
            return
        try:
            before = self.counted_before(raw)
            self.wait_for_place(before)
            self.counts[raw] = self.count(raw, before)
        except OSError:
            assert self.found is not None
            self.found[raw] += 1  # it isn't started yet
            raise
        self.start(raw)

    def key(self, raw: bytes) -> str:
        digest = hashlib.sha1(raw, usedforsecurity=False).hexdigest()
        return f"{self.queue}:attempts:{digest}"

    def counted_before(self, raw: bytes) -> int:
        assert self.claims is not None
        try:
            return int(self.claims.call("GET", self.key(raw)) or 0)
        except (ReplyError, ValueError):
            return 0

    def wait_for_place(self, before: int) -> None:
        with self.changed:
            self.changed.wait_for(
                lambda: self.running < self.concurrency and self.may_run_beside(before)
            )

    def may_run_beside(self, before: int) -> bool:
        """Whether neither this entry nor one that is running was counted before; or none is."""
        return not self.counts or (before == 0 and max(self.counts.values()) <= 1)

    def count(self, raw: bytes, _before: int) -> int:
        assert self.claims is not None
        try:
            count = int(self.claims.call("INCR", self.key(raw)))
            self.claims.call("EXPIRE", self.key(raw), KEPT_S)
        except ReplyError as refusal:
            return self.on_uncounted(raw, refusal)
        return count

    def on_uncounted(self, raw: bytes, refusal: ReplyError) -> int:
        self.log(f"an entry of {len(raw)} bytes isn't counted: {refusal}")
        return 1

    # A job's thread.

    def handle(self, raw: bytes) -> None:
        super().handle(raw)
        with self.changed:
            self.counts.pop(raw, None)
            self.changed.notify_all()

    def exceeds(self, raw: bytes) -> int:
        """By how much the count of an entry exceeds the limit."""
        return max(0, self.counts.get(raw, 0) - self.limit)

    def read(self, raw: bytes) -> Job | None:
        return None if self.exceeds(raw) > 1 else super().read(raw)

    def outcome(self, raw: bytes, job: Job) -> dict[str, Json]:
        if self.exceeds(raw):
            return self.error("too-many-attempts", f"{self.limit} lives ended while they ran it")
        return super().outcome(raw, job)

    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        if self.exceeds(raw):
            self.publish(job["channel"], result)
            self.bury(raw)
        else:
            super().answer(raw, job, result)
