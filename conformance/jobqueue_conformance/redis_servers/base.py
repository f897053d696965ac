"""A real Redis for one process of the suite: started, emptied, restarted with its data, stopped.

Three kinds behave alike: a program on this machine (`local`), a container (`container`), and a server of the user's
own (`external`); `choice` opens the one that was asked for.
"""

import time
from collections.abc import Callable
from weakref import WeakSet

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START_S = 30.0


class RedisUnavailable(Exception):
    """The Redis that was asked for can't be used; the message says why."""


class RedisServer:
    """What every kind shares; `host` and `port` may change when it is started again."""

    private = True
    description = ""

    def __init__(self, host: str, port: int, database: int = 0) -> None:
        self.host = host
        self.port = port
        self.database = database
        self.username: str | None = None
        self.password: str | None = None
        self._clients: WeakSet[redis.Redis] = WeakSet()
        self._emptier: redis.Redis | None = None

    def start(self) -> None:
        """Start it with the data that it has, and return when it answers."""
        raise NotImplementedError

    def kill(self) -> None:
        """End it as a power cut would."""
        raise NotImplementedError

    def close(self) -> None:
        """End it for good, and remove what it leaves behind."""
        self.kill()

    def connect(
        self, username: str | None = None, password: str | None = None, database: int | None = None
    ) -> redis.Redis:
        """A client straight to this server, also after a restart: bytes, no retries, no time limit."""
        client = redis.Redis(
            host=self.host,
            port=self.port,
            db=self.database if database is None else database,
            username=username or self.username,
            password=password or self.password,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
        )
        self._clients.add(client)
        return client

    def keep_data(self) -> None:
        """From now on, and until `empty`, every write survives `kill`."""
        with self.connect() as admin:
            admin.config_set("appendfsync", "always")
            admin.config_set("appendonly", "yes")
            self._wait(lambda: not admin.info("persistence")["aof_rewrite_in_progress"])

    def restart(self) -> None:
        """Kill it and start it again with its data; `keep_data` has been called before."""
        self.kill()
        self.start()

    def empty(self, queue: str) -> None:
        """Leave nothing of the last test: no key, user, script, limit or role.

        Args:
            queue: the key that all of the test's keys begin with.
        """
        del queue
        if self._emptier is None:
            self._emptier = self.connect()
        with self._emptier.pipeline(transaction=False) as admin:
            admin.replicaof("NO", "ONE")
            admin.config_set("maxmemory", 0)
            admin.config_set("appendonly", "no")
            admin.flushall()
            admin.script_flush()
            admin.acl_users()
            *_, users = admin.execute()
        if others := [each for each in users if each != "default"]:
            self._emptier.acl_deluser(*others)

    @property
    def version(self) -> str:
        """Its name and version, as in "redis 7.0.15"."""
        with self.connect() as admin:
            info = admin.info("server")
        name = info.get("server_name", "redis")
        return f"{name} {info.get(f'{name}_version', info['redis_version'])}"

    def _failed(self) -> str | None:
        """Why it never will answer, if that is known."""
        return None

    def _wait_until_it_answers(self) -> None:
        def answers() -> bool:
            try:
                with self.connect() as admin:
                    return bool(admin.ping())
            except redis.RedisError:
                return False

        self._wait(answers)
        for client in self._clients:
            pool = client.connection_pool
            pool.connection_kwargs.update(host=self.host, port=self.port)
            pool.disconnect()
            pool.reset()

    def _wait(self, done: Callable[[], bool]) -> None:
        end_s = time.monotonic() + START_S
        while not done():
            if failure := self._failed():
                raise RedisUnavailable(failure)
            if time.monotonic() > end_s:
                raise RedisUnavailable(f"{self.description} didn't answer within {START_S:g} s")
            time.sleep(0.002)
