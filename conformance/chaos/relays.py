"""Relays: each program connects to Redis through a port of its own, which can refuse it and sees what it sends.

A refusal is a real one: the port isn't open. One thread relays the bytes of all.
"""

import asyncio
import re
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from jobqueue_conformance.proxy.resp import InvalidFrame, Splitter, arguments

HOST = "127.0.0.1"
MOVES = frozenset(
    {b"LREM", b"LPUSH", b"RPUSH"}
)  # carry a job; whatever else does carries its result
NUMBER = re.compile(rb"storm\W{1,6}(\d+)")


class Relay:
    """The port of one program, its connections, and the jobs whose results went through it."""

    def __init__(self, name: str, relays: "Relays") -> None:
        self.name = name
        self.port = 0
        self.connected = threading.Event()
        self.refused = False  # whether the program may have been refused before it first connected
        self.connects: list[float] = []  # when, by the monotonic clock, it reached Redis
        self.sent: set[int] = set()
        self.upstream: list[int] = []  # the local ports by which Redis knows its connections
        self._relays = relays
        self._closed_for: set[str] = set()
        self._listener: asyncio.Server | None = None
        self._pairs: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """How the program finds Redis."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def accepts(self) -> bool:
        """Whether nothing keeps it closed."""
        return not self._closed_for

    def expect(self) -> None:
        """The program starts now."""
        self.connected.clear()
        self.refused = not self.accepts

    def close(self, reason: str) -> None:
        """Close every connection, and refuse new ones until every reason is withdrawn."""
        self._relays.do(self._close(reason))

    def open(self, reason: str) -> None:
        """This reason has passed."""
        self._relays.do(self._open(reason))

    async def listen(self) -> None:
        """Let connections in."""
        self._listener = await asyncio.start_server(self._serve, HOST, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self, reason: str) -> None:
        self._closed_for.add(reason)
        self.refused |= not self.connected.is_set()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for writer in self._pairs:
            writer.transport.abort()

    async def _open(self, reason: str) -> None:
        self._closed_for.discard(reason)
        if self.accepts and self._listener is None:
            await self.listen()

    async def _serve(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        self.connected.set()
        try:
            far, to_far = await asyncio.open_connection(HOST, self._relays.redis_port)
        except OSError:
            to_near.transport.abort()
            return
        self.connects.append(time.monotonic())
        port = to_far.get_extra_info("sockname")[1]
        self.upstream.append(port)
        self._pairs |= {to_near, to_far}
        ways = [
            asyncio.ensure_future(self._carry(near, to_far, Splitter(inline=True))),
            asyncio.ensure_future(self._carry(far, to_near, None)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for writer in (to_near, to_far):
                writer.transport.abort()
            await asyncio.gather(*ways)
            self.upstream.remove(port)
            self._pairs -= {to_near, to_far}

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, splitter: Splitter | None
    ) -> None:
        with suppress(OSError):
            while received := await reader.read(65536):
                if splitter is not None:
                    self._look(splitter, received)
                writer.write(received)
                await writer.drain()

    def _look(self, splitter: Splitter, received: bytes) -> None:
        """Note the results among what is sent, before Redis can have them."""
        splitter.feed(received)
        with suppress(InvalidFrame):  # Redis answers it with an error
            while (frame := splitter.next()) is not None:
                command = arguments(frame)
                if command and command[0] not in MOVES:
                    self.sent.update(
                        int(number) for part in command[1:] for number in NUMBER.findall(part)
                    )


class Relays:
    """All relays, and the thread that runs them."""

    def __init__(self, redis_port: int) -> None:
        self.redis_port = redis_port
        self.all: list[Relay] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays", daemon=True)
        self._thread.start()

    def make(self, name: str) -> Relay:
        """A relay that accepts connections."""
        relay = Relay(name, self)
        self.do(relay.listen())
        self.all.append(relay)
        return relay

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Have it done by the thread, and wait until it is."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def end(self) -> None:
        """Close all of them, and end the thread."""
        for relay in self.all:
            relay.close("the end")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
