"""One `aio.Client` in several event loops: a session for each, and no id twice on a channel."""

import asyncio
import threading
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any

import pytest
from jobqueue import ConnectionLost, aio
from redis import Redis

from tests.conftest import until
from tests.faults.caller import DEADLINE_S, finish
from tests.faults.relay import Relay
from tests.faults.worker import Worker, answer, claim


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, coroutine: Any) -> Future[Any]:
        """Begin a coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine to its end."""
        return finish(self.start(coroutine))

    def stop(self) -> None:
        """End the loop, as `asyncio.run` does."""

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE_S)
        self.loop.close()


@pytest.fixture
def loops() -> Any:
    """Two loops that run."""
    both = Loop(), Loop()
    yield both
    for loop in both:
        loop.stop()


@pytest.fixture
def client(relay: Relay, redis: Redis) -> aio.Client:  # noqa: ARG001 - emptied first
    """A client made at module level, as a web application does, before there is a loop."""
    return aio.Client(relay.url)


async def outcome(job: Awaitable[Any]) -> Any:
    """Wait for a job, and return its value or its exception."""
    return (await asyncio.gather(job, return_exceptions=True))[0]


def test_each_loop_gets_its_own_results(
    client: aio.Client, loops: tuple[Loop, Loop], redis: Redis
) -> None:
    """client.settle.result: jobs of two loops that are under way at once aren't mixed up."""
    alices, bobs = loops
    alice = alices.run(client.run("say", "of Alice"))
    first = claim(redis)  # `run` doesn't wait for the push
    bob = bobs.run(client.run("say", "of Bob"))
    second = claim(redis)

    answer(redis, first, result="of Alice")
    answer(redis, second, result="of Bob")

    assert alices.run(outcome(alice)) == "of Alice"
    assert bobs.run(outcome(bob)) == "of Bob"


def test_loops_that_take_turns(
    client: aio.Client, loops: tuple[Loop, Loop], worker: Worker
) -> None:
    """client.job.id: a loop that comes back has the session that it had, and no id is used twice."""
    for number in range(10):
        loop = loops[number % 2]
        job = loop.run(client.run("echo", number))
        assert loop.run(outcome(job)) == number

    assert len({(job["channel"], job["id"]) for job in worker.claimed}) == 10
    assert len({job["channel"] for job in worker.claimed}) == 2


def test_cancelling_in_one_loop_leaves_the_other_alone(
    client: aio.Client, loops: tuple[Loop, Loop], redis: Redis
) -> None:
    """client.settle.result: a job that is given up is its own loop's."""
    mine, others = loops
    given_up = mine.run(client.run("say"))
    claim(redis)
    awaited = others.run(client.run("say"))
    pushed = claim(redis)

    mine.loop.call_soon_threadsafe(given_up.cancel)
    assert isinstance(mine.run(outcome(given_up)), asyncio.CancelledError)
    answer(redis, pushed, result="mine")

    assert others.run(outcome(awaited)) == "mine"


def test_a_timeout_in_one_loop_leaves_the_other_alone(
    client: aio.Client, loops: tuple[Loop, Loop], redis: Redis
) -> None:
    """client.timeout.settles: each loop's timeouts are its own, and pass there."""
    mine, others = loops
    short = mine.run(client.run("say", timeout=0.3))
    claim(redis)
    awaited = others.run(client.run("say"))
    pushed = claim(redis)

    assert isinstance(mine.run(outcome(short)), aio.JobTimeout)
    answer(redis, pushed, result="mine")
    assert others.run(outcome(awaited)) == "mine"


def test_closing_in_one_loop_settles_the_jobs_of_all(
    client: aio.Client, loops: tuple[Loop, Loop], relay: Relay
) -> None:
    """A client that is closed is closed in every loop: no job of it waits on, none is refused late."""
    mine, others = loops
    jobs = [loop.run(client.run("say")) for loop in loops]

    mine.run(client.close())

    for loop, job in zip(loops, jobs, strict=True):
        assert isinstance(loop.run(outcome(job)), ConnectionLost)
    with pytest.raises(ValueError, match="closed"):
        others.run(client.run("say"))
    until(lambda: relay.connections == 0, "no connection of the client to be left")


def test_a_loop_that_has_ended_leaves_nothing_behind(
    client: aio.Client, relay: Relay, worker: Worker
) -> None:
    """A program that calls `asyncio.run` again and again keeps no session of loops that are closed."""

    async def scenario(number: int) -> Any:
        return await (await client.run("echo", number))

    for number in range(5):
        assert asyncio.run(scenario(number)) == number

    assert len({job["channel"] for job in worker.claimed}) == 5
    until(lambda: relay.connections == 0, "no connection of the loops to be left")


def test_a_job_belongs_to_its_loop(
    client: aio.Client, loops: tuple[Loop, Loop], worker: Worker
) -> None:
    """Awaited in another loop it raises at once, as a future of asyncio does, and stays usable."""
    mine, others = loops
    job = mine.run(client.run("never"))

    async def wait() -> Any:
        return await job

    with pytest.raises(RuntimeError, match="loop"):
        others.run(wait())
    assert not job.done()
    assert isinstance(worker, Worker)
