"""Servers of the tests' own, which know nothing but the wire: raw commands, by hand or in a thread."""

from __future__ import annotations

import json
import threading
from typing import Any

from redis import Redis

from tests.conftest import until


def claim(redis: Redis) -> dict[str, Any]:
    """Take the oldest job off the queue, as soon as there is one."""
    job: dict[str, Any] = json.loads(until(lambda: redis.rpop("job-queue"), "a job on the queue"))
    return job


def answer(redis: Redis, job: dict[str, Any], **outcome: Any) -> int:
    """Publish a job's result or error, and return how many have received it."""
    return int(redis.publish(job["channel"], json.dumps({"id": job["id"], **outcome})))


class Worker:
    """Answers `echo` with the parameters and `fail` with an error; anything else it never answers.

    Args:
        port: Where Redis listens.
    """

    def __init__(self, port: int) -> None:
        self.claimed: list[dict[str, Any]] = []
        self._redis = Redis(port=port, protocol=2)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; harmless when done twice."""
        self._stopped = True
        self._thread.join()
        self._redis.close()

    def _run(self) -> None:
        while not self._stopped:
            claimed: Any = self._redis.brpop(["job-queue"], timeout=0.1)
            if claimed is None:
                continue
            job = json.loads(claimed[1])
            self.claimed.append(job)
            if job["method"] == "echo":
                answer(self._redis, job, result=job["parameters"])
            elif job["method"] == "fail":
                answer(self._redis, job, error={"code": "test.failed", "message": "as asked"})
