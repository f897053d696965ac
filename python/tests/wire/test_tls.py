"""TLS with a private authority and with client certificates, for servers and clients of both colours."""

from __future__ import annotations

import asyncio
import gc
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis as redis_py
import trustme
from jobqueue import ConnectionLost, NotQueued, Server, aio

from tests.client.calling import Caller
from tests.conftest import DEADLINE_S, RedisProcess, until
from tests.server.test_server import Serve, echo
from tests.wire.tls_front import TlsFront

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

AUTHORITY, STRANGER = trustme.CA(), trustme.CA()


class Files:
    """The certificates of one machine, as an operator keeps them."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.own = folder / "authority.pem", folder / "own.pem"
        self.trust(AUTHORITY)
        self.identify(AUTHORITY)

    def trust(self, authority: trustme.CA) -> None:
        """Replace the file of the authority."""
        authority.cert_pem.write_to_path(str(self.authority))

    def identify(self, authority: trustme.CA) -> None:
        """Replace the client's own certificate and key."""
        authority.issue_cert("app").private_key_and_cert_chain_pem.write_to_path(str(self.own))

    def url(self, front: TlsFront, *, own: bool = False) -> str:
        """Where Redis is, as a user writes it."""
        ours = f"&ssl_certfile={self.own}&ssl_keyfile={self.own}" if own else ""
        return f"rediss://localhost:{front.port}/0?ssl_ca_certs={self.authority}{ours}"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Certificates that are right."""
    return Files(tmp_path)


@pytest.fixture
def call(kind: str) -> Iterator[Callable[..., Any]]:
    """Runs jobs with clients of the server's colour, one for each source."""
    callers: dict[str, Caller] = {}

    def run(source: Any, parameters: Any = None) -> Any:
        caller = callers.setdefault(str(source), Caller(source, asynchronous="asyncio" in kind))
        return caller.run("echo", parameters)

    yield run
    for caller in callers.values():
        caller.close()


@pytest.mark.parametrize("own", [False, True], ids=["", "client-certificate"])
def test_jobs_run_over_tls(
    serve: Serve, call: Any, redis_process: RedisProcess, files: Files, *, own: bool
) -> None:
    """A URL names the files of a private authority, and the client's own certificate."""
    with TlsFront(redis_process.port, AUTHORITY, clients=AUTHORITY if own else None) as front:
        url = files.url(front, own=own)
        running = serve({"echo": echo}, url)

        assert call(url, "x" * 300_000) == "x" * 300_000
        running.stop()
        assert front.connections >= 2, "expected both to come by TLS"


def test_a_ready_made_context_counts(
    kind: str, serve: Serve, call: Any, redis_process: RedisProcess
) -> None:
    """A context that trusts the authority is used, in place of files; README, Redis."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)

    class Connection(redis_py.SSLConnection):
        def _wrap_socket_with_ssl(self, sock: Any) -> Any:
            return context.wrap_socket(sock, server_hostname=self.host)

    class AioConnection(redis_py.asyncio.SSLConnection):
        def _connection_arguments(self) -> Any:
            return {"host": self.host, "port": self.port, "ssl": context}

    with TlsFront(redis_process.port, AUTHORITY) as front:
        settings: dict[str, Any] = {
            "host": "localhost",
            "port": front.port,
            "retry": None,
            "socket_timeout": 10,
        }

        def source() -> Any:  # one for each event loop, to which a client of redis-py belongs
            if kind.startswith("asyncio"):
                pool = redis_py.asyncio.ConnectionPool(connection_class=AioConnection, **settings)
                return redis_py.asyncio.Redis(connection_pool=pool)
            return redis_py.Redis(
                connection_pool=redis_py.ConnectionPool(connection_class=Connection, **settings)
            )

        running = serve({"echo": echo}, source())

        assert call(source(), 1) == 1
        running.stop()
    gc.collect()  # what wasn't closed warns here, and in no other test


WRONG: list[Any] = [
    (STRANGER, "localhost", False, "its certificate is not accepted: .*ssl_ca_certs"),
    (AUTHORITY, "elsewhere", False, "its certificate is not accepted: .*(localhost|[mM]ismatch)"),
    (AUTHORITY, "localhost", True, "ssl_certfile and ssl_keyfile name ours"),
]


@pytest.mark.parametrize("authority,name,asks,sentence", WRONG, ids=["stranger", "name", "ours"])
def test_a_wrong_certificate_is_one_sentence(
    kind: str,
    redis_process: RedisProcess,
    files: Files,
    authority: Any,
    name: str,
    asks: bool,
    sentence: str,
) -> None:
    """A server ends at its first attempt, and a job is not queued; both say what is wrong."""
    asynchronous = kind.startswith("asyncio")
    clients = AUTHORITY if asks else None
    with TlsFront(redis_process.port, authority, name, clients) as front:
        url = files.url(front)
        server = (aio.Server if asynchronous else Server)(url, processor="test")
        with pytest.raises(ConnectionLost, match=sentence) as refused:
            asyncio.run(server.run()) if isinstance(server, aio.Server) else server.run()
        caller = Caller(url, asynchronous=asynchronous)
        with pytest.raises(NotQueued, match=sentence):
            caller.run("echo", timeout=DEADLINE_S)
        caller.close()

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("command", [["status"], ["run", "echo"]])
def test_a_wrong_certificate_ends_a_command(
    command: list[str], redis_process: RedisProcess, files: Files
) -> None:
    """The status is 4, and stderr has one sentence."""
    with TlsFront(redis_process.port, STRANGER) as front:
        ended = subprocess.run(
            [sys.executable, "-m", "jobqueue", *command, "--redis", files.url(front)],
            capture_output=True,
            text=True,
            check=False,
        )

    assert ended.returncode == 4, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "its certificate is not accepted" in ended.stderr


def test_renewed_certificates_cost_a_reconnect(
    serve: Serve, call: Any, redis_process: RedisProcess, files: Files
) -> None:
    """Redis gets a certificate of a new authority, and so do we: the files are read again."""
    new = trustme.CA()
    with TlsFront(redis_process.port, AUTHORITY, clients=AUTHORITY) as front:
        url = files.url(front, own=True)
        running = serve({"echo": echo}, url)
        assert call(url, 1) == 1

        files.trust(new)
        files.identify(new)
        front.trust(new)
        before = front.connections
        front.renew(new)
        until(lambda: front.connections > before, "the server's new connection")

        assert until(lambda: _answered(call, url), "an answer over the new connections") == 2
        running.stop()


def _answered(call: Any, url: str) -> Any:
    try:
        return call(url, 2)
    except (ConnectionLost, NotQueued):
        return None
