"""The registry of in-process lists as the suite plants it: processors that lapsed long ago, or never lived.

No test waits for C or G: what has to be long ago is written so.
"""

import redis

from jobqueue_conformance.programs.starting import BLOCK_MS, LEASES
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job

LONG_AGO_S = 600.0  # longer than C
SCAN_S = 2 * LEASES * BLOCK_MS / 1000  # in which a scan has to happen
GONE = "gone-away"  # a processor that never comes back
FOREIGN = "0123456789abcdef0123456789abcdef"  # the token of a life that no server has


class Registry:
    """Is connected to the real Redis, never through the proxy."""

    def __init__(self, redis: redis.Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def now_ms(self) -> int:
        """The time of Redis."""
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def register(self, processor: str, *jobs: Job, value: str | int = 0) -> str:
        """Register a processor with these jobs on its list, the first one claimed first; return the list's key.

        Args:
            processor: its name.
            jobs: what lies on its list.
            value: what the registration says.
        """
        key = self._keys.in_process(processor)
        for job in jobs:
            self._redis.lpush(key, job.message)
        self._redis.hset(self._keys.processors, key, str(value))
        return key

    def lapsed(self, processor: str, *jobs: Job, ago_s: float = LONG_AGO_S) -> str:
        """Register a processor whose list was marked as lapsed some time ago."""
        return self.register(processor, *jobs, value=self.now_ms() - round(ago_s * 1000))

    def emptied(self, processor: str, *jobs: Job, ago_s: float) -> str:
        """Register a processor whose list was found empty some time ago."""
        return self.register(processor, *jobs, value=-(self.now_ms() - round(ago_s * 1000)))

    def rename(self, processor: str, key: str) -> None:
        """Give a processor's list another key, as where the whole key is configured."""
        own = self._keys.in_process(processor)
        self._redis.rename(own, key)
        value = self._redis.hget(self._keys.processors, own)
        self._redis.hset(self._keys.processors, key, self._bytes(value))
        self._redis.hdel(self._keys.processors, own)

    def value(self, key: str) -> bytes | None:
        """What the registration of a list says; None where there is none."""
        return self._bytes(self._redis.hget(self._keys.processors, key))

    def marked(self, key: str) -> bool:
        """Whether a list was marked as lapsed within the last minute."""
        value = self.value(key) or b""
        return value.isdigit() and self.now_ms() - 60_000 < int(value) <= self.now_ms()

    def lease(self, processor: str, life_s: float = LONG_AGO_S) -> None:
        """Give a processor's list to another life."""
        key = self._keys.lease(self._keys.in_process(processor))
        self._redis.set(key, FOREIGN, px=round(life_s * 1000))

    def holder(self, processor: str) -> bytes | None:
        """The token in the lease of a processor's list."""
        return self._bytes(self._redis.get(self._keys.lease(self._keys.in_process(processor))))

    @staticmethod
    def _bytes(found: bytes | str | None) -> bytes | None:
        """A reply of a client that decodes nothing, for the type checker."""
        assert not isinstance(found, str)
        return found

    def end(self, processor: str) -> None:
        """End the lease of a processor's list, as if its life were over and L had passed."""
        self._redis.delete(self._keys.lease(self._keys.in_process(processor)))

    def lapse(self, key: str) -> bool:
        """End the lease of a list, and mark it as if that had been long ago; tell whether it is registered."""
        self._redis.delete(self._keys.lease(key))
        registered = self.value(key) is not None
        if registered:
            ago = self.now_ms() - round(LONG_AGO_S * 1000)
            self._redis.hset(self._keys.processors, key, str(ago))
        return registered

    def forget(self, processor: str) -> str:
        """Leave nothing of a processor: no lease, no entry, no registration; return the list's key."""
        key = self._keys.in_process(processor)
        self._redis.delete(self._keys.lease(key), key)
        self._redis.hdel(self._keys.processors, key)
        return key
