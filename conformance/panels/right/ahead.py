"""A server that claims ahead: while a handler runs, the next job is on its list and in its memory already.

A thread claims and looks on one connection, the main thread runs and answers on another one. A life ends when
either is lost; what a life hasn't removed is found on the list by the next one. What a message means, and its answer,
are those of the server that waits for every reply.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections import Counter
from typing import Any

from blmove import LIST, LOOK_S, QUEUE, T_S, call, fail, forbids_channel, read
from redis.connection import Connection, parse_url
from redis.exceptions import NoPermissionError, RedisError

AHEAD = 1
stopping = threading.Event()


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
        answer = read(self.answers, raw)
        with self.lock:  # no look finds an entry that is being removed
            try:
                if answer is not None:
                    call(self.answers, "PUBLISH", answer.channel, answer.result)
            except NoPermissionError as refusal:
                if not forbids_channel(refusal):
                    raise
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
        second_look_at = time.monotonic() + T_S
        look_at, looks = 0.0, 0
        while True:
            if look_at <= time.monotonic():
                self.look()
                looks += 1
                look_at = second_look_at if looks == 1 else time.monotonic() + LOOK_S
            elif stopping.is_set():
                if not self.again or looks > 1:
                    return
                time.sleep(max(0.0, look_at - time.monotonic()))
            else:
                self.wait_for_room()
                raw = None if stopping.is_set() else self.claim()
                if raw is None:
                    self.room.release()
                else:
                    self.take(raw)

    def wait_for_room(self) -> None:
        while not self.over:
            if self.room.acquire(timeout=0.05):
                return
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
    options: dict[str, Any] = dict(parse_url(os.environ["REDIS_URL"]))
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
            if stopping.is_set() and not connected:
                return None
            fail(lost, to_stop=stopping.is_set())
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)


if __name__ == "__main__":
    main()
