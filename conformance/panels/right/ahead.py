"""A server that claims ahead: while a handler runs, the next job is on its list and in its memory already.

A thread claims and looks on one connection, the main thread runs and answers on another one. A life ends when
either is lost; what a life hasn't removed is found on the list by the next one.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections import Counter
from typing import Any

from redis.connection import Connection, parse_url
from redis.exceptions import NoPermissionError, RedisError

ENV = os.environ
QUEUE = ENV["JOBQUEUE_QUEUE"]
LIST = ENV.get("JOBQUEUE_IN_PROCESS") or f"{QUEUE}:in-process:{ENV['JOBQUEUE_PROCESSOR']}"
T_S = min(int(ENV.get("JOBQUEUE_BLOCK_MS", "2000")), 5000) / 1000
AHEAD = 1
stopping = threading.Event()


def handle(job: dict[str, Any]) -> dict[str, Any]:
    method: Any = job.get("method")
    parameters: Any = job.get("parameters")
    if not isinstance(method, str) or not method:
        return {"error": {"code": "invalid-job", "message": "no method"}}
    try:
        if method == "wait":
            time.sleep(parameters["ms"] / 1000)
        if method in {"echo", "wait"}:
            return {"result": parameters}
        if method == "fail":
            raise ValueError(parameters["message"])
    except Exception as failure:
        return {"error": {"code": "handler-error", "message": str(failure)}}
    return {"error": {"code": "method-not-found", "message": f"no handler for {method}"}}


def read(raw: bytes) -> tuple[str, bytes] | None:
    """The channel and the result of a message, or None for a dead one."""
    try:
        job = json.loads(raw.decode())
        names = [job["channel"], job["id"]]
        if not all(isinstance(name, str) and name for name in names):
            return None
        result = {"id": job["id"], **handle(job)}
        names[0].encode()
        return job["channel"], json.dumps(result, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def call(connection: Connection, *command: Any) -> Any:
    connection.send_command(*command)
    return connection.read_response()


class Life:
    """From a connect to a loss, or to the end."""

    def __init__(self, *, again: bool) -> None:
        self.again = again
        self.claims, self.answers = connect(), connect()
        self.jobs: queue.Queue[bytes | None] = queue.Queue()
        self.room = threading.Semaphore(1 + AHEAD)
        self.held: Counter[bytes] = Counter()
        self.lock = threading.Lock()
        self.problem: Exception | None = None
        self.over = False
        self.claimer = threading.Thread(target=self.claim_all)

    def serve(self) -> None:
        self.claimer.start()
        try:
            for raw in iter(self.jobs.get, None):
                self.process(raw)
        finally:
            self.end()
        if self.problem is not None:
            raise self.problem

    def process(self, raw: bytes) -> None:
        answer = read(raw)
        with self.lock:  # no look finds an entry that is being removed
            try:
                if answer is not None:
                    call(self.answers, "PUBLISH", *answer)
            except NoPermissionError:
                answer = None
            if answer is None:
                call(self.answers, "LPUSH", f"{QUEUE}:dead", raw)
            call(self.answers, "LREM", LIST, -1, raw)
            self.held[raw] -= 1
        self.room.release()

    def claim_all(self) -> None:
        try:
            self.claim_until_stopped()
        except (RedisError, OSError) as problem:
            self.problem = problem
        self.jobs.put(None)

    def claim_until_stopped(self) -> None:
        looks_at = [0.0, time.monotonic() + T_S]
        while True:
            if looks_at and looks_at[0] <= time.monotonic():
                looks_at.pop(0)
                self.look()
            elif stopping.is_set():
                if not (self.again and looks_at):
                    return
                time.sleep(max(0.0, looks_at[0] - time.monotonic()))
            else:
                self.wait_for_room()
                raw = None if stopping.is_set() else self.claim()
                if raw is None:
                    self.room.release()
                else:
                    self.take(raw)

    def wait_for_room(self) -> None:
        while not self.room.acquire(timeout=0.05):
            if self.over:
                raise ConnectionError("the connection for answers is lost")

    def claim(self) -> bytes | None:
        raw: bytes | None = call(self.claims, "BLMOVE", QUEUE, LIST, "RIGHT", "LEFT", T_S)
        return raw

    def look(self) -> None:
        with self.lock:
            held = self.held.copy()
            entries = call(self.claims, "LRANGE", LIST, 0, -1)
        for raw in reversed(entries):
            held[raw] -= 1
            if held[raw] < 0:
                self.wait_for_room()
                self.take(raw)
        for _ in range(AHEAD):  # each of them is started before the next claim is sent
            self.wait_for_room()
        self.room.release(AHEAD)

    def take(self, raw: bytes) -> None:
        with self.lock:
            self.held[raw] += 1
        self.jobs.put(raw)

    def end(self) -> None:
        self.over = (
            True  # the outstanding claim ends by itself; what it takes is found by the next life
        )
        self.claimer.join()
        self.claims.disconnect()
        self.answers.disconnect()


def connect() -> Connection:
    options: dict[str, Any] = dict(parse_url(ENV["REDIS_URL"]))
    connection = Connection(**options, protocol=2, socket_timeout=T_S + 10)
    connection.connect()
    return connection


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    connected, pause_s = False, 0.01
    while True:
        try:
            life = Life(again=connected)
            connected, pause_s = True, 0.01
            return life.serve()
        except (RedisError, OSError) as lost:
            print(f"lost: {lost}", file=sys.stderr)
            if stopping.is_set() and not connected:
                return None
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)


if __name__ == "__main__":
    main()
