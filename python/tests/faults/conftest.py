"""Callers and servers of both colours, workers that answer callers, and a network that can break."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import RedisProcess
from tests.faults.caller import Caller
from tests.faults.relay import Relay
from tests.faults.serving import AnyServer, Program, Thread
from tests.faults.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

PROGRAM = Path(__file__).parent / "server" / "serving_program.py"


@pytest.fixture(params=["threads", "asyncio"])
def colour(request: pytest.FixtureRequest) -> str:
    """The two kinds of client."""
    name: str = request.param
    return name


@pytest.fixture
def make_caller(colour: str, redis_url: str, redis: Redis) -> Iterator[Callable[..., Caller]]:  # noqa: ARG001 - emptied first
    """Makes callers that are closed after the test."""
    callers: list[Caller] = []

    def make(source: str = redis_url, **options: str) -> Caller:
        callers.append(Caller(colour, source, **options))
        return callers[-1]

    yield make
    for caller in callers:
        caller.abandon()


@pytest.fixture
def caller(make_caller: Callable[..., Caller]) -> Caller:
    """A caller of the default queue."""
    return make_caller()


@pytest.fixture
def worker(redis_process: RedisProcess, redis: Redis) -> Iterator[Worker]:  # noqa: ARG001 - emptied first
    """A worker of the default queue."""
    worker = Worker(redis_process.port or 0)
    yield worker
    worker.stop()


@pytest.fixture
def relay(redis_process: RedisProcess) -> Iterator[Relay]:
    """A relay to Redis."""
    relay = Relay(redis_process.port or 0)
    yield relay
    relay.close()


@pytest.fixture(scope="session")
def second_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """Another Redis, for failovers."""
    process = RedisProcess(tmp_path_factory.mktemp("second-redis"))
    yield process
    process.kill()


@pytest.fixture
def thread() -> Iterator[Callable[[AnyServer], Thread]]:
    """Runs servers in threads, and stops them after the test."""
    threads: list[Thread] = []

    def run(server: AnyServer) -> Thread:
        threads.append(Thread(server))
        return threads[-1]

    yield run
    for each in threads:
        each.stop()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts Python with arguments, and kills whatever is left of it after the test."""
    programs: list[Program] = []

    def start(*arguments: str, **options: Any) -> Program:
        programs.append(Program(*arguments, stderr=tmp_path / f"{len(programs)}.log", **options))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


@pytest.fixture
def program(
    command: Callable[..., Program],
    redis_url: str,
    redis: Any,  # noqa: ARG001 - emptied first
    kind: str,
) -> Callable[..., Program]:
    """Starts `serving_program.py`, a server with unusual handlers, and waits until it says that it runs."""

    def start(**options: Any) -> Program:
        started = command(str(PROGRAM), redis_url, kind, **options)
        assert started.line() == "runs"
        return started

    return start
