"""The commands that talk to Redis and end: what they print, and their exit status."""

from __future__ import annotations

import importlib
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest
from jobqueue import JobError, __main__, admin

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

PACKAGES = Path(__file__).parents[1]
NOWHERE = "redis://:secret@127.0.0.1:1/0"


class Ended(NamedTuple):
    status: int
    stdout: str
    stderr: str


class Command(Protocol):
    def __call__(self, line: str, stdin: str = "") -> Ended:
        """Run the command."""


@pytest.fixture
def jobqueue(
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Command:
    """Run a line of a shell's in this process, and return what it came to."""

    def run(line: str, stdin: str = "") -> Ended:
        (tmp_path / "stdin").write_text(stdin)
        with (tmp_path / "stdin").open() as file, monkeypatch.context() as patch:
            patch.setenv("REDIS_URL", redis_url)
            patch.setattr(sys, "argv", ["jobqueue", *shlex.split(line)])
            patch.setattr(sys, "stdin", file)
            with pytest.raises(SystemExit) as end:
                __main__.main()
        return Ended(int(end.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def kind() -> str:
    """Serve in one way: the command line sees no difference."""
    return "threads"


@pytest.fixture
def server(serve: Callable[..., Any]) -> None:
    """Serve some methods."""

    def fail(parameters: object) -> None:
        raise JobError("billing.declined", "no\x1b[31m cover", parameters)

    serve({"echo": lambda parameters: parameters, "fail": fail})


@pytest.mark.usefixtures("server")
class TestRun:
    @pytest.mark.parametrize(
        "line,stdin,expected",
        [
            ("run echo", "", None),
            ("run echo 0", "", 0),
            ("run echo -- -1", "", -1),
            ('run echo \'["é", "\\ud800\\udc00", "\\u009b"]\'', "", ["é", "\U00010000", "\x9b"]),
            ("run echo -", '{"a": 1}', {"a": 1}),
            ("run echo - --timeout 30", "\ufeff[]", []),
        ],
    )
    def test_prints_the_result_as_json(
        self, jobqueue: Command, line: str, stdin: str, expected: object
    ) -> None:
        """A result of any kind is one line of JSON on stdout, and nothing else is printed."""
        ended = jobqueue(line, stdin)

        assert (ended.status, json.loads(ended.stdout), ended.stderr) == (0, expected, "")
        assert ended.stdout.count("\n") == 1

    def test_reads_parameters_from_a_file(self, jobqueue: Command, tmp_path: Path) -> None:
        """`@FILE` stands for the JSON in the file."""
        (tmp_path / "parameters.json").write_text('{\n "a": [1]\n}\n')

        assert jobqueue(f"run echo @{tmp_path}/parameters.json").stdout == '{"a": [1]}\n'

    def test_escapes_what_a_terminal_would_obey(self, jobqueue: Command) -> None:
        """Control characters of a result are escaped, and letters are not."""
        assert jobqueue(r"""run echo '"é\u009b31m\u202e"'""").stdout == '"é\\u009b31m\\u202e"\n'

    def test_tells_the_error_of_a_job(self, jobqueue: Command) -> None:
        """An error's code, message and data are one sentence on stderr, with status 1."""
        ended = jobqueue("run fail '[1]'")

        sentence = "jobqueue: billing.declined: no\\u001b[31m cover; data: [1]\n"
        assert ended == (1, "", sentence)

    def test_tells_an_unknown_method(self, jobqueue: Command) -> None:
        """A method without a handler is an error of the job's."""
        ended = jobqueue("run ecko")

        assert ended == (1, "", "jobqueue: method-not-found: no handler is named 'ecko'\n")


def test_run_ends_at_its_timeout(jobqueue: Command, redis: Redis) -> None:
    """Without a server the timeout passes, with status 3, and the job stays queued."""
    ended = jobqueue("run echo --timeout 1.5")

    assert ended == (3, "", "jobqueue: no result came within 1.5 s; the job may run yet\n")
    assert redis.llen("job-queue") == 1


def test_run_tells_a_refused_push(jobqueue: Command, redis: Redis) -> None:
    """A push that Redis refuses ends with status 4."""
    redis.set("job-queue", "no list")

    ended = jobqueue("run echo --timeout 5")

    assert (ended.status, ended.stdout) == (4, "")
    assert ended.stderr.startswith("jobqueue: the job was not queued: ")
    assert "WRONGTYPE" in ended.stderr


@pytest.mark.parametrize(
    "line", ["run echo", "status", "requeue web-1", "dead list", "dead drop --all"]
)
def test_an_unreachable_redis_is_one_sentence(jobqueue: Command, line: str) -> None:
    """Without a Redis every command ends with status 4, and prints no password."""
    ended = jobqueue(f"{line} --redis {NOWHERE}")

    assert (ended.status, ended.stdout) == (4, "")
    assert_one_sentence(ended.stderr)
    assert "127.0.0.1:1" in ended.stderr
    assert "secret" not in ended.stderr


@pytest.mark.parametrize("line", ["run echo", "status", "requeue web-1", "dead list"])
def test_wrong_credentials_are_one_sentence(jobqueue: Command, redis_url: str, line: str) -> None:
    """Where Redis refuses the user, every command ends with status 4, and prints no password."""
    ended = jobqueue(f"{line} --redis {redis_url.replace('//', '//nobody:secret@')}")

    assert (ended.status, ended.stdout) == (4, "")
    assert_one_sentence(ended.stderr)
    assert "password" in ended.stderr
    assert "secret" not in ended.stderr


@pytest.mark.parametrize("line", ["status", "requeue web-1"])
def test_a_refusal_of_redis_is_one_sentence(jobqueue: Command, redis: Redis, line: str) -> None:
    """Where Redis refuses a command, the status is 4, and the sentence says what Redis said."""
    redis.set("job-queue", "no list")
    redis.lpush("job-queue:in-process:web-1", "1")

    ended = jobqueue(line)

    assert (ended.status, ended.stdout) == (4, "")
    assert_one_sentence(ended.stderr)
    assert "refuses the command: " in ended.stderr
    assert "WRONGTYPE" in ended.stderr
    assert redis.llen("job-queue:in-process:web-1") == 1


@pytest.mark.parametrize("line", ["run echo", "status", "requeue web-1", "dead list"])
@pytest.mark.parametrize(
    "url",
    [
        "''",
        "http://:secret@localhost",
        "redis://:secret/x@localhost",
        "redis://:secret@localhost:port",
        "redis://:secret@[::1",
        "redis://:secret@localhost?bogus=1",
        "redis://:secret@localhost?decode_responses=1",
    ],
)
def test_an_invalid_url_is_one_sentence(jobqueue: Command, line: str, url: str) -> None:
    """A URL that names no Redis ends with status 2, and prints no part of it."""
    ended = jobqueue(f"{line} --redis {url}")

    assert (ended.status, ended.stdout) == (2, "")
    assert_one_sentence(ended.stderr)
    assert ended.stderr.startswith("jobqueue: --redis or REDIS_URL: ")
    assert "secret" not in ended.stderr


@pytest.mark.parametrize(
    "line,sentence",
    [
        ("run echo '{'", "the parameters are no JSON: "),
        ("run echo ''", "the parameters are no JSON: "),
        ("run echo NaN", "this can't be a job: "),
        ("run echo 9007199254740993", "this can't be a job: "),
        ("run ''", "this can't be a job: "),
        ("run echo @missing.json", "the parameters can't be read: "),
        ("run echo " + "[" * 100_000, "the parameters are nested too deeply"),
        ("requeue", "requeue needs either PROCESSOR or --in-process KEY"),
        ("requeue web-1 --in-process key", "requeue needs either PROCESSOR or --in-process KEY"),
        ("dead drop", "name the dead messages, or say --all"),
        ("dead requeue 0123456789ab --all", "name the dead messages, or say --all"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(jobqueue: Command, line: str, sentence: str) -> None:
    """What the caller got wrong ends with status 2, before anything is queued."""
    ended = jobqueue(line)

    assert (ended.status, ended.stdout) == (2, "")
    assert_one_sentence(ended.stderr)
    assert ended.stderr.startswith(f"jobqueue: {sentence}")


@pytest.mark.parametrize("line", ["bogus", "run", "run echo --timeout soon", "status --bogus"])
def test_a_wrong_option_shows_the_usage(jobqueue: Command, line: str) -> None:
    """What there isn't ends with status 2, and with how it would be right."""
    ended = jobqueue(line)

    assert ended.status == 2
    assert "Usage: jobqueue" in ended.stdout + ended.stderr


def test_status_is_a_line_for_each_list(jobqueue: Command, redis: Redis) -> None:
    """In a pipe the status has one line for each list, with tabs and without colour."""
    redis.lpush("job-queue", "a", "b")
    redis.lpush("job-queue:in-process:web-1\x1b[31m", "c")

    assert jobqueue("status").stdout == (
        "queue\tjob-queue\t2\n"
        "in-process list\tjob-queue:in-process:web-1\\u001b[31m\t1\n"
        "dead list\tjob-queue:dead\t0\n"
    )


def test_status_writes_json(jobqueue: Command, redis: Redis) -> None:
    """With --json the status is one object."""
    redis.lpush("q:in-process:web-1", "c")

    ended = jobqueue("status --json --queue q")

    expected = {"queue": "q", "waiting": 0, "in_process": {"q:in-process:web-1": 1}, "dead": 0}
    assert json.loads(ended.stdout) == expected


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

        assert ended == (1, "", "jobqueue: no dead message is named 0123456789ab\n")
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


def test_a_flag_wins_over_the_environment(
    jobqueue: Command, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value comes from the flag, else from the variable."""
    redis.lpush("flag", "a")
    redis.lpush("variable", "a", "b")
    monkeypatch.setenv("JOBQUEUE_QUEUE", "variable")

    assert json.loads(jobqueue("status --json").stdout)["waiting"] == 2
    assert json.loads(jobqueue("status --json --queue flag").stdout)["waiting"] == 1


@pytest.mark.parametrize(
    "line", ["", "serve", "run", "status", "requeue", "dead list", "dead drop"]
)
def test_help_teaches_by_examples(jobqueue: Command, line: str) -> None:
    """The help of each command shows a line to type, and never the value of the URL's variable."""
    ended = jobqueue(f"{line} --help")

    assert ended.status == 0
    assert f"\n    jobqueue {line}" in ended.stdout
    assert "127.0.0.1" not in ended.stdout


def test_version(jobqueue: Command) -> None:
    """`--version` names the program and its version."""
    ended = jobqueue("--version")

    assert ended.status == 0
    assert ended.stdout.startswith("jobqueue ")


def test_a_missing_extra_is_one_sentence(tmp_path: Path) -> None:
    """Without the packages of the extra the command says how to install them, with status 2."""
    for package in ("hiredis", "redis"):
        [place] = importlib.import_module(package).__path__
        (tmp_path / package).symlink_to(place)
    # -S hides what is installed.
    running = start("-S", "-m", "jobqueue", "status", PYTHONPATH=f"{PACKAGES}:{tmp_path}")

    stdout, stderr = running.communicate(timeout=60)

    assert (running.returncode, stdout) == (2, "")
    assert_one_sentence(stderr)
    assert "pip install 'jobqueue[cli]'" in stderr


def test_a_closed_pipe_is_quiet(redis: Redis, redis_url: str) -> None:
    """A reader that has gone away ends the command without a word."""
    redis.lpush("job-queue:dead", *(b"%d" % number * 1000 for number in range(1000)))
    read, write = os.pipe()
    os.close(read)

    running = start("-m", "jobqueue", "dead", "list", stdout=write, REDIS_URL=redis_url)

    os.close(write)
    assert running.communicate(timeout=60)[1] == ""
    assert running.returncode == 1


def test_run_tells_a_lost_connection(redis: Redis, redis_url: str) -> None:
    """A subscription that is lost while `run` waits without a timeout ends it with status 5."""
    running = start("-m", "jobqueue", "run", "echo", REDIS_URL=redis_url)
    assert redis.blpop(["job-queue"], timeout=60), "the job is queued"

    redis.client_kill_filter(_type="pubsub")

    stdout, stderr = running.communicate(timeout=60)
    assert (running.returncode, stdout) == (5, "")
    assert_one_sentence(stderr)
    assert stderr.startswith("jobqueue: the job may have run: ")


def test_ctrl_c_is_quiet(redis: Redis, redis_url: str) -> None:
    """SIGINT ends a waiting `run` with status 130 and without a word."""
    running = start("-m", "jobqueue", "run", "echo", REDIS_URL=redis_url)
    assert redis.blpop(["job-queue"], timeout=60), "the job is queued"

    running.send_signal(signal.SIGINT)

    assert running.communicate(timeout=60) == ("", "")
    assert running.returncode == 130


def start(
    *arguments: str, stdout: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen[str]:
    """Start Python in a process of its own, which sees nothing of the caller's environment."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={"PATH": os.defpath, "PYTHONPATH": str(PACKAGES)} | environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_one_sentence(text: str) -> None:
    """Fail unless the text is one line of `jobqueue`'s."""
    assert text.startswith("jobqueue: ")
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert "Traceback" not in text
