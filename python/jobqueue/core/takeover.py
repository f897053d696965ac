"""Adopting what servers have left behind: when the registry is read, and which lists are due.

A list is due when its server has no lease any more: to be marked as lapsed, then C later to be
emptied, and G after that to be forgotten. Every step is one script that checks all of this again, so
what is decided here may be out of date.

An adoption is a claim from a lapsed list: it takes the oldest entry, straight to the own list, when
a handler is free; and it is sent under the same conditions.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from jobqueue.core.lease import require_permission
from jobqueue.core.log import Log
from jobqueue.core.recovery import LOOK_SECONDS
from jobqueue.core.steps import Jitter, Now, exchange
from jobqueue.errors import ProcessorInUse
from jobqueue.protocol import keys as names
from jobqueue.protocol import leases
from jobqueue.protocol.commands import Unavailable

if TYPE_CHECKING:
    from jobqueue.core.lease import Lease
    from jobqueue.core.recovery import Looks
    from jobqueue.core.steps import Moment, Rest, Steps
    from jobqueue.protocol.keys import Keys

log = Log("jobqueue.server")

LEFT_SECONDS = 0.5  # when others may scan, although this server has found something to do
JITTER_SECONDS = 0.25  # so that many servers don't ask together


class Takeover:
    """What one server knows of the registry, and the conditions under which it may claim.

    Without a lease the feature is off, and nothing is forbidden.

    Args:
        keys: The keys of the queue.
        lease: Its own lease.
        grace_seconds: G, how long a list that was found empty stays registered.
        asks: Without a lease: whether to ask at the start if others would adopt from the own list.
    """

    def __init__(
        self,
        keys: Keys,
        lease: Lease | None = None,
        grace_seconds: float = 0.0,
        *,
        asks: bool = False,
    ) -> None:
        self._keys = keys
        self._asks = asks
        self.lease = lease
        self._grace_ms = int(grace_seconds * 1000)
        self._due: deque[bytes] = deque()
        self._next_scan = float("inf") if lease is None else float("-inf")
        self._scanned = False
        self._refused: set[bytes] = set()
        self.adopted = 0

    @property
    def on(self) -> bool:
        """Whether the feature is on."""
        return self.lease is not None

    @property
    def look_seconds(self) -> float:
        """How long the server may go without a look at its own list."""
        # server.takeover.own-list
        return LOOK_SECONDS if self.lease is None else min(LOOK_SECONDS, self.lease.seconds)

    def begin(self, generation: int, on_wait: Rest | None = None) -> Steps[bool]:
        """Get the right to claim on a new connection; False if a stop was requested meanwhile.

        Args:
            generation: That of the connection.
            on_wait: What lets the other queues of a server go first while it waits for its lease.

        Raises:
            ProcessorInUse: The feature is off, and others would adopt from the list.
            ProcessorLost: Another life has the lease, which this one had.
        """
        if self.lease is not None:
            return (yield from self.lease.acquire(generation, on_wait=on_wait))
        if self._asks and (yield from exchange(leases.registered(self._keys))):
            own = names.text(self._keys.in_process)
            raise ProcessorInUse(
                f"servers with takeover would adopt from {own}: start this one with takeover, or when "
                f"the list is empty run jobqueue unregister --in-process {own}"
            )
        self._asks = False
        return True

    def check(self, generation: int, moment: Moment) -> None:
        """Check right before a start that what was claimed may be started.

        Args:
            generation: The generation of the connection that claimed it.
            moment: The time; nothing was waited for since then.

        Raises:
            Lapsed: It may not, and the connection has to be replaced.
        """
        if self.lease is not None:
            self.lease.require(generation, moment)

    def check_now(self, generation: int) -> Steps[None]:
        """Look at the clock, and check that what was claimed may be started, as `check` does."""
        if self.lease is not None:
            self.lease.require(generation, (yield Now()))

    def check_connection(self, generation: int) -> None:
        """Check that no other connection of this server was lost.

        Raises:
            Lapsed: One was.
        """
        if self.lease is not None:
            self.lease.require_generation(generation)

    def before_claim(self, generation: int, moment: Moment) -> Steps[None]:
        """Check that a claim may be sent.

        Raises:
            Lapsed: It may not, and the connection has to be replaced.
        """
        if self.lease is not None:
            yield from self.lease.before_claim(generation, moment)

    def claimable(self, generation: int, now: float) -> bool:
        """Tell whether a claim may be sent now without anything before it."""
        allowed = self.lease is None or self.lease.claimable(generation, now)
        return allowed and not self.due(now)

    def due(self, now: float) -> bool:
        """Tell whether there is something to look after before the next claim."""
        return bool(self._due) or now >= self._next_scan

    def wait_seconds(self, now: float) -> float:
        """Return how long a claim may block at most."""
        return self._next_scan - now

    def end(self, looks: Looks) -> Steps[None]:
        """Give up the right to claim: nothing is left that was claimed."""
        if self.lease is not None:
            yield from self.lease.release(all_answered=looks.all_answered)

    def look_after(self, generation: int, looks: Looks) -> Steps[bytes | None]:
        """Do the next thing that is due; a handler is free, and no claim is outstanding.

        Returns:
            A message that was moved to the own list, or None.
        """
        if (lease := self.lease) is None:
            return None
        moment: Moment = yield Now()
        if moment.seconds >= self._next_scan:
            try:
                yield from self._scan(lease, moment.seconds)
            except Unavailable as error:
                if not self._scanned:
                    require_permission(str(error))
                raise
            moment = yield Now()
        # server.takeover.stops
        if moment.stopping or not self._due:
            return None
        yield from lease.before_claim(generation, moment)
        looks.adopting()
        message = yield from self._adopt(lease)
        looks.claimed()
        return message

    def _scan(self, lease: Lease, now: float) -> Steps[None]:
        jitter = min(JITTER_SECONDS, lease.seconds / 32) * (yield Jitter())
        lease_ms = lease.milliseconds
        # server.takeover.scans: the first one of a life is its own.
        others = yield from exchange(
            leases.scan_turn(self._keys, lease.token, lease_ms, always=not self._scanned)
        )
        if others is not None:
            self._next_scan = now + others / 1000 + jitter
            return
        found: dict[bytes, int] = {}
        cursor = b""
        while cursor != b"0":
            cursor, page = yield from exchange(
                leases.scan(self._keys, cursor or b"0", lease_ms, self._grace_ms)
            )
            found.update(page)
        # server.takeover.first
        self._due = deque(key for key, ms in found.items() if ms < 1 and key not in self._refused)
        due_ms = min([lease_ms, *(ms for ms in found.values() if ms >= 1)])
        left_ms = int(LEFT_SECONDS * 1000) if self._due else due_ms
        yield from exchange(leases.scan_over(self._keys, min(due_ms, left_ms)))
        self._scanned = True
        self._next_scan = now + due_ms / 1000 + jitter

    def _adopt(self, lease: Lease) -> Steps[bytes | None]:
        key = self._due[0]
        adopted = yield from exchange(
            leases.adopt(self._keys, lease.token, key, lease.milliseconds, self._grace_ms)
        )
        if adopted.message is not None:
            self.adopted += 1
            log.info("adopted a job from %s (%d in this life)", names.text(key), self.adopted)
            return adopted.message
        if adopted.refusal is None:
            self._due.popleft()
        elif leases.code(adopted.refusal) == "OOM":
            self._due.clear()  # at the memory limit adopting waits
        else:
            # server.takeover.ignores
            self._due.popleft()
            self._refused.add(key)
            log.warning("can't adopt from %s: %s", names.text(key), adopted.refusal.text)
        return None
