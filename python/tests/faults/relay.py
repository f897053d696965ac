"""A TCP relay between a client and Redis: a real network that can be held, cut or led elsewhere."""

from __future__ import annotations

import contextlib
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.conftest import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(eq=False)
class Line:
    """One connection through the relay."""

    client: socket.socket
    redis: socket.socket
    ended: threading.Event = field(default_factory=threading.Event)  # by the client
    subscribed: bool = False


class Relay:
    """Relays each connection to the target that is set when the connection is made.

    Args:
        target: The port of Redis, on this host.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.accepted = 0  # connections so far
        self.received = 0  # bytes of clients so far
        self.answers: dict[bytes, bytes] = {}  # to what holds the key, in place of Redis
        self._passes = threading.Event()
        self._passes.set()
        self._lines: set[Line] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connections(self) -> int:
        """How many connections the client has open."""
        return len(self._lines)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nothing pass, in either direction, inside the `with` block."""
        self._passes.clear()
        try:
            yield
        finally:
            self._passes.set()

    def lose(self, *, subscribed: tuple[bool, ...] = (True, False)) -> None:
        """Close connections towards the client, of subscribers or others, and wait for its end."""
        lines = [line for line in list(self._lines) if line.subscribed in subscribed]
        assert lines, "expected a connection to lose"
        for line in lines:
            with contextlib.suppress(OSError):
                line.client.shutdown(socket.SHUT_WR)
        for line in lines:
            assert line.ended.wait(DEADLINE_S), "expected the client to notice that it is cut off"

    def close(self) -> None:
        """Cut all connections, and refuse new ones."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._passes.set()
        for line in list(self._lines):
            with contextlib.suppress(OSError):
                line.client.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                line = Line(client, socket.create_connection(("127.0.0.1", self.target)))
                self._lines.add(line)
                self.accepted += 1
                threading.Thread(target=self._to_redis, args=(line,), daemon=True).start()
                threading.Thread(target=self._to_client, args=(line,), daemon=True).start()

    def _to_redis(self, line: Line) -> None:
        """Carry on until the client has closed."""
        with contextlib.suppress(OSError):
            while data := line.client.recv(65536):
                self.received += len(data)
                line.subscribed |= b"SUBSCRIBE" in data
                self._passes.wait()
                answers = [answer for key, answer in self.answers.items() if key in data]
                if answers:
                    line.client.sendall(answers[0])
                else:
                    with contextlib.suppress(OSError):  # Redis may have closed; the client hasn't
                        line.redis.sendall(data)
        self._lines.discard(line)
        line.ended.set()
        with contextlib.suppress(OSError):
            line.redis.shutdown(socket.SHUT_RDWR)
        line.client.close()

    def _to_client(self, line: Line) -> None:
        """Carry on until Redis has closed."""
        with contextlib.suppress(OSError):
            while data := line.redis.recv(65536):
                self._passes.wait()
                line.client.sendall(data)
        with contextlib.suppress(OSError):
            line.client.shutdown(socket.SHUT_WR)
        line.redis.close()
