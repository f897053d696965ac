"""A server that publishes and removes in MULTI and EXEC, and falls back where Redis refuses that.

At `maxmemory` some versions of Redis refuse a whole transaction, though they take PUBLISH and LREM
one by one. Then it publishes, looks whether the entry is still there, and removes it. Standard
library only: replies are read through a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from typing import Any
from urllib.parse import unquote, urlsplit

queue = os.environ["JOBQUEUE_QUEUE"]
in_process = os.environ.get("JOBQUEUE_IN_PROCESS", "") or ":".join(
    [queue, "in-process", os.environ["JOBQUEUE_PROCESSOR"]]
)
block_s = min(int(os.environ.get("JOBQUEUE_BLOCK_MS") or 1000), 5000) / 1000
signals: set[int] = set()
failures: list[float] = []  # in a row
look_every_s = give_up_after_s = 5.0


class Refusal(Exception):
    pass


class Redis:
    def __init__(self) -> None:
        url = urlsplit(os.environ["REDIS_URL"])
        address = (url.hostname or "127.0.0.1", url.port or 6379)
        self.socket = socket.create_connection(address, timeout=block_s + 8)
        self.file = self.socket.makefile("rb")
        if url.password:
            user = [unquote(url.username)] if url.username else []
            self.do("AUTH", *user, unquote(url.password))
        if url.path not in {"", "/"}:
            self.do("SELECT", url.path[1:])

    def do(self, *command: str | bytes) -> Any:
        parts = [part if isinstance(part, bytes) else part.encode() for part in command]
        frames = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self.socket.sendall(b"*%d\r\n%s" % (len(parts), frames))
        return self.reply()

    def reply(self) -> Any:
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis hung up")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Refusal(rest.decode())
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if int(rest) < 0:
            return None
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return self.file.read(int(rest) + 2)[:-2]


def outcome(method: Any, parameters: Any) -> dict[str, Any]:
    match method:
        case "echo":
            return {"result": parameters}
        case "wait":
            time.sleep(parameters["ms"] / 1000)
            return {"result": parameters}
        case "fail":
            message = str((parameters or {}).get("message", "it failed"))
            return {"error": {"code": "handler-error", "message": message, "data": None}}
        case str() if method:
            return {"error": {"code": "method-not-found", "message": f"{method}?"}}
        case _:
            return {"error": {"code": "invalid-job", "message": "which method?"}}


def understand(raw: bytes) -> tuple[str, str] | None:
    with contextlib.suppress(ValueError, RecursionError):
        match json.loads(raw.decode("utf-8", "strict")):
            case {"channel": str(channel), "id": str(name), **rest} if channel and name:
                try:
                    answer = outcome(rest.get("method"), rest.get("parameters"))
                except Exception as failure:
                    answer = {"error": {"code": "handler-error", "message": str(failure)}}
                text = json.dumps({"id": name, **answer}, allow_nan=False, ensure_ascii=False)
                if (channel + text).encode():
                    return channel, text
    return None


def finish(redis: Redis, raw: bytes, channel: str, text: str) -> None:
    try:
        redis.do("MULTI")
        redis.do("PUBLISH", channel, text)
        redis.do("LREM", in_process, "-1", raw)
        redis.do("EXEC")
    except Refusal as refusal:
        with contextlib.suppress(Refusal):
            redis.do("DISCARD")
        if refusal.args[0].startswith("NOPERM"):
            raise
        redis.do("PUBLISH", channel, text)
        if raw in redis.do("LRANGE", in_process, "0", "-1"):
            redis.do("LREM", in_process, "-1", raw)


def forbids_channel(refusal: Refusal) -> bool:
    return refusal.args[0].startswith("NOPERM") and "channel" in refusal.args[0]


def process(redis: Redis, raw: bytes) -> None:
    answer = understand(raw)
    if answer is not None:
        try:
            finish(redis, raw, *answer)
        except Refusal as refusal:
            if not forbids_channel(refusal):
                raise
        else:
            return
    redis.do("LPUSH", f"{queue}:dead", raw)
    redis.do("LREM", in_process, "-1", raw)


def serve(redis: Redis, *, first: bool) -> None:
    second_look_at = time.monotonic() + block_s
    look_at, looks = 0.0, 0
    while not signals or (looks < 2 and not first):
        if look_at <= time.monotonic() or signals:
            time.sleep(max(0.0, look_at - time.monotonic()))
            entries = redis.do("LRANGE", in_process, "0", "-1")
            failures.clear()
            for raw in entries[::-1]:
                process(redis, raw)
            looks += 1
            look_at = second_look_at if looks == 1 else time.monotonic() + look_every_s
        else:
            raw = redis.do("BLMOVE", queue, in_process, "RIGHT", "LEFT", str(block_s))
            if raw is not None:
                process(redis, raw)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: signals.add(number))
    first = True
    while True:
        try:
            redis = Redis()
        except (OSError, Refusal) as problem:
            print(problem, file=sys.stderr)
            if signals and first:
                break
        else:
            try:
                serve(redis, first=first)
                break
            except (OSError, Refusal) as problem:
                print(problem, file=sys.stderr)
            first = False
        failures.append(time.monotonic())
        if signals and failures[-1] - failures[0] > give_up_after_s:
            sys.exit(1)
        time.sleep(0.05)
