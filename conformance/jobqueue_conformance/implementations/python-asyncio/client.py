"""The reference client for asyncio under test: JSON lines in, JSON lines out."""

import asyncio
import json
import os
import sys
from typing import Any

from jobqueue.aio import (
    Client,
    ConnectionLost,
    InvalidHandle,
    Job,
    JobError,
    JobTimeout,
    NotQueued,
)


def write(seq: int, **members: Any) -> None:
    """Write a line about this job."""
    print(json.dumps({"seq": seq, **members}), flush=True)


def settle(seq: int, error: BaseException) -> None:
    """Write the line of a job that was settled by an error."""
    match error:
        case JobTimeout():
            write(seq, timeout=True)
        case JobError(code=code, message=message, data=data):
            described = {"code": code, "message": message}
            write(seq, error=described if data is None else described | {"data": data})
        case ConnectionLost(code=code) | NotQueued(code=code) | InvalidHandle(code=code):
            write(seq, error={"code": code, "message": str(error)})
        case _:
            raise error


async def begin(client: Client, request: dict[str, Any]) -> Job:
    """Run a job, or collect the result of another one; write its handle if that is wanted."""
    timeout, expires, keep = (
        None if request.get(name) is None else request[name] / 1000
        for name in ("timeout_ms", "expires_in_ms", "keep_ms")
    )
    if "collect" in request:
        return await client.collect(request["collect"], timeout=timeout)
    job = await client.run(
        request["method"],
        request["parameters"],
        timeout=timeout,
        expires=expires,
        keep=keep,
        detached=request.get("detached", False),
    )
    if job.handle is not None:
        write(request["seq"], handle=job.handle)
    return job


async def settled(seq: int, job: Job) -> None:
    """Write the job's line as soon as there is one."""
    await asyncio.wait([job])
    error = job.exception()
    if error is None:
        write(seq, result=job.result())
    else:
        settle(seq, error)


async def main() -> None:
    """Answer line by line; at the end of the input, wait for what is in flight."""
    queue = os.environ.get("JOBQUEUE_QUEUE", "job-queue")
    async with Client(os.environ["REDIS_URL"], queue=queue) as client, asyncio.TaskGroup() as group:
        while line := await asyncio.to_thread(sys.stdin.readline):
            request = json.loads(line)
            try:
                job = await begin(client, request)
            except (InvalidHandle, ConnectionLost, NotQueued, JobTimeout) as error:
                settle(request["seq"], error)
            else:
                group.create_task(settled(request["seq"], job))


if __name__ == "__main__":
    asyncio.run(main())
