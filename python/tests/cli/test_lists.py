"""`jobqueue status`, `requeue` and `dead`: what they show, and what they move."""

from __future__ import annotations

import json
import os
import pty
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import admin

from tests.cli.conftest import start

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from tests.cli.conftest import Command


def test_status_is_a_line_for_each_list(jobqueue: Command, redis: Redis) -> None:
    """In a pipe the status has one line for each list, with tabs and without colour."""
    redis.lpush("job-queue", "a", "b")
    redis.lpush("job-queue:in-process:web-1\x1b[31m", "c")
    redis.hset("job-queue:processors", "job-queue:in-process:web-2", "0")
    redis.hset("job-queue:processors", "job-queue:in-process:web-3", "1")
    redis.set("job-queue:lease:job-queue:in-process:web-2", "token")

    status, stdout, stderr = jobqueue("status")

    assert (status, stderr) == (0, "")
    assert re.sub(r"\d{9,}", "N", stdout) == (
        "queue\tjob-queue\t2\t\n"
        "in-process list\tjob-queue:in-process:web-1\\u001b[31m\t1\tunregistered\n"
        "in-process list\tjob-queue:in-process:web-2\t0\talive\n"
        "in-process list\tjob-queue:in-process:web-3\t0\tlapsed N s ago\n"
        "dead list\tjob-queue:dead\t0\t\n"
        "kept results\tjob-queue:result:*\t\tfor up to 3600 s\n"
    )


@pytest.mark.parametrize(
    "options, shown",
    [("--keep-max-ms 90500", "for up to 90.5 s"), ("--keep-max-ms 0", "none")],
)
def test_status_shows_the_limit_of_kept_results(
    jobqueue: Command, options: str, shown: str
) -> None:
    """It is the one that the command is given, since Redis doesn't know it."""
    assert jobqueue(f"status {options}").stdout.splitlines()[-1].split("\t")[-1] == shown
    said = json.loads(jobqueue(f"status --json {options}").stdout)
    assert said["keep_max_ms"] == int(options.rsplit(maxsplit=1)[-1])


@pytest.mark.parametrize("options", ["", "--json"])
def test_status_remarks_that_no_state_is_known(
    jobqueue: Command, redis: Redis, options: str
) -> None:
    """The counts go to stdout as ever, the reason to stderr, and the status is 0."""
    redis.set("job-queue:processors", "no hash")
    redis.lpush("job-queue:in-process:web-1", "c")

    ended = jobqueue(f"status {options}")

    assert (ended.status, ended.stderr.count("\n")) == (0, 1)
    assert ended.stderr.startswith("jobqueue: it is not known which servers are alive")
    assert "unknown" in ended.stdout


def test_status_writes_json(jobqueue: Command, redis: Redis) -> None:
    """With --json the status is one object."""
    redis.lpush("q:in-process:web-1", "c")

    ended = jobqueue("status --json --queue q")

    assert json.loads(ended.stdout) == {
        "queue": "q",
        "waiting": 0,
        "in_process": {"q:in-process:web-1": 1},
        "dead": 0,
        "states": {"q:in-process:web-1": {"name": "unregistered", "seconds": None}},
        "remark": "",
        "keep_max_ms": 3_600_000,
    }


@pytest.mark.parametrize(
    "line", ["requeue web-1", "requeue --in-process job-queue:in-process:web-1"]
)
def test_requeue_returns_a_list(jobqueue: Command, redis: Redis, line: str) -> None:
    """The list's entries are claimed before what waits, the oldest first."""
    redis.lpush("job-queue", "3")
    redis.lpush("job-queue:in-process:web-1", "1", "2")

    ended = jobqueue(line)

    assert ended == (0, "2 moved from job-queue:in-process:web-1 to job-queue\n", "")
    assert redis.rpop("job-queue", 3) == [b"1", b"2", b"3"]


def test_requeue_refuses_the_list_of_a_running_server(
    jobqueue: Command, redis: Redis, serve: Callable[..., Any]
) -> None:
    """A list whose server runs on this host is left alone, with status 1."""
    running, done = threading.Event(), threading.Event()

    def hold(_: object) -> bool:
        running.set()
        return done.wait(60)

    serve({"hold": hold}, processor="web-1")
    redis.lpush("job-queue", '{"method": "hold", "channel": "c", "id": "1"}')
    assert running.wait(60)

    ended = jobqueue("requeue web-1")

    done.set()
    sentence = (
        "job-queue:in-process:web-1 is in use by a server on this host: its jobs would run twice"
    )
    assert ended == (1, "", f"jobqueue: {sentence}\n")
    assert not redis.exists("job-queue")


@pytest.mark.parametrize("command", ["requeue", "unregister"])
def test_a_list_with_a_lease_is_left_alone(jobqueue: Command, redis: Redis, command: str) -> None:
    """A server holds its lease, on whatever host: the command ends with status 1."""
    key = "job-queue:in-process:web-1"
    redis.lpush(key, "1")
    redis.hset("job-queue:processors", key, "0")
    redis.set(f"job-queue:lease:{key}", "token")

    ended = jobqueue(f"{command} web-1")

    assert (ended.status, ended.stdout) == (1, "")
    assert "lease" in ended.stderr
    assert (redis.llen(key), redis.hlen("job-queue:processors")) == (1, 1)


def test_a_list_is_unregistered_when_nothing_is_left(jobqueue: Command, redis: Redis) -> None:
    """No server adopts from it any more; one with entries stays registered."""
    for name in ("web-1", "web-2"):
        redis.hset("job-queue:processors", f"job-queue:in-process:{name}", "0")
    redis.lpush("job-queue:in-process:web-2", "1")

    key = "job-queue:in-process:web-1"
    assert jobqueue("unregister web-1") == (0, f"{key} is no longer registered\n", "")
    assert jobqueue(f"unregister --in-process {key}") == (0, f"{key} was not registered\n", "")
    assert jobqueue("unregister web-2").status == 1
    assert redis.hkeys("job-queue:processors") == [b"job-queue:in-process:web-2"]


class TestDead:
    MESSAGES = (
        b"\x00\xff",
        b"\x1b[31m\tred\n",
        b'{"channel": "c", "id": "1", "method": "\xe2\x82\xac"}',
    )

    @pytest.fixture(autouse=True)
    def _messages(self, redis: Redis) -> None:
        redis.lpush("job-queue:dead", *self.MESSAGES)

    def test_are_listed_in_lines(self, jobqueue: Command) -> None:
        """Whatever bytes a message has, it is one line of four columns."""
        lines = jobqueue("dead list").stdout.splitlines()

        names = [admin.DeadMessage(message).name for message in self.MESSAGES]
        columns = [line.split("\t") for line in lines]
        assert [column[0] for column in columns] == names
        assert [column[1] for column in columns] == ["2", "10", "44"]
        assert columns[0][3] == "\\u0000\\xff"
        assert columns[1][3] == "\\u001b[31m\\tred\\n"

    def test_are_listed_as_json(self, jobqueue: Command) -> None:
        """With --json each line is an object that holds the exact bytes."""
        listed = [json.loads(line) for line in jobqueue("dead list --json").stdout.splitlines()]

        assert listed[0]["base64"] == "AP8="
        assert [each["text"].encode() for each in listed[1:]] == list(self.MESSAGES[1:])
        assert [each["size_bytes"] for each in listed] == [2, 10, 44]

    def test_are_requeued_by_name(self, jobqueue: Command, redis: Redis) -> None:
        """A named message goes to the queue byte for byte; the others stay."""
        ended = jobqueue(f"dead requeue {admin.DeadMessage(self.MESSAGES[0]).name}")

        assert ended == (0, "1 moved from job-queue:dead to job-queue\n", "")
        assert redis.lrange("job-queue", 0, -1) == [self.MESSAGES[0]]
        assert redis.llen("job-queue:dead") == 2

    @pytest.mark.parametrize("command,queued", [("requeue", 3), ("drop", 0)])
    def test_are_all_taken(
        self, jobqueue: Command, redis: Redis, command: str, queued: int
    ) -> None:
        """With --all the dead list is empty afterwards."""
        ended = jobqueue(f"dead {command} --all")

        assert (ended.status, ended.stdout[:2]) == (0, "3 ")
        assert (redis.llen("job-queue:dead"), redis.llen("job-queue")) == (0, queued)

    @pytest.mark.parametrize("command", ["requeue", "drop"])
    def test_are_not_found_by_another_name(
        self, jobqueue: Command, redis: Redis, command: str
    ) -> None:
        """A name that no message has ends with status 1, and changes nothing."""
        ended = jobqueue(f"dead {command} 0123456789ab")

        assert ended == (1, "", "jobqueue: there is no dead message with the name 0123456789ab\n")
        assert redis.llen("job-queue:dead") == 3


def test_a_terminal_gets_a_table_and_nothing_to_obey(redis: Redis, redis_url: str) -> None:
    """On a terminal the dead list is cut to its width, and hostile bytes are escaped."""
    hostile = b"\x1b]0;title\x07[red]" + b"x" * 200
    redis.lpush("job-queue:dead", hostile)
    master, terminal = pty.openpty()
    terminal_is = {"TERM": "xterm", "COLUMNS": "100", "REDIS_URL": redis_url}

    running = start("-m", "jobqueue", "dead", "list", stdout=terminal, **terminal_is)

    os.close(terminal)
    _, stderr = running.communicate(timeout=60)
    shown = os.read(master, 65536)
    os.close(master)
    assert (running.returncode, stderr) == (0, "")
    assert admin.DeadMessage(hostile).name.encode() in shown
    assert b"\\u001b]0;title\\u0007[red]xxx" in shown
    assert b"\x1b]0" not in shown
    assert len(re.sub(rb"\x1b\[\d*m", b"", shown).splitlines()[1].decode()) <= 100
