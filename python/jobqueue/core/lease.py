"""The lease of a server's list: who may claim, and who has to connect again.

While a server lives it renews the lease, on a connection on which nothing blocks. A server whose
lease has lapsed may be robbed of its entries, so it claims nothing, looks at its list again, and
starts nothing that is no longer there.

A renewal counts only for claims on the same Redis. So all connections of a server are of one
generation: when one of them is lost, or the lease has lapsed, the generation ends, and each session
connects again before it goes on.

    waits ──free──▶ held ──lapsed, or a connection lost──▶ connects again ──▶ held
                                                                 └─another's token─▶ ProcessorLost

One `Lease` is shared by the sessions of a server, which may run in several threads: each assignment
here is of one whole value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.core.log import Log
from jobqueue.core.reconnect import run_with_reconnect
from jobqueue.core.steps import Now, Pause, Refused, exchange
from jobqueue.errors import ConnectionLost, ProcessorLost
from jobqueue.protocol import keys as names
from jobqueue.protocol import leases
from jobqueue.protocol.commands import Unavailable

if TYPE_CHECKING:
    from jobqueue.core.reconnect import Backoff
    from jobqueue.core.steps import Moment, Rest, Steps
    from jobqueue.protocol.keys import Keys

log = Log("jobqueue.server")

RENEWALS = 4  # in the time of a lease; the protocol wants 3
WAIT_SECONDS = 0.5  # the longest wait before another look at the lease of an earlier life
NEVER = float("-inf")


def require_permission(words: str) -> None:
    """Check that an error of Redis is about anything but a permission.

    Raises:
        Refused: The user of Redis lacks one.
    """
    if leases.forbidden(words):
        raise Refused(
            f"takeover needs more permissions in Redis than this user has: {words}; give it those of "
            "the protocol's section 12, or start the server with takeover=False or --no-takeover"
        )


class Lapsed(ConnectionLost):
    """The lease wasn't renewed in time, or belongs to an earlier generation of connections."""


class Lease:
    """The lease of one life of a server.

    Args:
        keys: The keys of the queue.
        token: The name of this life, which no other life has.
        seconds: L, how long the lease lasts without a renewal.
        block_seconds: T, how long a claim may block.
        former: The token of a life of this list that is over, if one is known.
    """

    def __init__(
        self,
        keys: Keys,
        token: bytes,
        *,
        seconds: float,
        block_seconds: float,
        former: bytes | None = None,
    ) -> None:
        self._keys = keys
        self.token = token
        self.seconds = seconds
        self._block_seconds = block_seconds
        self._former = former
        self.generation = 0
        self._renewal = (0, NEVER)  # the generation of the last one, and when it was sent
        self._held = False  # whether this life has ever had the lease
        self._over = False  # whether this life has given it up
        self._registered_in = -1  # the generation in which the list was registered
        self._created: bool | None = None  # whether the first registration of this life created it

    @property
    def milliseconds(self) -> int:
        """L, as Redis takes it."""
        return int(self.seconds * 1000)

    def ends(self, generation: int) -> None:
        """Note that a connection of a generation is lost."""
        if self.generation == generation:
            self.generation = generation + 1

    def require(self, generation: int, moment: Moment, reserve: float = 0.0) -> None:
        """Check that what was claimed may be started.

        Args:
            generation: The generation of the caller's connection.
            moment: The time.
            reserve: The seconds for which the lease must last at least.

        Raises:
            Lapsed: It may not: others may have taken it over.
        """
        # server.takeover.lapse
        if not self.holds(generation, moment.seconds, reserve):
            self.require_generation(generation)
            raise Lapsed("the lease was not renewed in time")

    def require_generation(self, generation: int) -> None:
        """Check that no other connection of this server was lost.

        Raises:
            Lapsed: One was.
        """
        if generation != self.generation:
            raise Lapsed("another connection of this server was lost, or its lease")

    def holds(self, generation: int, now: float, reserve: float = 0.0) -> bool:
        """Tell whether `require` would pass."""
        renewed_in, sent = self._renewal
        return generation == self.generation == renewed_in and now - sent <= self.seconds - reserve

    def claimable(self, generation: int, now: float) -> bool:
        """Tell whether `before_claim` would pass without a command."""
        registered = self._registered_in == generation
        return registered and self.holds(generation, now, self._block_seconds)

    def before_claim(self, generation: int, moment: Moment) -> Steps[None]:
        """Check that a claim may be sent, and register the list if Redis has refused that before.

        Raises:
            Lapsed: It may not be sent.
        """
        # server.takeover.within-lease, server.takeover.registers
        self.require(generation, moment, reserve=self._block_seconds)
        if self._registered_in != generation:
            yield from exchange(leases.register(self._keys))
            self._registered_in = generation

    def acquire(
        self, generation: int, *, claims: bool = True, on_wait: Rest | None = None
    ) -> Steps[bool]:
        """Take the lease, or wait until it is free; on each new connection, before anything else.

        Args:
            generation: The generation of the connection.
            claims: Whether the caller claims on this connection.
            on_wait: What lets the other queues of a server go first while it waits.

        Returns:
            False if a stop was requested while it waited.

        Raises:
            ProcessorLost: This life had it, and another one has it now.
            Refused: The user of Redis lacks a permission.
        """
        # server.takeover.lease-first
        if self._former is not None and not self._held:
            yield from self._inherit(self._former)
        waiting = False
        while True:
            moment: Moment = yield Now()
            found = yield from self._ask()
            if found.holder == self.token:
                break
            if self._held and self._former is not None and found.holder == self._former:
                # server.takeover.waits: Redis is older than this life, from an old file or on an old replica.
                yield from self._inherit(self._former)
                continue
            self._refuse(found)
            if not waiting:
                # server.takeover.waits
                log.info("waiting for the lease of an earlier life of %s", self._list)
                waiting = True
                if on_wait is not None:
                    yield on_wait
            if moment.stopping:
                return False
            left_seconds = found.left_ms / 1000 if found.left_ms >= 0 else WAIT_SECONDS
            yield Pause(min(max(left_seconds, 0.01), WAIT_SECONDS, self.seconds / 3))
        if claims and found.registered:
            self._registered_in = generation
        if found.taken and self._held:
            self._renewal = (generation, moment.seconds)
        else:  # at the start, too, to find out whether the script is allowed
            yield from self._renew(generation)
        return True

    def renewing(self) -> Steps[None]:
        """Renew the lease until the server has ended; in a thread or task of its own."""
        try:
            yield from run_with_reconnect(self._renewals, self, persist=True)
        except (ProcessorLost, ConnectionLost):
            return  # the session that claims finds out by itself

    def release(self, *, all_answered: bool) -> Steps[None]:
        """Give up the lease at the end of this life, when nothing is left that it claimed.

        Args:
            all_answered: Whether each claim of this life was answered, so that none can be late.
        """
        # server.takeover.releases
        self._over = True
        unregister = bool(self._created) and all_answered
        try:
            yield from exchange(leases.release(self._keys, self.token, unregister=unregister))
        except ConnectionLost as error:
            log.info("%s; the lease of %s ends by itself", error, self._list)

    def _renewals(self, backoff: Backoff) -> Steps[None]:
        if self._held and not self._over:  # so that the lease lasts while a handler runs
            yield from self.acquire(backoff.generation, claims=False)
            backoff.reset()
        while True:
            yield Pause(self.seconds / RENEWALS)
            moment: Moment = yield Now()
            if moment.stopping or self._over:
                return
            self.require_generation(backoff.generation)
            if self._held:
                yield from self._renew(backoff.generation)
                backoff.reset()

    def _ask(self) -> Steps[leases.Acquired]:
        first = self._created is None
        self._created = self._created or False
        found: leases.Acquired = yield from exchange(
            leases.acquire(self._keys, self.token, self.milliseconds)
        )
        if first:
            self._created = found.created
        if not self._held:
            require_permission(found.refusal)
        return found

    def _renew(self, generation: int) -> Steps[None]:
        # server.takeover.renews
        moment: Moment = yield Now()
        first, self._held = not self._held, True
        try:
            renewed = yield from exchange(leases.renew(self._keys, self.token, self.milliseconds))
        except Unavailable as error:
            if first:
                require_permission(str(error))
            raise
        if self._over:
            return
        if not renewed:
            raise Lapsed(f"the lease of {self._list} has lapsed")
        self._renewal = (generation, moment.seconds)

    def _inherit(self, former: bytes) -> Steps[None]:
        try:
            yield from exchange(leases.inherit(self._keys, former, self.token, self.milliseconds))
        except Unavailable as error:
            if not self._held and leases.forbidden(str(error)):
                yield from self._ask()  # Redis names a forbidden command only outside of a script
            require_permission(str(error))
            raise

    def _refuse(self, found: leases.Acquired) -> None:
        if found.holder is None:
            raise Unavailable(f"the lease of {self._list} can't be taken: {found.refusal}")
        if self._held:
            # server.takeover.lost-name
            self.ends(self.generation)
            raise ProcessorLost(
                f"another server has taken over the list {self._list}: give each server a name of "
                "its own"
            )

    @property
    def _list(self) -> str:
        return names.text(self._keys.in_process)
