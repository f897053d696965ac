"""The reference client under test: JSON lines in, JSON lines out."""

import functools
import json
import os
import sys
import threading
from concurrent.futures import Future
from typing import Any

from jobqueue import Client, ConnectionLost, InvalidHandle, JobError, JobTimeout, NotQueued

writing = threading.Lock()
written = threading.Semaphore(0)


def write(seq: int, **members: Any) -> None:
    """Write a line about this job."""
    with writing:
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


def answer(seq: int, job: Future[Any]) -> None:
    """Write the line that says how the job was settled."""
    error = job.exception()
    if error is None:
        write(seq, result=job.result())
    else:
        settle(seq, error)
    written.release()


def begin(client: Client, request: dict[str, Any]) -> Future[Any]:
    """Run a job, or collect the result of another one; write its handle if that is wanted."""
    timeout, expires, keep = (
        None if request.get(name) is None else request[name] / 1000
        for name in ("timeout_ms", "expires_in_ms", "keep_ms")
    )
    if "collect" in request:
        return client.collect(request["collect"], timeout=timeout)
    job = client.run(
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


def main() -> None:
    """Answer line by line; at the end of the input, wait for what is in flight."""
    queue = os.environ.get("JOBQUEUE_QUEUE", "job-queue")
    with Client(os.environ["REDIS_URL"], queue=queue) as client:
        requests = 0
        for line in sys.stdin:
            request = json.loads(line)
            try:
                job = begin(client, request)
            except (InvalidHandle, ConnectionLost, NotQueued, JobTimeout) as error:
                settle(request["seq"], error)
                continue
            requests += 1
            job.add_done_callback(functools.partial(answer, request["seq"]))
        for _ in range(requests):
            written.acquire()


if __name__ == "__main__":
    main()
