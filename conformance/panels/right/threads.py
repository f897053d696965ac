"""A server of several threads, each of which does everything on a connection of its own.

All share one in-process list. A thread that reads it first makes sure that no claim is
outstanding: claims pass a gate, and a look closes it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import hiredis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENV = os.environ
QUEUE = ENV["JOBQUEUE_QUEUE"]
LIST = ENV.get("JOBQUEUE_IN_PROCESS") or f"{QUEUE}:in-process:{ENV['JOBQUEUE_PROCESSOR']}"
THREADS = int(ENV.get("JOBQUEUE_CONCURRENCY", "1"))
T_S = min(int(ENV.get("JOBQUEUE_BLOCK_MS", "400")), 400) / 1000
LOOK_S = PATIENCE_S = 5.0
SCRIPT = "redis.call('PUBLISH', ARGV[1], ARGV[2]) return redis.call('LREM', KEYS[1], -1, ARGV[3])"


class Gate:
    """Lets any number of claims in, or one look."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.claims = 0
        self.looking = False

    @contextmanager
    def claim(self) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: not self.looking)
            self.claims += 1
        try:
            yield
        finally:
            with self.changed:
                self.claims -= 1
                self.changed.notify_all()

    @contextmanager
    def look(self) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: not self.looking)
            self.looking = True
            self.changed.wait_for(lambda: self.claims == 0)
        try:
            yield
        finally:
            with self.changed:
                self.looking = False
                self.changed.notify_all()


class Redis:
    def __init__(self) -> None:
        url = urlparse(ENV["REDIS_URL"])
        self.socket = socket.create_connection((url.hostname or "", url.port or 6379), 15)
        self.reader = hiredis.Reader(replyError=RuntimeError)
        if url.password:
            self.run("AUTH", *filter(None, [unquote(url.username or "")]), unquote(url.password))
        self.run("SELECT", url.path[1:] or "0")

    def run(self, *command: str | bytes | float) -> Any:
        self.socket.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
        while (reply := self.reader.gets()) is False:
            self.reader.feed(self.socket.recv(65536) or self.hang_up())
        if isinstance(reply, RuntimeError):
            raise reply
        return reply

    def hang_up(self) -> bytes:
        raise ConnectionError("Redis closed the connection")


class Server:
    def __init__(self) -> None:
        self.gate = Gate()
        self.lock = threading.Lock()
        self.mine: Counter[bytes] = Counter()
        self.found: list[bytes] = []
        self.look_soon()
        self.failures: list[float] = []  # of all threads, since the last look
        self.stopping = threading.Event()
        self.lost = threading.Event()
        self.connected = threading.Event()

    def thread(self) -> None:
        while True:
            try:
                redis = Redis()
                self.connected.set()
                self.serve(redis)
                return
            except (OSError, RuntimeError) as problem:
                print(problem, file=sys.stderr)
                if self.stopping.is_set() and not self.connected.is_set():
                    return
                self.failures.append(time.monotonic())
                if self.stopping.is_set() and self.failures[-1] - self.failures[0] > PATIENCE_S:
                    os._exit(1)
                with self.lock:
                    self.look_soon()
                self.lost.set()
                time.sleep(0.05)

    def look_soon(self) -> None:
        """Twice, and then now and then."""
        self.look_at, self.looks = time.monotonic(), 0
        self.second_look_at = self.look_at + T_S

    def serve(self, redis: Redis) -> None:
        while True:
            with self.lock:
                raw = self.found.pop(0) if self.found else None
            if raw is not None:
                self.process(redis, raw)
            elif self.look_is_due():
                self.look(redis)
            elif not self.stopping.is_set():
                with self.gate.claim():
                    if self.found or self.look_is_due() or self.stopping.is_set():
                        continue
                    raw = redis.run("BLMOVE", QUEUE, LIST, "RIGHT", "LEFT", T_S)
                    if raw is not None:
                        with self.lock:
                            self.mine[raw] += 1
                if raw is not None:
                    self.process(redis, raw)
            elif self.lost.is_set() and self.looks < 2:
                time.sleep(0.01)
            else:
                return

    def look_is_due(self) -> bool:
        with self.lock:
            return self.look_at <= time.monotonic()

    def look(self, redis: Redis) -> None:
        with self.gate.look():
            if not self.look_is_due():
                return
            with self.lock:
                mine = self.mine.copy()
            entries = redis.run("LRANGE", LIST, 0, -1)
            self.failures.clear()
            with self.lock:
                self.looks += 1
                self.look_at = self.second_look_at if self.looks == 1 else time.monotonic() + LOOK_S
                for raw in reversed(entries):
                    mine[raw] -= 1
                    if mine[raw] < 0:
                        self.mine[raw] += 1
                        self.found.append(raw)

    def process(self, redis: Redis, raw: bytes) -> None:
        try:
            answer = understand(raw)
            if answer is not None and self.publish(redis, raw, *answer):
                return
            redis.run("LPUSH", f"{QUEUE}:dead", raw)
            redis.run("LREM", LIST, 1, raw)
        finally:
            with self.lock:  # an entry that isn't gone by now is found by the next look
                self.mine[raw] -= 1

    def publish(self, redis: Redis, raw: bytes, channel: str, result: str) -> bool:
        try:
            redis.run("EVAL", SCRIPT, 1, LIST, channel, result, raw)
        except RuntimeError as refusal:
            if "can't publish" in str(refusal) or "NOPERM" in str(refusal):
                return False
            raise
        return True


def understand(raw: bytes) -> tuple[str, str] | None:
    try:
        job = json.loads(raw.decode())
        if not isinstance(job, dict) or not named(job, "channel") or not named(job, "id"):
            return None
        text = json.dumps({"id": job["id"]} | outcome(job), ensure_ascii=False, allow_nan=False)
        return job["channel"].encode().decode(), text.encode().decode()
    except (ValueError, RecursionError):
        return None


def named(job: dict[str, Any], member: str) -> bool:
    return isinstance(job.get(member), str) and job[member] != ""


def outcome(job: dict[str, Any]) -> dict[str, Any]:
    if not named(job, "method"):
        return {"error": {"code": "invalid-job", "message": "no method"}}
    handler = HANDLERS.get(job["method"])
    if handler is None:
        return {"error": {"code": "method-not-found", "message": "no such method"}}
    try:
        return {"result": handler(job.get("parameters"))}
    except Exception as problem:
        return {"error": {"code": "handler-error", "message": f"{problem}"}}


def wait(parameters: Any) -> Any:
    time.sleep(parameters["ms"] / 1000)
    return parameters


def fail(parameters: Any) -> Any:
    raise OSError(parameters["message"])


HANDLERS: dict[str, Callable[[Any], Any]] = {"echo": lambda p: p, "wait": wait, "fail": fail}


if __name__ == "__main__":
    server = Server()
    signal.signal(signal.SIGTERM, lambda *_: server.stopping.set())
    threads = [threading.Thread(target=server.thread) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
