"""What a test can ask for; registered by the plugin when something is under test.

The real Redis lives as long as the process that runs the tests; everything else is made for one test.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest
import redis as redis_py

from jobqueue_conformance import redis_server as redis_servers
from jobqueue_conformance.bell import Bell
from jobqueue_conformance.client_process import ClientProcess
from jobqueue_conformance.client_sweep import ClientSweep
from jobqueue_conformance.keys import PROCESSOR, Keys
from jobqueue_conformance.manifest import Implementation
from jobqueue_conformance.observer import Observer
from jobqueue_conformance.peer import Peer
from jobqueue_conformance.process import Process, SetupError
from jobqueue_conformance.redis_server import RedisServer
from jobqueue_conformance.server_faults import ServerFaults
from jobqueue_conformance.server_process import ServerProcess
from jobqueue_conformance.server_sweep import ServerSweep
from jobqueue_conformance.subjects import REDIS_VERSION, SUBJECTS
from jobqueue_conformance.tap import Tap
from jobqueue_conformance.verdicts import Unsupported

BLOCK_MS = 1000  # a whole second, for servers whose Redis commands take no fractions


class StartServer(Protocol):
    """Starts a server and waits until it has named the queue."""

    def __call__(
        self,
        processor: str = PROCESSOR,
        *,
        in_process: str | None = None,
        concurrency: int = 1,
        block_ms: int = BLOCK_MS,
        channel_prefix: str = "",
        user: str | None = None,
        password: str = "",
        wait: bool = True,
    ) -> ServerProcess:
        """`in_process` is the whole key, and "" leaves its name to the server; `wait=False` returns at once."""


class StartClient(Protocol):
    """Starts a client's driver."""

    def __call__(self, *, user: str | None = None, password: str = "") -> ClientProcess:
        """The driver is ready for `submit`."""


@dataclass
class Pace:
    """How long this machine takes for a start decides how long a hang may last."""

    deadline_s: float = 10.0
    processes: list[Process] = field(default_factory=list)


@pytest.fixture(scope="session")
def pace() -> Pace:
    """What is learned from test to test."""
    return Pace()


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> Iterator[RedisServer]:
    """The real Redis of this process."""
    server = redis_servers.open_server(
        pytestconfig.getoption("redis"), pytestconfig.getoption("redis_image")
    )
    pytestconfig.stash[REDIS_VERSION] = server.version
    yield server
    server.close()


@pytest.fixture
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """The implementation whose class this test is about."""
    subjects = request.config.stash[SUBJECTS]
    return subjects.of_class("client" if "client" in request.fixturenames else "server")


@pytest.fixture
def keys(request: pytest.FixtureRequest) -> Keys:
    """Names that no other test uses."""
    return Keys.fresh(request.config.stash[SUBJECTS].hard_coded)


@pytest.fixture
def bell(pace: Pace) -> Iterator[Bell]:
    """What everything rings."""
    bell = Bell()
    bell.deadline_s = pace.deadline_s
    yield bell
    pace.deadline_s = max(pace.deadline_s, bell.deadline_s)
    bell.check()


@pytest.fixture
def emptied(redis_server: RedisServer, keys: Keys) -> Iterator[RedisServer]:
    """The real Redis, with nothing in it."""
    redis_server.empty(keys.queue)
    yield redis_server
    if not redis_server.private:
        redis_server.empty(keys.queue)


@pytest.fixture
def redis(emptied: RedisServer) -> Iterator[redis_py.Redis]:
    """A client straight to the real Redis, whose database is empty."""
    with emptied.connect() as connected:
        yield connected


@pytest.fixture
def tap(bell: Bell, emptied: RedisServer) -> Iterator[Tap]:
    """The proxy in front of the real Redis."""
    tap = Tap(bell, lambda: (emptied.host, emptied.port))
    yield tap
    tap.close()


@pytest.fixture
def observer(bell: Bell, emptied: RedisServer) -> Iterator[Observer]:
    """Hears everything that is published."""
    observer = Observer(emptied, bell)
    yield observer
    observer.close()


@pytest.fixture
def peer(redis: redis_py.Redis, keys: Keys, observer: Observer, bell: Bell, tap: Tap) -> Peer:
    """The suite's own other side."""
    return Peer(redis, keys, observer, bell, tap)


@pytest.fixture
def server(
    request: pytest.FixtureRequest,
    peer: Peer,
    keys: Keys,
    redis_server: RedisServer,
    redis: redis_py.Redis,
    tap: Tap,
    bell: Bell,
    tmp_path: Path,
) -> Iterator[StartServer]:
    """Starts servers under test."""
    under_test = request.config.stash[SUBJECTS].of_class("server")
    assert under_test.server is not None

    def start(
        processor: str = PROCESSOR,
        *,
        in_process: str | None = None,
        concurrency: int = 1,
        block_ms: int = BLOCK_MS,
        channel_prefix: str = "",
        user: str | None = None,
        password: str = "",
        wait: bool = True,
    ) -> ServerProcess:
        door = tap.door("server" if processor == PROCESSOR else processor, keys.queue)
        environment = {
            "REDIS_URL": _url(redis_server, door.port, user, password),
            "JOBQUEUE_QUEUE": keys.queue,
            "JOBQUEUE_PROCESSOR": processor,
            "JOBQUEUE_BLOCK_MS": str(block_ms),
        }
        whole_key = keys.in_process(processor) if in_process is None else in_process
        if whole_key:
            environment["JOBQUEUE_IN_PROCESS"] = whole_key
        if "concurrency" in under_test.features:
            environment["JOBQUEUE_CONCURRENCY"] = str(concurrency)
        if "channel-prefix" in under_test.features:
            environment["JOBQUEUE_CHANNEL_PREFIX"] = channel_prefix
        started = ServerProcess(
            under_test.server or (),
            under_test.folder,
            environment,
            bell=bell,
            output=tmp_path,
            tap=tap,
            door=door,
            redis=redis,
            keys=keys,
            processor=processor,
            in_process=whole_key or keys.in_process(processor),
        )
        peer.servers = [each for each in peer.servers if each.door is not door] + [started]
        processes.append(started)
        try:
            if wait:
                started.wait_ready()
        except SetupError as error:
            if whole_key:
                raise
            raise Unsupported("the server takes its list's name only as a whole") from error
        return started

    processes: list[Process] = []
    yield start
    for process in processes:
        process.end()


@pytest.fixture
def client(
    request: pytest.FixtureRequest,
    peer: Peer,
    keys: Keys,
    redis_server: RedisServer,
    tap: Tap,
    bell: Bell,
    tmp_path: Path,
) -> Iterator[StartClient]:
    """Starts the drivers of clients under test."""
    under_test = request.config.stash[SUBJECTS].of_class("client")

    def start(*, user: str | None = None, password: str = "") -> ClientProcess:
        door = tap.door("client" if not processes else f"client-{len(processes) + 1}", keys.queue)
        started = ClientProcess(
            under_test.client or (),
            under_test.folder,
            {
                "REDIS_URL": _url(redis_server, door.port, user, password),
                "JOBQUEUE_QUEUE": keys.queue,
            },
            bell=bell,
            output=tmp_path,
            tap=tap,
            door=door,
        )
        peer.clients.append(started)
        processes.append(started)
        return started

    processes: list[Process] = []
    yield start
    for process in processes:
        process.end()


@pytest.fixture
def server_sweep(
    request: pytest.FixtureRequest,
    server: StartServer,
    peer: Peer,
    tap: Tap,
    redis: redis_py.Redis,
    keys: Keys,
) -> ServerSweep:
    """The fault sweep of a server."""
    features = request.config.stash[SUBJECTS].of_class("server").features
    only = request.config.getoption("boundary")
    return ServerSweep(server, peer, tap, redis, keys, features, only)


@pytest.fixture
def server_faults(
    server_sweep: ServerSweep,
    redis_server: RedisServer,
    redis: redis_py.Redis,
    keys: Keys,
    bell: Bell,
) -> ServerFaults:
    """The faults of the sweep."""
    return ServerFaults(server_sweep, redis_server, redis, keys, bell)


@pytest.fixture
def client_sweep(
    request: pytest.FixtureRequest,
    client: StartClient,
    peer: Peer,
    tap: Tap,
    redis: redis_py.Redis,
    redis_server: RedisServer,
    keys: Keys,
    bell: Bell,
) -> ClientSweep:
    """The fault sweep of a client."""
    only = request.config.getoption("boundary")
    return ClientSweep(client, peer, tap, redis, redis_server, keys, bell, only)


def _url(server: RedisServer, port: int, user: str | None, password: str) -> str:
    if user is None and server.password is not None:
        user, password = server.username or "default", server.password
    login = f"{user}:{password}@" if user is not None else ""
    return f"redis://{login}127.0.0.1:{port}/{server.database}"
