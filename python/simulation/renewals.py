"""Until when a server may claim: the renewals of one life, as it knows them itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.core.lease import NEVER

if TYPE_CHECKING:
    from simulation.network import Connection
    from simulation.redis_process import RedisProcess


class Renewals:
    """The successful renewals of one life."""

    def __init__(self) -> None:
        self._lost_at = 0.0  # a connection, upon which all others have to be made anew
        self._made_anew_at = 0.0  # the last one that followed another one of the same session
        self._sent_at: dict[RedisProcess, float] = {}  # the last one on each
        self._last = (NEVER, NEVER)  # when the last one of all was sent, and its connection made

    def __bool__(self) -> bool:
        return bool(self._sent_at)

    def add(self, connection: Connection, sent_at: float) -> None:
        """Note one."""
        self._sent_at[connection.redis] = sent_at
        self._last = (sent_at, connection.made_at)

    def lost(self, connection: Connection | None, now: float) -> None:
        """Note a lost connection, unless a newer one says that it was to be made anew in any case."""
        if connection is not None and connection.made_at >= self._made_anew_at:
            self._lost_at = now

    def made_anew(self, now: float) -> None:
        """Note that a session connects again."""
        self._made_anew_at = now

    def last_for(self, redis: RedisProcess) -> float:
        """Return when the last one was sent that counts for claims on a Redis.

        It was sent there, or on a connection that is newer than the last loss of any connection: so that
        may lead elsewhere only if Redis was replaced between the two.
        """
        sent_at, made_at = self._last
        return self._sent_at.get(redis, NEVER) if made_at < self._lost_at else sent_at
