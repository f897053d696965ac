"""Servers that do nothing of what the protocol asks, and yet might be taken for one.

`python server.py NAME` runs one of them; every test has to fail against each (see null.toml).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from resp import Connection

QUEUE = os.environ.get("JOBQUEUE_QUEUE", "job-queue")
LIST = os.environ.get("JOBQUEUE_IN_PROCESS") or (
    f"{QUEUE}:in-process:{os.environ.get('JOBQUEUE_PROCESSOR')}"
)


def connect() -> Connection:
    sys.path.append(str(Path(__file__).parents[2] / "mutants"))
    from resp import Connection  # noqa: PLC0415 - some of them never talk to it

    return Connection(os.environ["REDIS_URL"], silence_s=10.0)


def exits_at_once() -> None:
    """Is gone before the first command."""


def does_nothing() -> None:
    """Lives, is polite, and never talks to Redis."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        signal.pause()


def hangs() -> None:
    """Takes one job, and never does anything again, not even stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connect().call("BLMOVE", QUEUE, LIST, "RIGHT", "LEFT", 5)
    while True:
        signal.pause()


def answers_null() -> None:
    """Answers null to everything, and removes it."""
    serve(lambda connection, job: connection.call("PUBLISH", job["channel"], result(job, None)))


def echoes_garbage() -> None:
    """Sends every message back as it came, and removes it."""
    serve(lambda connection, job: connection.call("PUBLISH", job["channel"], json.dumps(job)))


def publishes_to_everyone() -> None:
    """Publishes a right answer to an echo on every channel that has a subscriber."""

    def answer(connection: Connection, job: dict[str, Any]) -> None:
        for channel in connection.call("PUBSUB", "CHANNELS"):
            connection.call("PUBLISH", channel, result(job, job.get("parameters")))

    serve(answer)


def result(job: dict[str, Any], value: Any) -> str:
    return json.dumps({"id": job["id"], "result": value})


def serve(answer: Callable[[Connection, dict[str, Any]], object]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    connection = connect()
    while True:
        raw = connection.call("BRPOP", QUEUE, 1)
        if raw is not None:
            answer(connection, json.loads(raw[1]))


MEMBERS = {
    member.__name__.replace("_", "-"): member
    for member in (
        exits_at_once,
        does_nothing,
        hangs,
        answers_null,
        echoes_garbage,
        publishes_to_everyone,
    )
}

if __name__ == "__main__":
    MEMBERS[sys.argv[1]]()
