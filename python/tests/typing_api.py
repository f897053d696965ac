"""What a type checker sees of the public names; it reads this file, which is never run."""

import asyncio
import concurrent.futures
from typing import Any, assert_type

import redis
from jobqueue import Client, Job, JobError, Server, aio

server = Server("redis://localhost", processor="web-1", concurrency=4, prefetch=10)
Server(redis.Redis(), queue="q", in_process="q:in-process", channel_prefixes=["q:results:"])


@server.on("double")
def double(parameters: int) -> int:
    """Keep its type under the decorator."""
    return 2 * parameters


@server.on("refuse")
def refuse(_: Any) -> None:
    """Choose its error."""
    raise JobError("shop.sold-out", "none left", {"left": 0})


def clients() -> None:
    """Jobs are futures of the standard library."""
    assert_type(double(1), int)
    assert_type(server.on("other", double)(1), int)
    with Client(redis.Redis(), queue="q") as jobs:
        assert_type(jobs, Client)
        job = jobs.run("double", 21, timeout=5)
        assert_type(job, Job)
        assert_type(job.result(timeout=5), Any)
        concurrent.futures.wait(jobs.run_many([("double", 1), ("double", 2)]))


async def coroutines() -> None:
    """The same names, awaited; a server takes coroutine functions and plain ones."""
    served = aio.Server(redis.asyncio.Redis())

    @served.on("wait")
    async def wait(parameters: float) -> float:
        await asyncio.sleep(parameters)
        return parameters

    served.on("double", double)
    assert_type(await wait(1), float)
    async with aio.Client() as jobs:
        job = await jobs.run("wait", 0.1)
        assert_type(job, aio.Job)
        assert_type(await job, Any)
        await asyncio.gather(*await jobs.run_many([("wait", 1)]))
    assert_type(await served.run(), None)
