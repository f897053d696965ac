"""A server that never blocks: it asks again every 20 ms.

It acts on one connection, by a script that Redis keeps (EVALSHA, and EVAL where Redis forgot it).
Without blocking claims T is 0, yet a claim can still be under way on a dead connection, so it
looks a second time after a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sys
import time
from threading import Event
from typing import Any

from redis import Connection, RedisError
from redis.connection import parse_url
from redis.exceptions import NoScriptError, ResponseError

SCRIPT = """
if ARGV[1] == '' then redis.call('LPUSH', KEYS[2], ARGV[3])
else redis.call('PUBLISH', ARGV[1], ARGV[2]) end
return redis.call('LREM', KEYS[1], 0, ARGV[3])
"""
SECOND_LOOK_S, LOOK_S, PATIENCE_S = 1.0, 5.0, 5.0
FORBIDDEN = re.compile("NOPERM|No permissions|can't publish")  # as worded to a script, by version
DIGEST = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class Dead(Exception):
    pass


class Polling:
    def __init__(self, environment: dict[str, str]) -> None:
        self.options = parse_url(environment["REDIS_URL"])
        self.queue = environment["JOBQUEUE_QUEUE"]
        self.list = environment.get("JOBQUEUE_IN_PROCESS")
        if self.list is None:
            self.list = f"{self.queue}:in-process:{environment['JOBQUEUE_PROCESSOR']}"
        self.stop = Event()
        self.was_connected = False
        self.failing_since: float | None = None

    def run(self) -> None:
        while not (self.stop.is_set() and not self.was_connected):
            self.redis = Connection(**self.options, protocol=2, socket_timeout=15)
            try:
                self.redis.connect()
                self.serve(reconnected=self.was_connected)
            except (RedisError, OSError) as lost:
                print("lost", lost)
                self.redis.disconnect()
                self.failing_since = self.failing_since or time.monotonic()
                if self.stop.is_set() and time.monotonic() - self.failing_since > PATIENCE_S:
                    sys.exit(1)
                time.sleep(0.05)
            else:
                break

    def serve(self, *, reconnected: bool) -> None:
        self.was_connected = True
        look_at = time.monotonic() + SECOND_LOOK_S
        self.look()
        looked_again = False
        while not self.stop.is_set() or (reconnected and not looked_again):
            if time.monotonic() > look_at:
                self.look()
                looked_again = True
                look_at = time.monotonic() + LOOK_S
            if self.stop.is_set():
                time.sleep(0.02)
            elif (raw := self.ask("LMOVE", self.queue, self.list, "RIGHT", "LEFT")) is not None:
                self.work_off(raw)
            else:
                self.stop.wait(0.02)

    def ask(self, *command: Any) -> Any:
        self.redis.send_command(*command)
        reply = self.redis.read_response()
        self.failing_since = None
        return reply

    def look(self) -> None:
        while entries := self.ask("LRANGE", self.list, -1, -1):
            self.work_off(entries[0])

    def work_off(self, raw: bytes) -> None:
        try:
            channel, result = self.answer(raw)
            self.finish(channel, result, raw)
        except Dead:
            self.finish(b"", b"", raw)
        except ResponseError as refusal:
            if not FORBIDDEN.search(str(refusal)):
                raise
            self.finish(b"", b"", raw)

    def finish(self, channel: bytes, result: bytes, raw: bytes) -> None:
        arguments = 2, self.list, f"{self.queue}:dead", channel, result, raw
        try:
            self.ask("EVALSHA", DIGEST, *arguments)
        except NoScriptError:
            self.ask("EVAL", SCRIPT, *arguments)

    def answer(self, raw: bytes) -> tuple[bytes, bytes]:
        try:
            job = json.loads(raw.decode())
            channel, name = job["channel"], job["id"]
            if not (isinstance(channel, str) and isinstance(name, str) and channel and name):
                raise Dead
            outcome = self.outcome(job)
            text = json.dumps(outcome | {"id": name}, allow_nan=False, ensure_ascii=False)
            return channel.encode(), text.encode()
        except (ValueError, TypeError, LookupError, RecursionError) as problem:
            raise Dead from problem

    def outcome(self, job: dict[str, Any]) -> dict[str, Any]:
        method: Any = job.get("method")
        parameters: Any = job.get("parameters")
        try:
            if not isinstance(method, str) or not method:
                return error("invalid-job", "no method")
            if method == "fail":
                return error("handler-error", str(parameters["message"]))
            if method == "wait":
                time.sleep(parameters["ms"] * 0.001)
            elif method != "echo":
                return error("method-not-found", f"no {method}")
        except Exception as problem:
            return error("handler-error", repr(problem))
        return {"result": parameters}


def error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


if __name__ == "__main__":
    server = Polling(dict(os.environ))
    signal.signal(signal.SIGTERM, lambda *_: server.stop.set())
    server.run()
