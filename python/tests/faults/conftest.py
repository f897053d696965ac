"""Callers of both colours, a worker that answers them, and a network that can break."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import RedisProcess
from tests.faults.caller import Caller
from tests.faults.relay import Relay
from tests.faults.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis


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
