"""The end of a client: closed, cancelled meanwhile, or dropped."""

import asyncio
import contextlib
import gc
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from jobqueue import Client, JobQueueError, aio
from jobqueue.calls import links
from redis import Redis

from tests.conftest import until
from tests.faults.caller import DEADLINE_S, Caller
from tests.faults.program import run_program
from tests.faults.relay import Relay
from tests.faults.worker import Worker

LARGE = [("large", "x" * 900_000)] * 30  # more than the sockets between us and Redis hold


async def eventually(holds: Callable[[], Any], what: str) -> None:
    """Wait in a thread, so that the loop runs on."""
    await asyncio.to_thread(until, holds, what)


def test_a_cancelled_close_is_cancelled(relay: Relay, redis: Redis) -> None:
    """Who is cancelled while it closes a client learns of it; the client ends all the same."""

    async def scenario() -> None:
        client = aio.Client(relay.url)
        with relay.held():
            job = await client.run("never")
            await eventually(lambda: relay.connections, "the client to connect")
            closing = asyncio.create_task(client.close())
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
        await client.close()
        assert isinstance(job.exception(), JobQueueError)
        with pytest.raises(ValueError, match="closed"):
            await client.run("never")

    asyncio.run(scenario())
    until(lambda: relay.connections == 0, "no connection of the client to be left")
    assert redis.llen("job-queue") <= 1


def test_cancelling_one_call_disturbs_no_bystander(
    relay: Relay, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `run_many` whose bytes wait for the network is cancelled; the others get their results."""
    # A busy machine takes its time for so many bytes.
    monkeypatch.setattr(links, "REPLY_TIMEOUT_SECONDS", DEADLINE_S)

    async def scenario() -> None:
        async with aio.Client(relay.url) as client:
            assert await (await client.run("echo", 1)) == 1
            accepted = relay.accepted
            with relay.held():
                bystander = await client.run("echo", 2)
                pushing = asyncio.create_task(client.run_many(LARGE))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                pushing.cancel()
                await asyncio.wait([pushing])
            assert await asyncio.wait_for(bystander, DEADLINE_S) == 2
            assert relay.accepted == accepted, "expected the connection to be kept"

    asyncio.run(scenario())
    assert worker.claimed


def test_closing_during_the_first_push_leaves_nothing(relay: Relay, redis: Redis) -> None:
    """Nothing is pushed after `close` has returned, and no task or connection is left."""

    async def scenario() -> None:
        client = aio.Client(relay.url)
        with relay.held():
            pushing = asyncio.create_task(client.run("late"))
            await eventually(lambda: relay.connections, "the client to connect")
            await client.close()
            job = await pushing
            assert isinstance(job.exception(), JobQueueError)
            assert asyncio.all_tasks() == {asyncio.current_task()}
        await eventually(lambda: relay.connections == 0, "no connection to be left")

    asyncio.run(scenario())
    assert redis.llen("job-queue") == 0


PROGRAMS = {
    "threads": """
        import sys
        from jobqueue import Client
        with Client(sys.argv[1]) as client:
            client.run("echo", 1).result(5)
            client.run("never")
            client.run("fail")
        """,
    "asyncio": """
        import asyncio, sys
        from jobqueue import aio
        async def main():
            async with aio.Client(sys.argv[1]) as client:
                await (await client.run("echo", 1))
                await client.run("never")
                await client.run("fail")
        asyncio.run(main(), debug=True)
        """,
}


def test_jobs_that_nobody_awaits_end_in_silence(
    colour: str, redis_url: str, worker: Worker
) -> None:
    """Jobs that aren't awaited are fine: nothing is logged about exceptions never retrieved."""
    assert run_program(PROGRAMS[colour], redis_url) == ""
    assert [job["method"] for job in worker.claimed[:1]] == ["echo"]


def drop(colour: str, relay: Relay, number: int) -> None:
    """Make clients, use each, and drop them all."""
    if colour == "threads":
        for _ in range(number):
            assert Client(relay.url).run("echo", 1) is not None
        gc.collect()
        return

    async def scenario() -> None:
        for _ in range(number):
            client = aio.Client(relay.url)
            assert await (await client.run("echo", 1)) == 1
            del client
        gc.collect()
        await eventually(lambda: relay.connections == 0, "the dropped clients to disconnect")
        # The relay sees the end of a connection before the task that closes it does.
        if ending := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(ending, timeout=DEADLINE_S)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_dropped_clients_leave_nothing_behind(colour: str, relay: Relay, worker: Worker) -> None:
    """Clients that were dropped without `close` end, and warn about it."""
    before = {thread for thread in threading.enumerate() if "jobqueue" in thread.name}

    with pytest.warns(ResourceWarning, match="without close") as caught:
        drop(colour, relay, 60)

    assert len(caught) == 60
    until(lambda: relay.connections == 0, "the dropped clients to disconnect")
    until(
        lambda: {each for each in threading.enumerate() if "jobqueue" in each.name} <= before,
        "no thread of the dropped clients to be left",
    )
    assert worker.claimed


@pytest.mark.parametrize("used", [True, False])
def test_what_was_closed_or_never_used_is_dropped_in_silence(
    colour: str, redis_url: str, worker: Worker, used: bool
) -> None:
    """A ResourceWarning tells of a resource that is left open, and of nothing else."""
    caller = Caller(colour, redis_url)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if used:
            assert caller.outcome(caller.run("echo", 1)) == 1
            caller.close()
        del caller
        gc.collect()
    assert [each for each in caught if "jobqueue" in str(each.message)] == []
    assert len(worker.claimed) == used


class Witness:
    """A local variable of a caller."""


ENDS: dict[str, tuple[str, float | None]] = {
    "a value": ("echo", None),
    "an error": ("fail", None),
    "a timeout": ("never", 0.02),
}


def call_and_return(client: Client, method: str, timeout: float | None) -> Any:
    """Call a job with a local variable in the frame, and return a reference to the variable."""
    witness = Witness()
    with contextlib.suppress(JobQueueError):
        client.run(method, timeout=timeout).result(DEADLINE_S)
    return weakref.ref(witness)


async def await_and_return(client: aio.Client, method: str, timeout: float | None) -> Any:  # noqa: ASYNC109 - the job's
    """Do the same in a loop."""
    witness = Witness()
    with contextlib.suppress(JobQueueError):
        await (await client.run(method, timeout=timeout))
    return weakref.ref(witness)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("name", ENDS)
def test_a_settled_job_keeps_no_local_variable(colour: str, redis_url: str, name: str) -> None:
    """What a caller had in its frame is freed when it returns, without the garbage collector."""
    method, timeout = ENDS[name]

    async def scenario() -> Any:
        async with aio.Client(redis_url) as client:
            return await await_and_return(client, method, timeout)

    gc.collect()
    gc.disable()
    try:
        if colour == "asyncio":
            witness = asyncio.run(scenario())
        else:
            with Client(redis_url) as client:
                witness = call_and_return(client, method, timeout)
        until(lambda: witness() is None, "the caller's variable to be freed")
    finally:
        gc.enable()


class Parameters(dict[str, int]):
    """Parameters that can be watched."""


def test_a_pushed_job_keeps_no_parameters(caller: Caller, worker: Worker) -> None:
    """Only the bytes are kept, and those until they are pushed."""
    parameters = Parameters(a=1)
    watched = weakref.ref(parameters)
    job = caller.run("never", parameters)
    del parameters
    until(lambda: watched() is None, "the parameters to be freed")
    until(lambda: worker.claimed, "the job to be claimed")
    assert not job.done()


def test_a_job_outlives_its_client(colour: str, redis_url: str, worker: Worker) -> None:
    """A caller that keeps only the job gets its result, as in `Client(url).run("echo").result()`."""

    async def scenario() -> Any:
        job = await aio.Client(redis_url).run("echo", 5)
        gc.collect()
        return await job

    def call() -> Any:
        if colour == "asyncio":
            return asyncio.run(scenario())
        return Client(redis_url).run("echo", 5).result(20)

    with pytest.warns(ResourceWarning, match="without close"):
        assert call() == 5
    assert worker.claimed
