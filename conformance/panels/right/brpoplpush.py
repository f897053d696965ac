"""The least that conforms: BRPOPLPUSH, PUBLISH, LREM, and no feature at all.

A process that dies forgets its job, and SIGTERM kills it. Even so it survives a lost connection,
and publishes again what wasn't confirmed.
"""

import json
import os
import socket
import time
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis

url = urlsplit(os.environ["REDIS_URL"])
queue = os.environ["JOBQUEUE_QUEUE"]
processing = os.environ.get("JOBQUEUE_IN_PROCESS") or (
    f"{queue}:in-process:{os.environ['JOBQUEUE_PROCESSOR']}"
)
unconfirmed: list[tuple[bytes, str, bytes]] = []


def failed(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def answer(job: dict[str, Any]) -> dict[str, Any]:
    method = job.get("method")
    if not isinstance(method, str) or not method:
        return failed("invalid-job", "a method is a string, and not empty")
    if method == "echo":
        return {"result": job.get("parameters")}
    if method == "fail":
        return failed("handler-error", "failed as requested")
    return failed("method-not-found", f"{method} isn't known here")


def read(raw: bytes) -> tuple[str, bytes] | None:
    try:
        job = json.loads(raw.decode())
        if all(isinstance(job[key], str) and job[key] for key in ("channel", "id")):
            result = json.dumps({"id": job["id"], **answer(job)}, allow_nan=False)
            job["channel"].encode()
            return job["channel"], result.encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


class Redis:
    def __init__(self) -> None:
        self.socket = socket.create_connection((url.hostname or "", url.port or 6379), 12)
        self.reader = hiredis.Reader()
        if url.password:
            self.call("AUTH", unquote(url.username or "default"), unquote(url.password))
        self.call("SELECT", url.path.strip("/") or "0")

    def call(self, *command: str | bytes | int) -> Any:
        self.socket.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
        while (reply := self.reader.gets()) is False:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError
            self.reader.feed(data)
        if isinstance(reply, Exception):
            raise reply
        return reply


def finish(redis: Redis) -> None:
    raw, channel, result = unconfirmed[0]
    try:
        redis.call("PUBLISH", channel, result)
    except hiredis.ReplyError as refusal:
        if not str(refusal).startswith("NOPERM") or "channel" not in str(refusal):
            raise
    redis.call("LREM", processing, 1, raw)
    unconfirmed.clear()


def serve(redis: Redis) -> None:
    if unconfirmed:
        finish(redis)
    while True:
        raw = redis.call("BRPOPLPUSH", queue, processing, 2)
        if raw is None:
            continue
        known = read(raw)
        if known is None:
            print("removed a dead message")
            redis.call("LREM", processing, 1, raw)
        else:
            unconfirmed.append((raw, *known))
            finish(redis)


while True:
    try:
        serve(Redis())
    except (OSError, hiredis.ReplyError) as lost:
        print(lost)
        time.sleep(0.05)
