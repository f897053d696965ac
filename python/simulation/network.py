"""Connections in virtual time: they hold and delay, and never duplicate or reorder.

A connection can be cut so that both ends notice at once, or die without a word: one end goes on to
wait, a claim stays blocked at Redis, and what was on its way may arrive much later. A command that is
cut at any of its bytes never arrives, so cutting between two commands, or two replies, is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import random

    from jobqueue.protocol.commands import Command

    from simulation.clock import Clock
    from simulation.redis_process import RedisProcess


TOLD_SECONDS = 0.01  # until a peer notices a reset, where Redis doesn't


class Peer(Protocol):
    """Who has opened a connection."""

    @property
    def over(self) -> bool:
        """Whether its process has ended."""

    @property
    def own_list(self) -> bytes:
        """The list on which its jobs are, if it is a server."""

    def heard(self, connection: Connection, replies: list[Any]) -> None:
        """Read what has arrived."""

    def lost(self, connection: Connection) -> None:
        """Notice that the connection is reset."""


class Connection:
    """One connection between a peer and a Redis.

    Args:
        clock: The world's.
        chance: Decides how long each way takes.
        redis: Where it leads.
        peer: Who has opened it.
        resp3: Whether messages and replies share it.
    """

    def __init__(
        self,
        clock: Clock,
        chance: random.Random,
        redis: RedisProcess,
        peer: Peer,
        *,
        resp3: bool = False,
    ) -> None:
        self.resp3 = resp3
        self.made_at = clock.now
        self.channels: set[bytes] = set()  # to which it is subscribed, as Redis knows it
        self._clock = clock
        self._chance = chance
        self.redis = redis
        self._opened_by = peer
        self._peer: Peer | None = peer  # None: nobody reads any more
        self._arrives = 0.0  # when what was last sent arrives, so that nothing overtakes
        self._returns = 0.0
        self._late_seconds: float | None = 0.0  # of what is sent from now on; None: never arrives
        self._replies_arrive = True
        self._cut: tuple[float, float] | None = None  # of the next write
        redis.accept(self)

    @property
    def subscribed(self) -> bool:
        """Whether messages may arrive."""
        return bool(self.channels)

    @property
    def abandoned(self) -> bool:
        """Whether nobody reads any more."""
        return self._peer is None

    @property
    def orphaned(self) -> bool:
        """Whether the process is gone that has opened it."""
        return self._opened_by.over

    @property
    def own_list(self) -> bytes:
        """The list of the server that has opened it."""
        return self._opened_by.own_list

    def write(self, commands: list[Command]) -> None:
        """Send commands."""
        if self._cut is not None:
            fraction, seconds = self._cut
            self._cut = None
            commands = commands[: round(fraction * len(commands))]
            self._clock.after(seconds, self.cut)
            self._send(commands)
            self._late_seconds = None  # nothing arrives behind a gap
        else:
            self._send(commands)

    def reply(self, replies: list[Any]) -> None:
        """Send replies and messages back."""
        if self._replies_arrive:
            self._returns = max(self._returns, self._clock.now + self._way())
            self._clock.at(self._returns, self._deliver, replies)

    def close(self) -> None:
        """End it from the peer's side; Redis notices after all that was sent before."""
        self._peer = None
        if self._late_seconds is not None and self._replies_arrive:
            self._arrives = max(self._arrives, self._clock.now + self._late_seconds + self._way())
            self._clock.at(self._arrives, self.redis.forget, self)

    def hold(self, seconds: float) -> None:
        """Let nothing through for some seconds; it arrives then."""
        self._arrives = max(self._arrives, self._clock.now + seconds)
        self._returns = max(self._returns, self._clock.now + seconds)

    def cut_next_write(self, fraction: float, seconds: float) -> None:
        """Have the next write be cut: only a part of it is sent, and soon both ends notice."""
        self._cut = (fraction, seconds)

    def cut(self) -> None:
        """Reset it: both ends notice at once."""
        self.redis.forget(self)
        self._late_seconds, self._replies_arrive = None, False
        self._tell_peer()

    def die(self, noticed_after: float, late_seconds: float | None) -> None:
        """Have no reply arrive any more, and neither end notice.

        Args:
            noticed_after: When Redis notices, in seconds; until then a claim stays blocked.
            late_seconds: How late commands arrive that are sent from now on; None: never.
        """
        self._replies_arrive = False
        if self._late_seconds is not None:  # or a write was cut, and nothing arrives behind that
            self._late_seconds = late_seconds
        noticed = self._clock.now + noticed_after
        self._clock.at(max(noticed, self._arrives), self.redis.forget, self)

    def be_late(self, seconds: float) -> None:
        """Have the peer notice a reset soon, while what it sends now arrives at Redis much later."""
        self.die(2 * seconds, seconds)
        self._clock.after(TOLD_SECONDS, self._tell_peer)

    def _tell_peer(self) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            peer.lost(self)

    def _send(self, commands: list[Command]) -> None:
        if self._late_seconds is not None and commands:
            self._arrives = max(self._arrives, self._clock.now + self._late_seconds + self._way())
            self._clock.at(self._arrives, self.redis.receive, self, commands)

    def _deliver(self, replies: list[Any]) -> None:
        if self._peer is not None and self._replies_arrive:
            self._peer.heard(self, replies)

    def _way(self) -> float:
        slow = self._chance.random()
        return 0.0001 + 0.002 * slow if slow < 0.97 else 0.05 * self._chance.random()
