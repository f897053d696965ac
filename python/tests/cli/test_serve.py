"""`jobqueue serve` as a process: what it imports, how it ends, and several under one parent.

The handlers tell what they do through lists in the same Redis: every wait is one for an event.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol
from unittest.mock import patch

import pytest
from jobqueue.cli.processes import Processes
from jobqueue.cli.target import load
from jobqueue.cli.terminal import Fault, Status
from jobqueue.protocol.keys import text

from tests.cli.conftest import PACKAGES
from tests.conftest import least_acl, left, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

PATIENCE_S = 60  # only bounds what hangs

APPLICATION = """
import os
from redis import Redis
from jobqueue import Server, aio

redis = Redis.from_url(os.environ.get("HOLDS") or os.environ["REDIS_URL"], socket_timeout=120)
server = Server(os.environ["REDIS_URL"], processor="app", block_timeout=0.1)
asynchronous = aio.Server(os.environ["REDIS_URL"], processor="app", block_timeout=0.1)
number = 1

@asynchronous.on("echo")
async def echo_later(parameters):
    return parameters

@server.on("echo")
def echo(parameters):
    return parameters

@server.on("hold")
def hold(parameters):
    redis.rpush("held", os.getpid())
    redis.blpop(["release"])
    return parameters
"""


class Start(Protocol):
    def __call__(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start the command."""


@pytest.fixture
def serve(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start `jobqueue serve` next to an application, `app.py`, and end what is left of it."""
    (tmp_path / "app.py").write_text(APPLICATION)
    started = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        variables = {"REDIS_URL": redis_url, "PYTHONPATH": str(PACKAGES), "PATH": os.defpath}
        process = subprocess.Popen(
            [sys.executable, "-m", "jobqueue", "serve", *arguments],
            cwd=tmp_path,
            env=variables | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def push(redis: Redis, method: str, job_id: str = "1", queue: str = "job-queue") -> None:
    """Push a job as a client does."""
    job = {"method": method, "parameters": [job_id], "channel": "results", "id": job_id}
    redis.lpush(queue, json.dumps(job))


def held(redis: Redis) -> int:
    """Wait until a handler holds a job, and return its process."""
    popped: Any = redis.blpop(["held"], timeout=PATIENCE_S)
    assert popped, "a handler starts"
    return int(popped[1])


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait until the process and all that it started have ended; return its status and stderr."""
    # A child that is left keeps the pipe open.
    _, stderr = process.communicate(timeout=PATIENCE_S)
    return process.returncode, stderr


@pytest.mark.parametrize("attribute", ["server", "asynchronous"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_a_signal(
    serve: Start, redis: Redis, attribute: str, number: signal.Signals
) -> None:
    """A sync or asyncio server of a module in the current directory answers, and exits with 0."""
    with redis.pubsub(ignore_subscribe_messages=True) as results:  # type: ignore[no-untyped-call]
        results.subscribe("results")
        process = serve(f"app:{attribute}")
        push(redis, "echo")
        answer = next(message for message in results.listen() if message)

        process.send_signal(number)

    status, stderr = ended(process)
    assert json.loads(answer["data"]) == {"id": "1", "result": ["1"]}
    assert (status, "Traceback" in stderr) == (0, False)


SEVERAL = ["app:server", "--queue", "one two", "--queue", "three"]


def test_several_queues_are_recovered_after_a_crash(serve: Start, redis: Redis) -> None:
    """server.recovery.first: each from its own list, by the next server of the same name."""
    for queue in ("one two", "three"):
        push(redis, "hold", queue=queue)
    killed = serve(*SEVERAL, "--concurrency", "2", "--order", "priority")
    assert [held(redis), held(redis)] == [killed.pid] * 2

    killed.kill()
    killed.wait(PATIENCE_S)
    lists = ["one two:in-process:app", "three:in-process:app"]
    assert [redis.llen(key) for key in lists] == [1, 1]
    again = serve(*SEVERAL, "--concurrency", "2", "--order", "priority")

    assert [held(redis), held(redis)] == [again.pid] * 2
    redis.rpush("release", "1", "2")
    until(lambda: not redis.exists(*lists), "empty lists")
    again.terminate()
    assert ended(again)[0] == 0


def test_child_processes_serve_several_queues(serve: Start, redis: Redis) -> None:
    """Each has its own name, and so a list of each queue."""
    for queue in ("one two", "three"):
        push(redis, "hold", queue=queue)
    parent = serve(*SEVERAL, "--processes", "2")

    pids = {held(redis), held(redis)}

    assert len(pids - {parent.pid}) == 2
    names = {text(key) for key in redis.keys("*:in-process:*") if b":lease:" not in key}
    assert {name.rpartition(":")[2] for name in names} == {"app-1", "app-2"}
    assert {name.partition(":")[0] for name in names} == {"one two", "three"}
    redis.rpush("release", "1", "2")
    until(lambda: not redis.exists(*names), "empty lists")
    parent.terminate()
    assert ended(parent)[0] == 0


@pytest.mark.parametrize("attribute", ["server", "asynchronous"])
def test_a_server_whose_name_is_lost_ends_with_one_sentence(
    serve: Start, redis: Redis, attribute: str
) -> None:
    """server.takeover.lost-name: with status 1, so that a process manager notices."""
    lease = "job-queue:lease:job-queue:in-process:app"
    process = serve(f"app:{attribute}", "--takeover")
    until(lambda: redis.exists(lease), "the lease")

    redis.set(lease, "another's")

    status, stderr = ended(process)
    assert (status, "Traceback" in stderr) == (1, False)
    assert "another server has taken over the list job-queue:in-process:app" in stderr


@pytest.mark.parametrize(
    "target,sentence",
    [
        ("app", "app is not MODULE:SERVER, as in app:server"),
        (":server", ":server is not MODULE:SERVER, as in app:server"),
        ("app.missing:server", "can't find the module app.missing in "),
        ("app:missing", "module app has no attribute 'missing'"),
        ("app:number", "app:number is of type int, not a jobqueue Server"),
        (
            "broken:server",
            "importing broken failed at {at}/broken.py, line 2: ZeroDivisionError",
        ),
        (
            "needy:server",
            "importing needy failed at {at}/needy.py, line 1: ModuleNotFoundError",
        ),
        ("wrong:server", "importing wrong failed: SyntaxError: invalid syntax (wrong.py, line 1)"),
    ],
)
def test_what_is_no_server_is_one_sentence(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, sentence: str
) -> None:
    """A target that can't be served is reported in a sentence that says where it is wrong."""
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "broken.py").write_text("\n1 / 0\n")
    (tmp_path / "needy.py").write_text("import missing_too\n")
    (tmp_path / "wrong.py").write_text("server =\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setenv("REDIS_URL", redis_url)

    with patch.dict(sys.modules), pytest.raises(Fault) as fault:
        load(target)

    assert str(fault.value).startswith(sentence.format(at=tmp_path))
    assert fault.value.status == 2


def test_a_missing_module_is_one_sentence(serve: Start) -> None:
    """The command ends with status 2 and the sentence."""
    status, stderr = ended(serve("missing:server"))

    assert (status, stderr.count("\n")) == (2, 1), stderr
    assert stderr.startswith("jobqueue: can't find the module missing in ")


def test_an_unreachable_redis_is_one_sentence(serve: Start) -> None:
    """A server that finds no Redis when it starts ends with status 4, and prints no password."""
    url = "redis://:secret@127.0.0.1:1"

    status, stderr = ended(serve("app:server", "--log-level", "error", REDIS_URL=url))

    assert (status, stderr.count("\n")) == (4, 1), stderr
    assert stderr.startswith("jobqueue: can't connect to Redis: ")
    assert "secret" not in stderr


def test_wrong_credentials_are_one_sentence(serve: Start, redis_url: str) -> None:
    """A server that Redis doesn't know ends with status 4, and prints no password."""
    url = redis_url.replace("//", "//nobody:secret@")

    status, stderr = ended(serve("app:server", "--log-level", "error", REDIS_URL=url))

    assert (status, stderr.count("\n")) == (4, 1), stderr
    assert "password" in stderr
    assert "secret" not in stderr


def test_a_missing_permission_is_one_sentence(serve: Start, redis: Redis, redis_url: str) -> None:
    """A server whose user was made for version 1.0 names what takeover needs, and ends with status 4."""
    least_acl(redis, "server")
    url = redis_url.replace("//", "//jobqueue-server:secret@")

    status, stderr = ended(serve("app:server", "--log-level", "error", REDIS_URL=url))

    assert (status, stderr.count("\n")) == (4, 1), stderr
    assert "takeover needs more permissions" in stderr
    assert "the 'set' command" in stderr
    assert "--no-takeover" in stderr
    assert not redis.exists("job-queue:processors")


def test_flags_win_over_what_the_application_says(
    serve: Start, redis: Redis, redis_url: str
) -> None:
    """Redis, the queue, the in-process list and the concurrency are those of the flags."""
    for job_id in ("1", "2"):
        redis.lpush("other", json.dumps({"method": "hold", "channel": "c", "id": job_id}))
    flags = f"--redis {redis_url} --queue other --processor web-1 --concurrency 2"
    process = serve("app:server", *flags.split(), REDIS_URL="redis://127.0.0.1:1", HOLDS=redis_url)

    assert held(redis) == held(redis) == process.pid
    assert redis.llen("other:in-process:web-1") == 2

    process.send_signal(signal.SIGTERM)
    redis.rpush("release", "", "")
    assert ended(process)[0] == 0


def test_a_second_server_of_one_name_is_refused(serve: Start, redis: Redis) -> None:
    """While a server runs, another of its name ends with status 1 and one sentence."""
    push(redis, "hold")
    first = serve("app:server")
    held(redis)

    status, stderr = ended(serve("app:server", "--log-level", "error"))

    assert (status, stderr.count("\n")) == (1, 1), stderr
    assert "in use by a server" in stderr
    redis.rpush("release", "")
    first.send_signal(signal.SIGTERM)
    assert ended(first)[0] == 0


def test_several_processes_serve_and_drain(serve: Start, redis: Redis) -> None:
    """Two servers run at once, each with its own list; SIGTERM lets both finish what they hold."""
    process = serve("app:server", "--processes", "2")
    push(redis, "hold", "1")
    push(redis, "hold", "2")
    servers = {held(redis), held(redis)}

    lists = [redis.llen(f"job-queue:in-process:app-{number}") for number in (1, 2)]
    process.send_signal(signal.SIGTERM)
    redis.rpush("release", "", "")

    status, stderr = ended(process)
    assert (status, "Traceback" in stderr) == (0, False), stderr
    assert len(servers | {process.pid}) == 3
    assert lists == [1, 1]
    assert left(redis) == []


def test_a_killed_process_is_replaced_and_recovers(serve: Start, redis: Redis) -> None:
    """When a server is killed, another takes its name and runs what it had claimed."""
    process = serve("app:server", "--processes", "2")
    push(redis, "hold")
    killed = held(redis)

    os.kill(killed, signal.SIGKILL)
    successor = held(redis)

    assert successor != killed
    process.send_signal(signal.SIGTERM)
    # The handler that died may have left its wait in Redis.
    redis.rpush("release", "", "")
    status, stderr = ended(process)
    assert status == 0, stderr
    assert "was killed by SIGKILL" in stderr
    assert [key for key in left(redis) if key.startswith(b"job-queue")] == redis.keys(
        "job-queue:attempts:*"
    )


def test_a_second_interrupt_stops_at_once(serve: Start, redis: Redis) -> None:
    """The second SIGINT kills the servers; what they hold stays on its list, with status 130."""
    process = serve("app:server", "--processes", "2")
    push(redis, "hold")
    held(redis)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert any("stopping" in line for line in process.stderr), "the first interrupt is logged"

    process.send_signal(signal.SIGINT)

    status, _ = ended(process)
    assert status == 130
    lists = [redis.llen(f"job-queue:in-process:app-{number}") for number in (1, 2)]
    assert sorted(lists) == [0, 1]


def test_children_end_with_their_parent(serve: Start, redis: Redis) -> None:
    """When the parent is killed, its servers finish what they hold and end."""
    process = serve("app:server", "--processes", "2")
    push(redis, "hold")
    held(redis)

    process.kill()
    redis.rpush("release", "")

    status, _ = ended(process)
    assert status == -signal.SIGKILL
    assert left(redis) == []


def test_several_processes_without_redis_end(serve: Start) -> None:
    """Servers that find no Redis at their first start aren't started again, with status 4."""
    process = serve("app:server", "--processes", "2", REDIS_URL="redis://:secret@127.0.0.1:1")

    status, stderr = ended(process)

    assert status == 4
    assert "jobqueue: can't connect to Redis: " in stderr
    assert ("restarting it" in stderr, "secret" in stderr) == (False, False)


def test_what_no_further_start_would_change_stops_all(serve: Start, tmp_path: Path) -> None:
    """When a child can't import the module, no server is started again, with status 2."""
    (tmp_path / "once.py").write_text(
        "from pathlib import Path\nfrom app import server\nPath('imported').mkdir()\n"
    )

    status, stderr = ended(serve("once:server", "--processes", "2"))

    assert status == 2
    assert "importing once failed at " in stderr
    assert "restarting it" not in stderr


def test_a_stop_takes_no_status_from_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that has ended, and that asyncio hasn't looked at, keeps its status at a stop."""
    servers = Processes(["/bin/sh", "-c", f"exit {Status.USAGE}"], {"a": {}})
    waitpid = os.waitpid

    def after_the_stop(pid: int, options: int) -> tuple[int, int]:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        while not servers._running and threading.current_thread() is not threading.main_thread():
            os.sched_yield()  # Python 3.11 calls this in a thread of its own
        servers._stop()
        return waitpid(pid, options)

    monkeypatch.setattr(os, "waitpid", after_the_stop)

    assert asyncio.run(servers.run()) == Status.USAGE
