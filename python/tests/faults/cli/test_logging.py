"""Logging of `jobqueue serve`: the application's configuration is kept, and silences no logger of ours."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jobqueue import Client

    from tests.faults.serving import Program

TO_A_FILE = {
    "basicConfig": """
logging.basicConfig(filename="app.log", level="INFO", format="mine: %(name)s %(message)s")
""",
    "dictConfig": """
logging.config.dictConfig({
    "version": 1,
    "formatters": {"mine": {"format": "mine: %(name)s %(message)s"}},
    "handlers": {"file": {"class": "logging.FileHandler", "filename": "app.log", "formatter": "mine"}},
    "root": {"level": "INFO", "handlers": ["file"]},
})
""",
    "only ours": """
handler = logging.FileHandler("app.log")
handler.setFormatter(logging.Formatter("mine: %(name)s %(message)s"))
logging.getLogger("jobqueue").addHandler(handler)
logging.getLogger("jobqueue").setLevel("INFO")
logging.getLogger("jobqueue").propagate = False
""",
    "only the server's": """
handler = logging.FileHandler("app.log")
handler.setFormatter(logging.Formatter("mine: %(name)s %(message)s"))
logging.getLogger("jobqueue.server").addHandler(handler)
logging.getLogger("jobqueue.server").setLevel("INFO")
""",
}
AS_EVER = {
    "none": "",
    "dictConfig of other loggers": """
logging.config.dictConfig({"version": 1, "loggers": {"other": {"level": "INFO"}}})
""",
    "a library's null handler": """
logging.getLogger().addHandler(logging.NullHandler())
""",
}


@pytest.fixture
def serve(
    command: Callable[..., Program], redis_url: str, client: Client, tmp_path: Path
) -> Callable[..., Program]:
    """Runs `jobqueue serve` next to an application that configures logging, for one job."""

    def run(configuration: str, *arguments: str) -> Program:
        (tmp_path / "app.py").write_text(
            "import logging, logging.config\nfrom jobqueue import Server\n"
            f"{configuration}\n"
            "server = Server(processor='app', block_timeout=0.05)\n"
            "server.on('echo', lambda value: value)\n"
            "server.on('log', lambda value: logging.getLogger('application').warning('own words'))\n"
        )
        environment = {"REDIS_URL": redis_url, "PATH": os.defpath}
        running = command(
            "-m", "jobqueue", "serve", "app:server", *arguments, cwd=tmp_path, env=environment
        )
        running.settled(client.run("log")).result(0)
        running.process.send_signal(signal.SIGTERM)
        assert running.status() == 0, running.stderr
        return running

    return run


@pytest.mark.parametrize("how", TO_A_FILE)
@pytest.mark.parametrize("processes", [[], ["--processes", "1"]], ids=["one", "processes"])
def test_what_the_application_configures_is_kept(
    serve: Callable[..., Program], tmp_path: Path, how: str, processes: list[str]
) -> None:
    """Our records go where the application wants them, in its form, and nowhere else."""
    ended = serve(TO_A_FILE[how], *processes)

    assert "mine: jobqueue.server serving queue=job-queue" in (tmp_path / "app.log").read_text()
    assert "serving" not in ended.stderr


@pytest.mark.parametrize("how", AS_EVER)
def test_who_configures_no_handler_gets_ours(serve: Callable[..., Program], how: str) -> None:
    """They are logged to stderr, the application's own records included."""
    ended = serve(AS_EVER[how])

    assert "INFO jobqueue.server: serving queue=job-queue" in ended.stderr
    assert "own words" in ended.stderr


@pytest.mark.parametrize("level,shown", [("error", False), ("debug", True)])
def test_a_level_that_is_given_counts_for_our_records(
    serve: Callable[..., Program], tmp_path: Path, level: str, shown: bool
) -> None:
    """--log-level is the operator's word, also where the application has chosen the handlers."""
    configuration = TO_A_FILE["basicConfig"].replace('"INFO"', '"WARNING"')

    serve(configuration, "--log-level", level)

    log = (tmp_path / "app.log").read_text()
    assert ("serving queue=" in log) is shown
    assert "mine: application own words" in log


def test_an_import_that_fails_is_traced_in_the_debug_log(
    command: Callable[..., Program], tmp_path: Path
) -> None:
    """The one sentence stays the last word."""
    (tmp_path / "app.py").write_text("def broken():\n    1 / 0\nbroken()\n")

    ended = command("-m", "jobqueue", "serve", "app:server", "--log-level", "debug", cwd=tmp_path)

    assert ended.status() == 2
    assert "in broken" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("jobqueue: importing app failed at ")
