"""The reference server under test, configured by the environment that the kit sets."""

import os
import time
from typing import Any

from jobqueue import Server

prefix = os.environ.get("JOBQUEUE_CHANNEL_PREFIX")

server = Server(
    os.environ["REDIS_URL"],
    queue=os.environ.get("JOBQUEUE_QUEUE", "job-queue"),
    processor=os.environ.get("JOBQUEUE_PROCESSOR"),
    in_process=os.environ.get("JOBQUEUE_IN_PROCESS"),
    concurrency=int(os.environ.get("JOBQUEUE_CONCURRENCY", "1")),
    attempts=int(os.environ.get("JOBQUEUE_MAX_ATTEMPTS", "3")),
    keep_limit=int(os.environ.get("JOBQUEUE_KEEP_MAX_MS", "3600000")) / 1000,
    takeover="JOBQUEUE_LEASE_MS" in os.environ,
    lease_timeout=int(os.environ.get("JOBQUEUE_LEASE_MS", "8000")) / 1000,
    grace_period=int(os.environ.get("JOBQUEUE_GRACE_MS", "3600000")) / 1000,
    block_timeout=int(os.environ.get("JOBQUEUE_BLOCK_MS", "2000")) / 1000,
    channel_prefixes=None if prefix is None else [prefix],
)


class Abrupt(BaseException):
    """A failure that `except Exception` doesn't catch."""


@server.on("echo")
def echo(parameters: Any) -> Any:
    """Return the parameters unchanged."""
    return parameters


@server.on("fail")
def fail(parameters: Any) -> None:
    """Fail with the message that the parameters ask for."""
    asked = parameters if isinstance(parameters, dict) else {}
    message = asked.get("message")
    failure = Abrupt if asked.get("abruptly") else RuntimeError
    raise failure(message if isinstance(message, str) else "failed, as it was asked to")


@server.on("wait")
def wait(parameters: Any) -> Any:
    """Return the parameters after as many milliseconds as they say."""
    time.sleep(parameters["ms"] / 1000)
    return parameters


if __name__ == "__main__":
    server.run()
