"""What all commands have in common: faults in one sentence, options, help, streams."""

from __future__ import annotations

import importlib
import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import PACKAGES, assert_one_sentence, start

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

    from tests.cli.conftest import Command


NOWHERE = "redis://:secret@127.0.0.1:1/0"


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
    assert "refused the command: " in ended.stderr
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
        ("run echo '{'", "the parameters are not valid JSON: "),
        ("run echo ''", "the parameters are not valid JSON: "),
        ("run echo NaN", "not a valid job: "),
        ("run echo 9007199254740993", "not a valid job: "),
        ("run ''", "not a valid job: "),
        ("run echo @missing.json", "the parameters can't be read: "),
        ("run echo " + "[" * 100_000, "the parameters are nested too deeply"),
        ("requeue", "requeue needs either PROCESSOR or --in-process KEY"),
        ("requeue web-1 --in-process key", "requeue needs either PROCESSOR or --in-process KEY"),
        ("dead drop", "give the names of dead messages, or --all"),
        ("dead requeue 0123456789ab --all", "give the names of dead messages, or --all"),
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
    "line",
    ["", "serve", "run", "status", "requeue", "dead", "dead list", "dead requeue", "dead drop"],
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
