"""What a test can ask for; registered by the plugin when something is under test.

The real Redis lives as long as the process that runs the tests; everything else is made for one test.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as redis_py

from jobqueue_conformance.peer.observer import Observer
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.registry import Registry
from jobqueue_conformance.programs.client import ClientProcess
from jobqueue_conformance.programs.process import Process, SetupError
from jobqueue_conformance.programs.server import ServerProcess
from jobqueue_conformance.programs.starting import (
    AMPLE_LEASES,
    BLOCK_MS,
    BOUNDED,
    GRACE_MS,
    LEASES,
    SILENCE_MS,
    StartClient,
    StartServer,
)
from jobqueue_conformance.programs.subjects import REDIS_VERSION, SUBJECTS, Subjects
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.redis_servers import choice
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import PROCESSOR, Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.verdicts import Unsupported
from jobqueue_conformance.sweep.client import ClientSweep
from jobqueue_conformance.sweep.server import ServerSweep
from jobqueue_conformance.sweep.server_faults import ServerFaults


@dataclass
class Pace:
    """How long a wait may last before it is a hang; a machine on which programs start slowly gets longer."""

    deadline_s: float = 10.0


@pytest.fixture(scope="session")
def pace() -> Pace:
    """What is learned from test to test."""
    return Pace()


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> Iterator[RedisServer]:
    """The real Redis of this process."""
    server = choice.open_server(
        pytestconfig.getoption("redis"), pytestconfig.getoption("redis_image")
    )
    pytestconfig.stash[REDIS_VERSION] = server.version
    yield server
    server.close()


@pytest.fixture
def subjects(request: pytest.FixtureRequest) -> Subjects:
    """Whose server and whose client are under test."""
    return request.config.stash[SUBJECTS]


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
def notifier(pace: Pace) -> Iterator[Notifier]:
    """What every part of the kit notifies."""
    notifier = Notifier()
    notifier.deadline_s = pace.deadline_s
    yield notifier
    pace.deadline_s = max(pace.deadline_s, notifier.deadline_s)
    notifier.check()


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
def proxy(notifier: Notifier, emptied: RedisServer) -> Iterator[Proxy]:
    """The proxy in front of the real Redis."""
    proxy = Proxy(notifier, lambda: (emptied.host, emptied.port))
    yield proxy
    proxy.close()


@pytest.fixture
def observer(notifier: Notifier, emptied: RedisServer) -> Iterator[Observer]:
    """Hears everything that is published."""
    observer = Observer(emptied, notifier)
    yield observer
    observer.close()


@pytest.fixture
def peer(
    redis: redis_py.Redis, keys: Keys, observer: Observer, notifier: Notifier, proxy: Proxy
) -> Peer:
    """The suite's own other side."""
    return Peer(redis, keys, observer, notifier, proxy)


@pytest.fixture
def registry(redis: redis_py.Redis, keys: Keys) -> Registry:
    """The registry of in-process lists, and what the suite plants there."""
    return Registry(redis, keys)


@pytest.fixture
def server(
    request: pytest.FixtureRequest,
    peer: Peer,
    keys: Keys,
    redis_server: RedisServer,
    redis: redis_py.Redis,
    proxy: Proxy,
    notifier: Notifier,
    tmp_path: Path,
) -> Iterator[StartServer]:
    """Starts servers under test."""
    subjects = request.config.stash[SUBJECTS]
    about = [each for mark in request.node.iter_markers("requirement") for each in mark.args]
    leases = LEASES if any("takeover" in each for each in about) else AMPLE_LEASES

    def start(
        processor: str = PROCESSOR,
        *,
        of: str = "server",
        in_process: str | None = None,
        concurrency: int = 1,
        block_ms: int = BLOCK_MS,
        channel_prefix: str = "",
        max_attempts: int = 3,
        keep_max_ms: int | None = None,
        lease_ms: int | None = None,
        keep_lease: bool = False,
        user: str | None = None,
        password: str = "",
        database: str | None = None,
        wait: bool = True,
        environment: Mapping[str, str] | None = None,
        bounded: bool = False,
        direct: bool = False,
    ) -> ServerProcess:
        under_test = subjects.of_class(of)
        assert under_test.server is not None
        endpoint = proxy.endpoint("server" if processor == PROCESSOR else processor, keys.queue)
        address = (redis_server.host, redis_server.port) if direct else endpoint.address
        variables = {
            **(environment or {}),
            "REDIS_URL": _url(redis_server, address, user, password, database),
            "JOBQUEUE_QUEUE": keys.queue,
            "JOBQUEUE_PROCESSOR": processor,
            "JOBQUEUE_BLOCK_MS": str(block_ms),
            "JOBQUEUE_SILENCE_MS": str(SILENCE_MS),
        }
        whole_key = keys.in_process(processor) if in_process is None else in_process
        listed = whole_key or keys.in_process(processor)
        if whole_key:
            variables["JOBQUEUE_IN_PROCESS"] = whole_key
        variables |= _of_features(
            under_test.features,
            {
                "concurrency": {"JOBQUEUE_CONCURRENCY": str(concurrency)},
                "channel-prefix": {"JOBQUEUE_CHANNEL_PREFIX": channel_prefix},
                "attempts": {"JOBQUEUE_MAX_ATTEMPTS": str(max_attempts)},
                "kept-results": {}
                if keep_max_ms is None
                else {"JOBQUEUE_KEEP_MAX_MS": str(keep_max_ms)},
                "takeover": {}
                if lease_ms == 0
                else {
                    "JOBQUEUE_LEASE_MS": str(lease_ms or leases * block_ms),
                    "JOBQUEUE_GRACE_MS": str(GRACE_MS),
                },
            },
        )
        lives = [each for each in processes if each.in_process == listed]
        if lives and not any(each.running for each in lives) and not keep_lease:
            redis.delete(keys.lease(listed))  # its owner was killed, and nobody waits for its end
        started = ServerProcess(
            (*(BOUNDED if bounded else ()), *under_test.server),
            under_test.folder,
            variables,
            notifier=notifier,
            output=tmp_path,
            proxy=proxy,
            endpoint=endpoint,
            redis=redis,
            keys=keys,
            processor=processor,
            in_process=listed,
        )
        processes.append(started)
        peer.servers = [each for each in peer.servers if each.endpoint is not endpoint] + [started]
        try:
            if wait and not direct:
                started.wait_ready()
        except SetupError as error:
            if whole_key:
                raise
            raise Unsupported("the server takes its list's name only as a whole") from error
        return started

    processes: list[ServerProcess] = []
    yield start
    for process in processes:
        process.end()


@pytest.fixture
def client(
    request: pytest.FixtureRequest,
    peer: Peer,
    keys: Keys,
    redis_server: RedisServer,
    proxy: Proxy,
    notifier: Notifier,
    tmp_path: Path,
) -> Iterator[StartClient]:
    """Starts the drivers of clients under test."""
    subjects = request.config.stash[SUBJECTS]

    def start(
        *,
        of: str = "client",
        user: str | None = None,
        password: str = "",
        database: str | None = None,
        through: tuple[str, ...] = (),
        direct: bool = False,
    ) -> ClientProcess:
        under_test = subjects.of_class(of)
        assert under_test.client is not None
        endpoint = proxy.endpoint(
            "client" if not processes else f"client-{len(processes) + 1}", keys.queue
        )
        address = (redis_server.host, redis_server.port) if direct else endpoint.address
        started = ClientProcess(
            (*through, *under_test.client),
            under_test.folder,
            {
                "REDIS_URL": _url(redis_server, address, user, password, database),
                "JOBQUEUE_QUEUE": keys.queue,
                "JOBQUEUE_SILENCE_MS": str(SILENCE_MS),
            },
            notifier=notifier,
            output=tmp_path,
            proxy=proxy,
            endpoint=endpoint,
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
    proxy: Proxy,
    redis: redis_py.Redis,
    keys: Keys,
) -> ServerSweep:
    """The fault sweep of a server."""
    features = request.config.stash[SUBJECTS].of_class("server").features
    only = request.config.getoption("boundary")
    return ServerSweep(server, peer, proxy, redis, keys, features, only)


@pytest.fixture
def server_faults(
    server_sweep: ServerSweep,
    redis_server: RedisServer,
    redis: redis_py.Redis,
    keys: Keys,
    notifier: Notifier,
) -> ServerFaults:
    """The faults of the sweep."""
    return ServerFaults(server_sweep, redis_server, redis, keys, notifier)


@pytest.fixture
def client_sweep(
    request: pytest.FixtureRequest,
    client: StartClient,
    peer: Peer,
    proxy: Proxy,
    redis: redis_py.Redis,
    redis_server: RedisServer,
    keys: Keys,
    notifier: Notifier,
) -> ClientSweep:
    """The fault sweep of a client."""
    only = request.config.getoption("boundary")
    return ClientSweep(client, peer, proxy, redis, redis_server, keys, notifier, only)


def _of_features(
    features: frozenset[str], settings: Mapping[str, dict[str, str]]
) -> dict[str, str]:
    """The variables of those features that were declared."""
    return {
        name: value
        for feature, variables in settings.items()
        if feature in features
        for name, value in variables.items()
    }


def _url(
    server: RedisServer,
    address: tuple[str, int],
    user: str | None,
    password: str,
    database: str | None,
) -> str:
    """The URL of an address; `database` is its last part, the number that the suite uses itself where None."""
    if user is None and server.password is not None:
        user, password = server.username or "default", server.password
    login = f"{user}:{password}@" if user is not None else ""
    path = f"/{server.database}" if database is None else database
    host, port = address
    return f"redis://{login}{host}:{port}{path}"
