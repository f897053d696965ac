"""What redis-py does behind one's back, on a real Redis and on a scripted one."""

import asyncio
import contextlib
import gc
import os
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from inspect import iscoroutine
from pathlib import Path
from typing import Any

import pytest
from jobqueue import Client, Server, aio
from jobqueue.aio.link import Link as AioLink
from jobqueue.aio.stream import open_streams
from jobqueue.core.steps import Unreachable
from jobqueue.errors import ConnectionLost
from jobqueue.protocol.commands import ErrorReply
from jobqueue.threads.link import Link
from jobqueue.wire import pools
from redis import Redis

from tests.conftest import DEADLINE_S, RedisProcess, Running, least_acl, run_here

PING = [(b"PING",)]


class Half:
    """A connection of either half, with the same blocking methods."""

    def __init__(self, *, asynchronous: bool) -> None:
        self._runner = asyncio.Runner() if asynchronous else None
        self._connection: Any = None
        self._pool: Any = None

    def open(self, url: str) -> None:
        """Connect."""
        if self._runner:
            self._pool = pools.aio_pool_of(url)
            self._connection = self._call(AioLink.open(self._pool, 0.5))
        else:
            self._pool = pools.pool_of(url)
            self._connection = Link(self._pool)

    def drop(self) -> None:
        """Disconnect as another user of the pool may."""
        self._call(self._pool.disconnect())

    def forget(self) -> None:
        """Take it for closed, and have its loop close what is left."""
        self._connection = None
        self.end()
        self._runner = None

    def end(self) -> None:
        """Close it, and its loop."""
        if self._connection is not None:
            self.close()
        if self._runner:
            self._runner.run(asyncio.sleep(0))  # for transports to be closed
            self._runner.close()

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self._call(getattr(self._connection, name)(*arguments))

    def _call(self, returned: Any) -> Any:
        return self._runner.run(returned) if self._runner and iscoroutine(returned) else returned


@pytest.fixture(params=[False, True], ids=["threads", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Half]]:
    """Makes connections of one half, which are closed after the test."""
    halves: list[Half] = []

    def make(url: str) -> Half:
        halves.append(Half(asynchronous=request.param))
        halves[-1].open(url)
        return halves[-1]

    yield make
    for half in halves:
        half.end()


@pytest.fixture
def says() -> Iterator[Callable[[bytes], str]]:
    """Makes servers that answer each command with the same bytes, and hang up without any."""
    listeners: list[socket.socket] = []

    def make(reply: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while reply and (data := connection.recv(4096)):
                        connection.sendall(reply * data.count(b"*"))

        threading.Thread(target=serve, daemon=True).start()
        return f"redis://127.0.0.1:{listener.getsockname()[1]}"

    yield make
    for listener in listeners:
        listener.close()


def test_commands_are_answered_in_order(
    connect: Callable[[str], Half], redis: Redis, redis_url: str
) -> None:
    """One write, and as many replies; an error is a value, in EXEC's reply, too."""
    redis.set("text", "no list")
    connection = connect(redis_url)

    connection.send([*PING, (b"LPUSH", b"text", b"1"), (b"MULTI",), (b"LPUSH", b"text", b"1")])
    connection.send([(b"EXEC",)])

    pong, refused, began, queued, (executed,) = connection.receive(5)
    assert (pong, began, queued) == (b"PONG", b"OK", b"QUEUED")
    assert refused == executed
    assert isinstance(refused, ErrorReply)
    assert (refused.code, refused.text[:9]) == ("WRONGTYPE", "WRONGTYPE")


def test_redis_py_never_connects_again(connect: Callable[[str], Half], redis_url: str) -> None:
    """server.recovery.reconnect: a new connection is one that the server knows of."""
    connection = connect(redis_url)
    connection.send(PING)
    assert connection.receive(1) == [b"PONG"]

    connection.drop()

    for _ in range(2):
        with pytest.raises(ConnectionLost):
            connection.send(PING)


def test_an_unblocked_claim_is_a_refusal(
    connect: Callable[[str], Half], says: Callable[[bytes], str]
) -> None:
    """Section 8: redis-py takes what a failover says to a blocked client for a mere error."""
    connection = connect(says(b"-UNBLOCKED force unblock from blocking operation\r\n"))

    connection.send(PING)

    (refusal,) = connection.receive(1)
    assert refusal.code == "UNBLOCKED"


def test_a_push_message_is_no_reply(
    connect: Callable[[str], Half], redis: Redis, redis_url: str
) -> None:
    """A user's client may have RESP3, and what else it is told has nothing to do with the commands."""
    connection = connect(f"{redis_url}?protocol=3")
    connection.send([(b"CLIENT", b"TRACKING", b"ON", b"BCAST")])
    assert connection.receive(1) == [b"OK"]
    redis.set("text", "no list")  # of which the connection is told

    connection.send([*PING, (b"GET", b"text")])

    assert connection.receive(2) == [b"PONG", b"no list"]


def test_no_answer_is_a_lost_connection(
    connect: Callable[[str], Half],
    redis_process: RedisProcess,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """server.recovery.block: a dead peer is noticed, and redis-py doesn't try again."""
    monkeypatch.setattr(pools, "REPLY_SECONDS", 0.2)
    connection = connect(redis_url)

    with redis_process.frozen():
        connection.send(PING)
        with pytest.raises(ConnectionLost):
            connection.receive(1)


@pytest.mark.parametrize("how", ["abort", "close"])
def test_a_dead_connection_is_reset(connect: Callable[[str], Half], how: str) -> None:
    """server.connection.closes: Redis notices it, and drops the claim that waits there."""
    ends: list[BaseException | bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            try:
                while data := peer.recv(4096):
                    peer.sendall(b"+OK\r\n" * data.count(b"*"))
                ends.append(data)
            except OSError as error:
                ends.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    connection = connect(f"redis://127.0.0.1:{listener.getsockname()[1]}")
    connection.send(PING)
    assert connection.receive(1) == [b"OK"]

    getattr(connection, how)()
    connection.forget()

    thread.join(DEADLINE_S)
    listener.close()
    (end,) = ends
    assert isinstance(end, ConnectionResetError) if how == "abort" else end == b""


@pytest.mark.parametrize(
    "reply,error",
    [
        (b"", ConnectionLost),
        (b"-WRONGPASS invalid username-password pair\r\n", Unreachable),
        (b"-ERR max number of clients reached\r\n", ConnectionLost),
        (b"-LOADING Redis is loading the dataset in memory\r\n", ConnectionLost),
    ],
    ids=["hang-up", "password", "full", "loading"],
)
def test_a_handshake_that_fails(
    connect: Callable[[str], Half],
    says: Callable[[bytes], str],
    reply: bytes,
    error: type[ConnectionLost],
) -> None:
    """server.connection.survives: a connection lost on the way in is tried again, a refusal is reported."""
    url = says(reply).replace("//", "//user:hush@")

    with pytest.raises(ConnectionLost) as caught:
        connect(url)

    assert type(caught.value) is error
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("takeover", [True, False])
def test_the_least_acl_suffices(
    redis: Redis, redis_url: str, protocol: int, *, takeover: bool
) -> None:
    """client.security.least-acl, server.security.least-acl: with all that redis-py asks for, too."""
    least_acl(redis, "client", "server", *["attempts", "takeover"] * takeover)
    urls = [
        redis_url.replace("//", f"//jobqueue-{party}:secret@") + f"?protocol={protocol}"
        for party in ("client", "server")
    ]
    server = Server(urls[1], processor="least", block_timeout=0.2, takeover=takeover)
    server.on("echo", lambda parameters: parameters)
    running = Running(server)

    redis.lpush("job-queue", "junk")
    with Client(urls[0]) as client:
        assert client.run("echo", 1, timeout=DEADLINE_S).result() == 1
    running.stop()

    assert redis.lrange("job-queue:dead", 0, -1) == [b"junk"]


@pytest.mark.parametrize("make", [Server, aio.Server])
def test_takeover_tells_which_permission_it_needs(
    redis: Redis, redis_url: str, make: type[Any]
) -> None:
    """A user whose ACL was made for version 1.0 learns it at the start, and that there is a way out."""
    least_acl(redis, "server")
    url = redis_url.replace("//", "//jobqueue-server:secret@")

    for _ in range(2):  # the lock file knows an earlier life at the second start
        with pytest.raises(ConnectionLost, match=r"the 'set' command.*takeover=False"):
            run_here(make(url, processor="old"))
    redis.execute_command("ACL", "SETUSER", "jobqueue-server", "+set", "+get", "+pttl", "+pexpire")  # type: ignore[no-untyped-call]
    with pytest.raises(ConnectionLost, match="'hset' command"):
        run_here(make(url, processor="old"))

    assert not redis.exists("job-queue:processors")


def test_a_connection_whose_descriptor_is_closed_can_be_aborted(redis_url: str) -> None:
    """A handler may close all descriptors, and what the session does about it must not fail."""
    before = _sockets()
    link = Link(pools.pool_of(redis_url))
    for name in _sockets().keys() - before.keys():
        os.close(_sockets()[name])

    with pytest.raises(ConnectionLost):
        link.receive(1)
    link.abort()


def test_a_loop_that_ends_while_a_client_connects(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python discards the coroutine at its step, whichever it is, and nothing is left to tell of."""
    ignored: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    for steps in range(1, 40):
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # of the task that is destroyed, as meant here
        connecting = loop.create_task(open_streams(pools.aio_client_pools(redis_url, "job-queue")))
        for _ in range(steps):
            loop.call_soon(loop.stop)
            loop.run_forever()
        connected = connecting.done()
        if connected:
            for stream in connecting.result():
                loop.run_until_complete(stream.close())
        loop.close()
        with warnings.catch_warnings(action="ignore"):  # of what is left open
            del connecting
            gc.collect()
        assert [hook.exc_value for hook in ignored] == [], f"after {steps} steps"
        if connected:
            return
    pytest.fail("the client doesn't connect")


def _sockets() -> dict[str, int]:
    """The open sockets of this process: what the system calls each, and its descriptor."""
    sockets: dict[str, int] = {}
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            name = str(descriptor.readlink())
            if name.startswith("socket:"):
                sockets[name] = int(descriptor.name)
    return sockets
