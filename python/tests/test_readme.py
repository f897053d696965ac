"""The examples and tables of both READMEs: examples run as they are, on another Redis."""

import ast
import itertools
import logging
import re
import signal
import threading
from pathlib import Path
from typing import Any

import jobqueue
import pytest
from jobqueue import Server, aio
from jobqueue.cli.terminal import Status
from redis import Redis

from tests.conftest import Running, left

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
FRONT = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
FRONT_BLOCKS = re.findall(r"```python\n(.*?)```", FRONT, re.DOTALL)


def block(words: str) -> str:
    """The only example with these words."""
    (found,) = [each for each in BLOCKS if words in each]
    return str(found)


def table(first_title: str, section: str = "") -> list[list[str]]:
    """The cells of the first table with this title in a section; an empty first cell repeats."""
    text = README[README.index(section) :]
    rows = text[text.index(f"| {first_title} |") :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    for above, row in itertools.pairwise(cells):
        row[0] = row[0] or above[0]
    return cells


def promised(example: str) -> str:
    """What the comments behind `print` say."""
    return "".join(f"{said}\n" for said in re.findall(r"print\(.*\)  # (.*)", example))


def run(example: str, redis_url: str, **names: Any) -> dict[str, Any]:
    """Run an example that may use these names, and return what it has defined."""
    names["__name__"] = "example"
    exec(example.replace("redis://localhost:6379/0", redis_url), names)  # noqa: S102 - our own README
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
    (example,) = FRONT_BLOCKS
    before = set(threading.enumerate())

    run(example, redis_url)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)

    assert capsys.readouterr().out == promised(example) != ""
    assert not set(threading.enumerate()) - before


def test_the_event_loop_does_both(
    redis_url: str, redis: Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example for asyncio is a program of its own."""
    example = block("from jobqueue.aio import Client, Server")

    run(example, redis_url)

    assert capsys.readouterr().out == promised(example) != ""
    assert left(redis) == []


@pytest.mark.usefixtures("redis")
def test_a_job_outlives_its_caller(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The example of a handle collects the result by another client."""
    server = Server(redis_url, processor="readme", block_timeout=0.2)
    server.on("report", lambda parameters: f"{parameters['year'] - 1660} days")
    running = Running(server)

    run(block("detached=True"), redis_url, Client=jobqueue.Client)
    running.stop()

    assert capsys.readouterr().out == promised(block("detached=True")) != ""


def test_a_ready_made_client_is_taken(redis_url: str) -> None:
    """The example with TLS is accepted as it stands."""
    names = run(block("ssl_ca_certs"), redis_url)

    assert isinstance(names["server"], Server)


def test_a_server_with_other_settings(redis_url: str) -> None:
    """The example of `with_settings` makes another server of another name."""
    names = run(block("with_settings"), redis_url, server=Server(redis_url, processor="web-1"))

    assert names["other"].in_process == "job-queue:in-process:web-1-b"


def test_a_password_is_encoded(redis_url: str) -> None:
    """The example with special characters in a password is accepted, and shows what it promises."""
    names = run(block("quote("), redis_url)

    assert f"# {names['password']}" in block("quote(")
    names["client"].close()


@pytest.mark.usefixtures("redis")
def test_an_application_keeps_its_signals(redis_url: str) -> None:
    """The example with `handle_signals=False` stops at a SIGTERM by the application's handler."""
    before = signal.getsignal(signal.SIGTERM)
    example = block("handle_signals=False")
    # The signal arrives as soon as the server runs.
    example = example.replace("server.run(", "signal.raise_signal(signal.SIGTERM); server.run(")
    try:
        run(example, redis_url)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("module", [jobqueue, aio], ids=["threads", "asyncio"])
@pytest.mark.parametrize("kind", ["Client", "Server"])
def test_the_tables_of_urls_are_true(module: Any, kind: str) -> None:
    """The URLs of the first table are accepted, those of the second are refused."""
    accepted = [row[0].strip("`") for row in table("URL", "## Redis")]
    refused = [row[0].strip("`") for row in table("URL", "Refused are")]

    assert len(accepted) > 3
    for url in accepted:
        getattr(module, kind)(url, queue="{job-queue}")
    assert len(refused) > 3
    for url in refused:
        with pytest.raises(ValueError, match=r"not a valid Redis URL|jobs are bytes") as caught:
            getattr(module, kind)(url)
        assert "pass" not in str(caught.value).replace("a password", "")


def test_the_table_of_exit_statuses_is_true() -> None:
    """It has every status of the command."""
    assert [int(row[0]) for row in table("status")] == list(Status)


def test_the_table_of_logs_is_true() -> None:
    """It has every level at which each logger is used, and no other one."""
    listed = {(row[0].strip("`"), row[1]) for row in table("logger")}

    package = Path(jobqueue.__file__).parent
    used = set()
    for path in package.rglob("*.py"):
        source = path.read_text("utf-8")
        logger = re.search(r'^_?log = .*"(jobqueue\.\w+)"\)$', source, re.MULTILINE)
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Call(ast.Attribute(ast.Name("log" | "_log"), method)) if logger:
                    levels = [method.replace("exception", "error").upper()]
                    if method == "log":
                        levels = re.findall(r"logging\.([A-Z]+)", source)
                    used |= {(logger[1], level) for level in levels}
    known = logging.getLevelNamesMapping()
    assert {(name, level) for name, level in used if level in known} == listed


def test_the_links_to_sections_lead_somewhere() -> None:
    """Each link within the README names a heading of it."""
    headings = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }

    assert set(re.findall(r"\]\(#([^)]*)\)", README)) <= headings
