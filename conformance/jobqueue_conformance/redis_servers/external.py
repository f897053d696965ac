"""A real Redis of the user's own: used while its database is empty, and left as it was found.

It is never flushed, set or restarted: what needs that is `Unsupported` there.
"""

from urllib.parse import unquote, urlsplit

import redis

from jobqueue_conformance.redis_servers.base import RedisServer, RedisUnavailable
from jobqueue_conformance.spec.verdicts import Unsupported


class ExternalRedis(RedisServer):
    """The database that a URL names."""

    private = False

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        super().__init__(
            parts.hostname or "127.0.0.1", parts.port or 6379, int(parts.path.strip("/") or 0)
        )
        self.username = unquote(parts.username) if parts.username else None
        self.password = unquote(parts.password) if parts.password else None
        self.description = f"redis://{self.host}:{self.port}/{self.database}"
        try:
            with self.connect() as admin:
                keys = admin.dbsize()
        except redis.RedisError as error:
            raise RedisUnavailable(f"{self.description} can't be used: {error}") from error
        if keys:
            raise RedisUnavailable(
                f"{self.description} holds {keys} keys: the suite only uses an empty database, and flushes none"
            )

    def start(self) -> None:
        """Unsupported: only the user may do this."""
        self._unsupported("to start it")

    def kill(self) -> None:
        """Unsupported: only the user may do this."""
        self._unsupported("to kill it")

    def close(self) -> None:
        """Leave it running."""

    def keep_data(self) -> None:
        """Unsupported: only the user may do this."""
        self._unsupported("to set it")

    def empty(self, queue: str) -> None:
        """Delete the keys of the last test, and no others."""
        with self.connect() as admin:
            pattern = "".join(f"\\{char}" if char in "*?[]\\" else char for char in queue) + "*"
            for key in admin.scan_iter(match=pattern):
                admin.delete(key)

    def _unsupported(self, what: str) -> None:
        raise Unsupported(f"{self.description} is the user's own, and the test needs {what}")
