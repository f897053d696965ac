"""Names that aren't UTF-8, which shells pass on as bytes, keep these very bytes in the command."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from redis import Redis

    from tests.faults.serving import Program

NAME = b"caf\xe9"
QUEUE = b"stra\xdfe"


@pytest.fixture
def jobqueue(
    command: Callable[..., Program], redis_url: str, tmp_path: Path
) -> Callable[..., Program]:
    """Starts the command next to an application, with arguments and an environment of bytes."""
    (tmp_path / "app.py").write_text(
        "from jobqueue import Server\nserver = Server(block_timeout=0.05)\n"
        "server.on('echo', lambda value: value)\n"
    )

    def start(*arguments: bytes, **environment: bytes) -> Program:
        return command(
            "-m",
            "jobqueue",
            *map(os.fsdecode, arguments),
            cwd=tmp_path,
            env={"REDIS_URL": redis_url, "PATH": os.defpath, **environment},
        )

    return start


def test_status_counts_them(jobqueue: Callable[..., Program], redis: Redis) -> None:
    """Each list has its own count, also where two differ in such a byte only."""
    redis.lpush(b"job-queue:in-process:" + NAME, "1", "2", "3")
    redis.lpush(b"job-queue:in-process:caf\xe8", "1")
    redis.lpush("job-queue:in-process:caf\\xe9", "1", "2")

    shown = jobqueue(b"status")
    counts = jobqueue(b"status", b"--json")

    assert shown.status() == counts.status() == 0
    lines = [shown.line() for _ in range(5)]
    assert "in-process list\tjob-queue:in-process:caf\\xe9\t3\tunregistered" in lines
    assert "in-process list\tjob-queue:in-process:caf\\xe8\t1\tunregistered" in lines
    assert {os.fsencode(key): n for key, n in json.loads(counts.line())["in_process"].items()} == {
        b"job-queue:in-process:" + NAME: 3,
        b"job-queue:in-process:caf\xe8": 1,
        b"job-queue:in-process:caf\\xe9": 2,
    }


@pytest.mark.parametrize(
    "arguments,environment",
    [
        ([NAME, b"--queue", QUEUE], {}),
        ([NAME], {"JOBQUEUE_QUEUE": QUEUE}),
        ([b"--in-process", QUEUE + b":in-process:" + NAME, b"--queue", QUEUE], {}),
    ],
)
def test_requeue_moves_their_entries(
    jobqueue: Callable[..., Program],
    redis: Redis,
    arguments: list[bytes],
    environment: dict[str, bytes],
) -> None:
    """From the list of these very bytes to the queue of these very bytes."""
    redis.lpush(QUEUE + b":in-process:" + NAME, "1", "2")

    ended = jobqueue(b"requeue", *arguments, **environment)

    assert (ended.status(), ended.stderr) == (0, "")
    assert ended.line() == "2 moved from stra\\xdfe:in-process:caf\\xe9 to stra\\xdfe"
    assert redis.lrange(QUEUE, 0, -1) == [b"2", b"1"]
    assert redis.keys() == [QUEUE]


@pytest.mark.parametrize("action", [[b"requeue", b"--all"], [b"drop", b"--all"], [b"list"]])
def test_dead_messages_of_such_a_queue_are_found(
    jobqueue: Callable[..., Program], redis: Redis, action: list[bytes]
) -> None:
    """`jobqueue dead` looks at the dead list of these very bytes."""
    redis.lpush(QUEUE + b":dead", b"rotten")

    ended = jobqueue(b"dead", *action, b"--queue", QUEUE)

    assert (ended.status(), ended.stderr) == (0, "")
    left = {b"requeue": [QUEUE], b"drop": [], b"list": [QUEUE + b":dead"]}
    assert redis.keys() == left[action[0]]


@pytest.mark.parametrize("flags", [True, False], ids=["flags", "variables"])
@pytest.mark.parametrize("processes", [True, False], ids=["processes", "one"])
def test_servers_use_them(
    jobqueue: Callable[..., Program], redis: Any, flags: bool, processes: bool
) -> None:
    """A server claims from and to the lists of these very bytes, its child processes too."""
    key = QUEUE + b":in-process:" + NAME + (b"-1" if processes else b"")
    redis.lpush(key, b'{"method": "echo", "parameters": 1, "channel": "results", "id": "1"}')
    redis.lpush(key, b"rotten")
    with redis.pubsub(ignore_subscribe_messages=True) as results:
        results.subscribe("results")
        running = jobqueue(
            b"serve",
            b"app:server",
            *([b"--queue", QUEUE, b"--processor", NAME] if flags else []),
            *([b"--processes", b"1"] if processes else []),
            **({} if flags else {"JOBQUEUE_QUEUE": QUEUE, "JOBQUEUE_PROCESSOR": NAME}),
        )
        answer = next(message for message in iter(lambda: heard(results, running), 1) if message)
    running.process.send_signal(signal.SIGTERM)

    assert json.loads(answer["data"]) == {"id": "1", "result": 1}
    assert running.status() == 0, running.stderr
    lasting = (QUEUE + b":attempts:", QUEUE + b":scanned")  # for a while
    left = sorted(key for key in redis.scan_iter() if not key.startswith(lasting))
    assert left == [QUEUE + b":dead"]


def heard(results: Any, running: Program) -> Any:
    """Return the next result, or None if the server has ended."""
    assert not running.ended, running.stderr
    return results.get_message(timeout=1)


@pytest.mark.usefixtures("redis")
def test_a_client_has_no_channel_of_such_a_name(jobqueue: Callable[..., Program]) -> None:
    """A job is JSON and names the channel of its result: one sentence, status 2, nothing is pushed."""
    ended = jobqueue(b"run", b"echo", b"--queue", QUEUE, b"--timeout", b"5")

    assert ended.status() == 2
    assert ended.stderr == (
        "jobqueue: the method, the parameters and the name of the queue must be valid UTF-8\n"
    )
