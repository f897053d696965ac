"""One blocking connection to Redis, over a bare socket.

Shared by the base server and the base client, and correct: no mutant changes it. An error that
Redis answers is raised as `ReplyError`; a connection that is gone or silent is an `OSError`.
Nothing is ever sent twice. (redis-py would do as well, but takes five times as long to import, and
the kill matrix starts thousands of processes.)
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis


class ReplyError(Exception):
    """Redis answered with an error."""


class Connection:
    """A connection that speaks RESP2; `receive` serves event loops, `call` everybody else."""

    def __init__(self, url: str, silence_s: float) -> None:
        parts = urlsplit(url)
        address = (parts.hostname or "localhost", parts.port or 6379)
        self.socket = socket.create_connection(address, timeout=silence_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._reader = hiredis.Reader()
        self._replies: deque[Any] = deque()
        try:
            if parts.password is not None:
                names = [unquote(parts.username)] if parts.username else []
                self.call("AUTH", *names, unquote(parts.password))
            if parts.path.strip("/0"):
                self.call("SELECT", parts.path.strip("/"))
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()

    def send(self, *command: str | bytes | int) -> None:
        packed = hiredis.pack_command(command)  # type: ignore[arg-type] # typed as a tuple of one
        self.socket.sendall(packed)

    def receive(self) -> list[Any]:
        """Reads once and returns the replies that are complete; errors are among them."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError("Redis closed the connection")
        self._reader.feed(data)
        replies = []
        while (reply := self._reader.gets()) is not False:
            replies.append(reply)
        return replies

    def read(self) -> Any:
        while not self._replies:
            self._replies.extend(self.receive())
        reply = self._replies.popleft()
        if isinstance(reply, hiredis.ReplyError):
            raise ReplyError(str(reply))
        return reply

    def call(self, *command: str | bytes | int) -> Any:
        self.send(*command)
        return self.read()
