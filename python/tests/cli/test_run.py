"""`jobqueue run`: what it prints, and with which status it ends."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import assert_one_sentence, start
from tests.conftest import until

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

    from tests.cli.conftest import Command


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

        assert ended == (
            1,
            "",
            "jobqueue: method-not-found: no handler is registered for method 'ecko'\n",
        )


@pytest.mark.usefixtures("server")
class TestResult:
    def test_prints_the_result_of_a_detached_job(self, jobqueue: Command, redis: Redis) -> None:
        """client.kept.handle, client.kept.collects: a handle is one line, and so is its result."""
        detached = jobqueue("run echo 7 --detach")
        assert (detached.status, detached.stderr) == (0, "")
        handle = detached.stdout.removesuffix("\n")
        assert "\n" not in handle

        assert jobqueue(f"result {handle}") == (0, "7\n", "")
        assert jobqueue(f"result {handle} --delete --timeout 60") == (0, "7\n", "")
        until(lambda: not redis.keys("job-queue:result:*"), "the result to be deleted")
        late = jobqueue(f"result {handle} --timeout 0.05")
        assert (late.status, late.stdout) == (3, "")
        assert "no result within 0.05 s" in late.stderr

    def test_tells_the_error_of_a_detached_job(self, jobqueue: Command) -> None:
        """An error is collected like a value."""
        handle = jobqueue("run fail --detach --keep 60").stdout.strip()

        ended = jobqueue(f"result {handle} --timeout 60")

        assert (ended.status, ended.stdout) == (1, "")
        assert ended.stderr.startswith("jobqueue: billing.declined: ")

    def test_tells_what_is_no_handle(self, jobqueue: Command) -> None:
        """client.kept.malformed: a status of its own."""
        ended = jobqueue("result 4a0fa57e")

        assert (ended.status, ended.stdout) == (6, "")
        assert_one_sentence(ended.stderr)


def test_run_ends_at_its_timeout(jobqueue: Command, redis: Redis) -> None:
    """Without a server the timeout passes, with status 3, and the job stays queued."""
    ended = jobqueue("run echo --timeout 1.5")

    assert ended == (
        3,
        "",
        "jobqueue: no result within 1.5 s; the job may have run, or may run later\n",
    )
    assert redis.llen("job-queue") == 1


def test_run_tells_a_refused_push(jobqueue: Command, redis: Redis) -> None:
    """A push that Redis refuses ends with status 4."""
    redis.set("job-queue", "no list")

    ended = jobqueue("run echo --timeout 5")

    assert (ended.status, ended.stdout) == (4, "")
    assert ended.stderr.startswith("jobqueue: the job was not queued: ")
    assert "WRONGTYPE" in ended.stderr


def test_run_tells_a_lost_connection(redis: Redis, redis_url: str) -> None:
    """A subscription that is lost while `run` waits without a timeout ends it with status 5."""
    running = start("-m", "jobqueue", "run", "echo", REDIS_URL=redis_url)
    assert redis.blpop(["job-queue"], timeout=60), "the job is queued"

    redis.client_kill_filter(_type="pubsub")

    stdout, stderr = running.communicate(timeout=60)
    assert (running.returncode, stdout) == (5, "")
    assert_one_sentence(stderr)
    assert stderr.startswith("jobqueue: no result came: ")
    assert stderr.endswith("; the job may have run\n")


def test_ctrl_c_is_quiet(redis: Redis, redis_url: str) -> None:
    """SIGINT ends a waiting `run` with status 130 and without a word."""
    running = start("-m", "jobqueue", "run", "echo", REDIS_URL=redis_url)
    assert redis.blpop(["job-queue"], timeout=60), "the job is queued"

    running.send_signal(signal.SIGINT)

    assert running.communicate(timeout=60) == ("", "")
    assert running.returncode == 130
