"""The reference client under test: JSON lines in, JSON lines out."""

import functools
import json
import os
import sys
import threading
from concurrent.futures import Future
from typing import Any

from jobqueue import Client, ConnectionLost, JobError, JobTimeout, NotQueued

writing = threading.Lock()
written = threading.Semaphore(0)


def answer(seq: int, job: Future[Any]) -> None:
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
    with writing:
        print(json.dumps(line), flush=True)
    written.release()


def main() -> None:
    """Answer line by line; at the end of the input, wait for what is in flight."""
    queue = os.environ.get("JOBQUEUE_QUEUE", "job-queue")
    with Client(os.environ["REDIS_URL"], queue=queue) as client:
        requests = 0
        for line in sys.stdin:
            requests += 1
            request = json.loads(line)
            seq, timeout_ms = request["seq"], request.get("timeout_ms")
            expires_in_ms = request.get("expires_in_ms")
            job = client.run(
                request["method"],
                request["parameters"],
                timeout=None if timeout_ms is None else timeout_ms / 1000,
                expires=None if expires_in_ms is None else expires_in_ms / 1000,
            )
            job.add_done_callback(functools.partial(answer, seq))
        for _ in range(requests):
            written.acquire()


if __name__ == "__main__":
    main()
