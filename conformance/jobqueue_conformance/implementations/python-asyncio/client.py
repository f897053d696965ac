"""The reference client for asyncio under test: JSON lines in, JSON lines out."""

import asyncio
import json
import os
import sys
from typing import Any

from jobqueue.aio import Client, ConnectionLost, Job, JobError, JobTimeout, NotQueued


def answer(seq: int, job: Job) -> None:
    """Write the line that says how the job was settled."""
    error = job.exception()
    line: dict[str, Any] = {"seq": seq}
    match error:
        case None:
            line["result"] = job.result()
        case JobTimeout():
            line["timeout"] = True
        case JobError(code=code, message=message, data=data):
            line["error"] = {"code": code, "message": message}
            if data is not None:
                line["error"]["data"] = data
        case ConnectionLost(code=code) | NotQueued(code=code):
            line["error"] = {"code": code, "message": str(error)}
        case _:
            raise error
    print(json.dumps(line), flush=True)


async def settled(seq: int, job: Job) -> None:
    """Write the job's line as soon as there is one."""
    await asyncio.wait([job])
    answer(seq, job)


async def main() -> None:
    """Answer line by line; at the end of the input, wait for what is in flight."""
    queue = os.environ.get("JOBQUEUE_QUEUE", "job-queue")
    async with Client(os.environ["REDIS_URL"], queue=queue) as client, asyncio.TaskGroup() as group:
        while line := await asyncio.to_thread(sys.stdin.readline):
            request = json.loads(line)
            timeout_ms, expires_in_ms = request.get("timeout_ms"), request.get("expires_in_ms")
            job = await client.run(
                request["method"],
                request["parameters"],
                timeout=None if timeout_ms is None else timeout_ms / 1000,
                expires=None if expires_in_ms is None else expires_in_ms / 1000,
            )
            group.create_task(settled(request["seq"], job))


if __name__ == "__main__":
    asyncio.run(main())
