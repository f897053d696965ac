"""The examples of both READMEs, run as they stand there, on another Redis."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from jobqueue import Server
from redis import Redis

from tests.conftest import Running

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
FRONT = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
FRONT_BLOCKS = re.findall(r"```python\n(.*?)```", FRONT, re.DOTALL)


def promised(block: str) -> str:
    """What the comments behind `print` say."""
    return "".join(f"{said}\n" for said in re.findall(r"print\(.*\)  # (.*)", block))


def run(block: str, redis_url: str) -> dict[str, Any]:
    """Run a block, and return what it has defined."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(block.replace("redis://localhost:6379/0", redis_url), names)  # noqa: S102 - our own README
    return names


@pytest.mark.usefixtures("redis")
def test_the_server_serves_the_client(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first two examples are two halves of one program."""
    server: Server = run(BLOCKS[0], redis_url)["server"]
    running = Running(server)

    run(BLOCKS[1], redis_url)
    running.stop()

    assert capsys.readouterr().out == promised(BLOCKS[1]) != ""


@pytest.mark.usefixtures("redis")
def test_the_front_page_is_a_program(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The only example of the project's README runs to its end, and its server stops."""
    (block,) = FRONT_BLOCKS
    before = set(threading.enumerate())

    run(block, redis_url)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)

    assert capsys.readouterr().out == promised(block) != ""
    assert not set(threading.enumerate()) - before


def test_the_event_loop_does_both(
    redis_url: str, redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example for asyncio is a program of its own."""
    run(BLOCKS[2], redis_url)

    assert capsys.readouterr().out == promised(BLOCKS[2]) != ""
    assert redis.dbsize() == 0


def test_a_ready_made_client_is_taken(redis_url: str) -> None:
    """The example with TLS is accepted as it stands."""
    names = run(BLOCKS[3], redis_url)

    assert isinstance(names["server"], Server)
