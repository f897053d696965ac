"""Clients and jobs between processes that aren't forked: spawned ones, and pickles."""

import asyncio
import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from jobqueue import Client, aio

from tests.faults.caller import Caller
from tests.faults.worker import Worker


def run_with_threads(url: str) -> Any:
    """Run a job in a process of its own."""
    with Client(url) as client:
        return client.run("echo", "spawned").result(5)


def run_with_asyncio(url: str) -> Any:
    """Run a job in a loop of a process of its own."""

    async def scenario() -> Any:
        async with aio.Client(url) as client:
            return await asyncio.wait_for(await client.run("echo", "spawned"), 5)

    return asyncio.run(scenario())


def test_spawned_processes(caller: Caller, redis_url: str, worker: Worker) -> None:
    """Each process has a channel of its own, next to a parent's client that is in use."""
    assert caller.outcome(caller.run("echo", 1)) == 1
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as spawned:
        for run in (run_with_threads, run_with_asyncio):
            assert spawned.submit(run, redis_url).result(30) == "spawned"
    assert len({job["channel"] for job in worker.claimed}) == 3


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("name", COPIES)
def test_what_belongs_to_a_process_cant_be_copied(caller: Caller, name: str) -> None:
    """A client or a job that is sent to another process says in one sentence that it can't be."""
    job = caller.run("never")

    with pytest.raises(TypeError, match="a Job can't be pickled or copied"):
        COPIES[name](job)
    with pytest.raises(TypeError, match="a Client can't be pickled or copied"):
        caller.call(COPIES[name])
    assert not job.done()
