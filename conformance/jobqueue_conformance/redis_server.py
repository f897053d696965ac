"""A real Redis for one process of the suite: chosen, started, emptied, restarted with its data, stopped.

Three kinds behave alike: a program on this machine (`redis_local`), a container (`redis_container`), and a server of
the user's own (`redis_foreign`).
"""

import shutil
import subprocess
import time
from collections.abc import Callable
from weakref import WeakSet

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START_S = 30.0


class RedisUnavailable(Exception):
    """No Redis can be had the way that was asked for; the message says why."""


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

    def start(self) -> None:
        """Start it with the data that it has, and return when it answers."""
        raise NotImplementedError

    def kill(self) -> None:
        """End it as a power cut would."""
        raise NotImplementedError

    def close(self) -> None:
        """End it for good, and remove what it leaves behind."""
        self.kill()

    def connect(self, username: str | None = None, password: str | None = None) -> redis.Redis:
        """A client straight to this server, also after a restart: bytes, no retries, no time limit."""
        client = redis.Redis(
            host=self.host,
            port=self.port,
            db=self.database,
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
        with self.connect() as admin:
            admin.replicaof("NO", "ONE")
            admin.config_set("maxmemory", 0)
            admin.config_set("appendonly", "no")
            admin.flushall()
            admin.script_flush()
            for user in admin.acl_users():
                if user != "default":
                    admin.acl_deluser(user)

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


def choose(wanted: str, image: str, say: Callable[[str], None]) -> str:
    """What `--redis` comes to on this machine: a URL, `container`, or the path of a program.

    Raises:
        RedisUnavailable: what was asked for isn't there.
    """
    if "://" in wanted:
        open_server(wanted, image)  # refused here rather than in the first test
        return wanted
    if wanted == "embedded":
        return _embedded()
    if wanted not in {"auto", "container"}:
        found = shutil.which(wanted)
        if found is None:
            raise RedisUnavailable(f"--redis={wanted} is no program that can be started")
        return found
    from jobqueue_conformance import redis_container  # noqa: PLC0415 - slow to import

    reason = redis_container.why_not(image, say)
    if reason is None:
        return "container"
    if wanted == "container":
        raise RedisUnavailable(f"no container can be had: {reason}")
    say(f"no container: {reason}")
    return program()


def program() -> str:
    """The path of a server that can be started here, without a container."""
    return shutil.which("redis-server") or shutil.which("valkey-server") or _embedded()


def _embedded() -> str:
    from jobqueue_conformance import redis_local  # noqa: PLC0415 - it imports this module

    return redis_local.embedded()


def open_server(chosen: str, image: str) -> RedisServer:
    """Start what `choose` has chosen."""
    if "://" in chosen:
        from jobqueue_conformance import redis_foreign  # noqa: PLC0415 - it imports this module

        return redis_foreign.ForeignRedis(chosen)
    if chosen == "container":
        from jobqueue_conformance import redis_container  # noqa: PLC0415 - slow to import

        return redis_container.ContainerRedis(image)
    from jobqueue_conformance import redis_local  # noqa: PLC0415 - it imports this module

    return redis_local.LocalRedis(chosen)


def describe(chosen: str, image: str) -> str:
    """What `choose` has chosen, for a reader."""
    if "://" in chosen:
        server = open_server(chosen, image)
        return f"{server.description}, {server.version}"
    if chosen == "container":
        return f"a container of {image}"
    said = subprocess.run([chosen, "--version"], capture_output=True, text=True, check=False)
    version = next((word[2:] for word in said.stdout.split() if word.startswith("v=")), "?")
    return f"{chosen}, version {version}"
