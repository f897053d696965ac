"""The limit: the reference's own commands over a bare socket, with nothing around them.

No reconnect, no recovery, no stop, no error handling: what a server in Python could reach if all of that cost nothing.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import hiredis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUEUE = b"job-queue"
CHANNEL = "job-queue:results:raw"
pack: Callable[[Any], bytes] = hiredis.pack_command  # it is annotated for one argument only
BEGIN, COMMIT = pack((b"MULTI",)), pack((b"EXEC",))


class Wire:
    """A socket to Redis: bytes out, replies in."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port or 6379))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def send(self, packed: bytes) -> None:
        """Send commands in one write."""
        self._socket.sendall(packed)

    def reply(self) -> Any:
        """The next reply."""
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(65536))
        return reply


def version() -> str:
    return f"hiredis {hiredis.__version__}"


def acknowledgement(in_process: bytes, channel: bytes, result: bytes, message: bytes) -> bytes:
    """Publish and remove in one transaction, as the reference does."""
    return BEGIN + unsafe_acknowledgement(in_process, channel, result, message) + COMMIT


def unsafe_acknowledgement(
    in_process: bytes, channel: bytes, result: bytes, message: bytes
) -> bytes:
    """Publish and remove in a plain pipeline, which loses a result that Redis refuses to publish."""
    return pack((b"PUBLISH", channel, result)) + pack((b"LREM", in_process, b"-1", message))


def drain(url: str, tally: Any, options: Any, acknowledge: Any, replies_each: int) -> None:
    """Serve: with each write acknowledge what is finished and claim up to `prefetch` jobs."""
    threads = [
        threading.Thread(
            target=_drain,
            args=(url, tally, f"{options.processor}-{number}", options.prefetch),
            kwargs={"acknowledge": acknowledge, "replies_each": replies_each},
        )
        for number in range(1, options.servers)
    ]
    for thread in threads:
        thread.start()
    _drain(
        url,
        tally,
        options.processor,
        options.prefetch,
        acknowledge=acknowledge,
        replies_each=replies_each,
    )


def _drain(
    url: str, tally: Any, processor: str, prefetch: int, *, acknowledge: Any, replies_each: int
) -> None:
    in_process = b"%b:in-process:%b" % (QUEUE, processor.encode())
    move = (QUEUE, in_process, b"RIGHT", b"LEFT")
    claims = pack((b"BLMOVE", *move, b"2")) + pack((b"LMOVE", *move)) * (prefetch - 1)
    wire = Wire(url)
    messages: list[bytes] = []
    while True:
        written = []
        for message in messages:
            job = json.loads(message)
            tally.hit()
            result = json.dumps({"id": job["id"], "result": job["parameters"]}).encode()
            written.append(acknowledge(in_process, job["channel"].encode(), result, message))
        wire.send(b"".join(written) + claims)
        for _ in range(len(messages) * replies_each):
            wire.reply()
        messages = [message for message in (wire.reply() for _ in range(prefetch)) if message]


def serve(url: str, tally: Any, options: Any) -> None:
    drain(url, tally, options, acknowledgement, 4)


def _job(number: int, parameters: Any) -> bytes:
    return json.dumps(
        {"method": "echo", "parameters": parameters, "channel": CHANNEL, "id": str(number)}
    ).encode()


def push(url: str, options: Any, payload: str) -> float:
    wire = Wire(url)
    started = time.perf_counter()
    for number in range(options.count):
        wire.send(pack((b"LPUSH", QUEUE, _job(number, payload))))
        wire.reply()
    return time.perf_counter() - started


def push_many(url: str, options: Any, payload: str) -> float:
    wire = Wire(url)
    started = time.perf_counter()
    for begin in range(0, options.count, 1000):
        jobs = [_job(number, payload) for number in range(begin, min(begin + 1000, options.count))]
        wire.send(pack((b"LPUSH", QUEUE, *jobs)))
        wire.reply()
    return time.perf_counter() - started


@contextlib.contextmanager
def call(url: str) -> Iterator[Any]:
    results, pushes = Wire(url), Wire(url)
    results.send(pack((b"SUBSCRIBE", CHANNEL)))
    results.reply()
    numbers = iter(range(10**9))

    def run(parameters: Any) -> Any:
        pushes.send(pack((b"LPUSH", QUEUE, _job(next(numbers), parameters))))
        pushes.reply()
        return json.loads(results.reply()[2])["result"]

    yield run
