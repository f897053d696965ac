"""Receives everything that is published, straight from the real Redis.

`fence` proves that all that was published before has been received, so a test can look at once for a
result that must not come.
"""

import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass

import hiredis

from jobqueue_conformance.proxy import resp
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.redis_servers.base import RedisServer


@dataclass(frozen=True)
class Message:
    """What was published, where, and when it was received."""

    channel: str
    data: bytes
    at_s: float = 0.0


class Observer:
    """A subscription to every channel, with a thread that listens."""

    def __init__(self, server: RedisServer, notifier: Notifier) -> None:
        self.messages: list[Message] = []
        self._server = server
        self._notifier = notifier
        self._fence_channel = f"fence-{uuid.uuid4()}"
        self._fences: set[bytes] = set()
        # A separate one: a wait that sets a fence must not wake itself.
        self._fence_notifier = Notifier()
        self._thread: threading.Thread | None = None
        self.subscribe()

    def subscribe(self) -> None:
        """Subscribe, or subscribe again after a restart of Redis; once it returns, no message is missed."""
        if self._thread is not None:
            self.close()
        self._admin = self._server.connect()
        self._socket = socket.create_connection((self._server.host, self._server.port))
        self._reader = hiredis.Reader()
        if self._server.password is not None:
            user = self._server.username or "default"
            self._ask("AUTH", user, self._server.password)
        self._ask("PSUBSCRIBE", "*")
        self._thread = threading.Thread(
            target=self._listen, args=(self._socket,), name="observer", daemon=True
        )
        self._thread.start()

    def fence(self) -> None:
        """Return when everything published until now has been received."""
        token = uuid.uuid4().bytes
        self._admin.publish(self._fence_channel, token)
        self._fence_notifier.wait(
            lambda: token in self._fences, "the suite's own marker", self._notifier.deadline_s
        )

    def close(self) -> None:
        """Stop listening."""
        self._admin.close()
        with suppress(OSError):  # where Redis closed it first
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        if self._thread is not None:
            self._thread.join()

    def _ask(self, *command: str) -> None:
        self._socket.sendall(resp.command(*command))
        self._read(self._socket)

    def _listen(self, connected: socket.socket) -> None:
        with connected:
            while (heard := self._read(connected)) is not None:
                _, _, channel, data = heard
                if channel == self._fence_channel.encode():
                    self._fences.add(data)
                    self._fence_notifier.notify()
                else:
                    name = channel.decode(errors="surrogateescape")
                    self.messages.append(Message(name, data, time.monotonic()))
                    self._notifier.notify()

    def _read(self, connected: socket.socket) -> list[bytes] | None:
        """The next frame; None when the connection has ended."""
        while (frame := self._reader.gets()) is False:
            try:
                received = connected.recv(1 << 18)
            except OSError:
                return None
            if not received:
                return None
            self._reader.feed(received)
        read: list[bytes] = frame
        return read
