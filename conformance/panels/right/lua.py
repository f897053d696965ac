"""A server that publishes, removes and claims the next job in one Lua script, over a bare socket.

A script that is refused on its first command has removed nothing. The bytes of a job reach the
script as arguments only. What a script claimed whose reply is lost, is recovered.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from typing import Any
from urllib.parse import unquote, urlparse

from hiredis import Reader, ReplyError, pack_command

QUEUE = os.environ["JOBQUEUE_QUEUE"]
LIST = os.environ.get(
    "JOBQUEUE_IN_PROCESS", f"{QUEUE}:in-process:{os.environ['JOBQUEUE_PROCESSOR']}"
)
PREFIX = os.environ.get("JOBQUEUE_CHANNEL_PREFIX", "")
T = min(float(os.environ.get("JOBQUEUE_BLOCK_MS", "1500")), 5000) / 1000
LOOKS_EVERY_S = 5.0
GIVES_UP_AFTER_S = 5.0  # once it is to stop
FINISH = """
redis.call('PUBLISH', ARGV[1], ARGV[2])
redis.call('LREM', KEYS[1], -1, ARGV[3])
return ARGV[4] == 'claim' and redis.call('LMOVE', KEYS[2], KEYS[1], 'RIGHT', 'LEFT')
"""
BURY = "redis.call('LPUSH', KEYS[2], ARGV[1]) return redis.call('LREM', KEYS[1], -1, ARGV[1])"


class Redis:
    def __init__(self) -> None:
        url = urlparse(os.environ["REDIS_URL"])
        self.socket = socket.create_connection((url.hostname or "", url.port or 6379), T + 10)
        self.reader = Reader()
        if url.password:
            self("AUTH", unquote(url.username or "default"), unquote(url.password))
        if url.path.strip("/"):
            self("SELECT", url.path.strip("/"))

    def __call__(self, *command: Any) -> Any:
        self.socket.sendall(pack_command(command))
        while (reply := self.reader.gets()) is False:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("end of file")
            self.reader.feed(data)
        if isinstance(reply, ReplyError):
            raise reply
        return reply


class Server:
    stopping = False
    lives = 0
    look_at = 0.0
    failing_since: float | None = None

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self.stop)
        while True:
            try:
                self.live(Redis())
                break
            except (OSError, ReplyError) as lost:
                print(lost, file=sys.stderr)
                if self.stopping and not self.lives:
                    break
                self.failing_since = self.failing_since or time.monotonic()
                if self.stopping and time.monotonic() - self.failing_since > GIVES_UP_AFTER_S:
                    sys.exit(1)
                time.sleep(0.05)

    def stop(self, *_: object) -> None:
        self.stopping = True

    def live(self, redis: Redis) -> None:
        self.lives += 1
        self.look_at = time.monotonic() + T
        self.recover(redis)
        looked_again = False
        while not self.stopping:
            if time.monotonic() > self.look_at:
                self.look_at = time.monotonic() + LOOKS_EVERY_S
                self.recover(redis)
                looked_again = True
                continue
            raw = redis("BLMOVE", QUEUE, LIST, "RIGHT", "LEFT", str(T))
            while raw is not None:
                raw = self.process(redis, raw, claims=True)
        if self.lives > 1 and not looked_again:
            time.sleep(max(0, self.look_at - time.monotonic()))
            self.recover(redis)

    def recover(self, redis: Redis) -> None:
        entries = redis("LRANGE", LIST, 0, -1)
        self.failing_since = None
        for raw in entries[::-1]:
            self.process(redis, raw, claims=False)

    def process(self, redis: Redis, raw: bytes, *, claims: bool) -> bytes | None:
        """Runs a job, and gives the next one where the same script could claim it."""
        try:
            job = json.loads(str(raw, "utf-8"))
            alive = isinstance(job, dict) and job.get("channel") and job.get("id")
            channel, name = (job["channel"], job["id"]) if alive else (None, None)
            if isinstance(channel, str) and isinstance(name, str) and channel.startswith(PREFIX):
                result = json.dumps({"id": name, **self.answer(job)}, allow_nan=False)
                channel.encode()
                goes_on = claims and not self.stopping and time.monotonic() <= self.look_at
                then = "claim" if goes_on else "rest"
                found: bytes | None = redis(
                    "EVAL", FINISH, 2, LIST, QUEUE, channel, result, raw, then
                )
                return found
        except (ValueError, RecursionError):
            pass
        except ReplyError as refusal:
            if "NOPERM" not in str(refusal) and "can't publish" not in str(refusal):
                raise
        redis("EVAL", BURY, 2, LIST, f"{QUEUE}:dead", raw)
        return None

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        method = job.get("method")
        if type(method) is not str or method == "":
            return self.error("invalid-job", "a job names its method")
        handler = getattr(self, f"on_{method}", None) if method.isidentifier() else None
        if handler is None:
            return self.error("method-not-found", method)
        try:
            return {"result": handler(job.get("parameters"))}
        except Exception as failure:
            return self.error("handler-error", str(failure))

    def error(self, code: str, message: str) -> dict[str, Any]:
        return {"error": {"code": code, "message": message}}

    def on_echo(self, parameters: Any) -> Any:
        return parameters

    def on_wait(self, parameters: Any) -> Any:
        time.sleep(parameters["ms"] / 1000)
        return parameters

    def on_fail(self, parameters: Any) -> Any:
        raise RuntimeError(parameters["message"])


if __name__ == "__main__":
    Server().run()
