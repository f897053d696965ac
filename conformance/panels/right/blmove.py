"""A server on one connection that waits for every reply: BLMOVE, TIME, SET, PUBLISH, LREM.

It keeps nothing in memory: every entry of its list is run again after a lost connection. Made
from redis-py's Connection, whose retries and pools it doesn't use.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from typing import Any, NamedTuple

import redis
from redis.connection import Connection, parse_url
from redis.exceptions import RedisError

ENV = os.environ
QUEUE = ENV["JOBQUEUE_QUEUE"]
LIST = ENV.get("JOBQUEUE_IN_PROCESS") or f"{QUEUE}:in-process:{ENV['JOBQUEUE_PROCESSOR']}"
T_S = min(int(ENV.get("JOBQUEUE_BLOCK_MS", "2000")), 5000) / 1000
LOOK_S = 5.0  # how often it looks for a claim that was delivered late
PATIENCE_S = 5.0  # for which a server that is to stop tries to reach Redis
KEEP_MAX_MS = int(ENV.get("JOBQUEUE_KEEP_MAX_MS", "3600000"))
KEEPS_AGAIN_S, KEEPS_FOR_S = 0.1, 5.0  # how often and how long it tries to store a result
stopping: list[int] = []
unstored: dict[
    bytes, tuple[Answer, float]
] = {}  # answers that Redis had no memory for, and since when
failures: list[float] = []  # since the last reply


class Answer(NamedTuple):
    """What is published where, and for how long it is kept."""

    channel: str
    result: bytes
    keep_ms: int


def handle(connection: Connection, job: dict[str, Any]) -> dict[str, Any]:
    method: Any = job.get("method")
    parameters: Any = job.get("parameters")
    if not isinstance(method, str) or not method:
        return {"error": {"code": "invalid-job", "message": "no method"}}
    try:
        if method in {"echo", "wait", "fail"} and has_expired(connection, job):
            return {"error": {"code": "expired", "message": "too late"}}
        if method == "wait":
            time.sleep(parameters["ms"] / 1000)
        if method in {"echo", "wait"}:
            return {"result": parameters}
        if method == "fail":
            raise ValueError(parameters["message"])
    except (RedisError, OSError):
        raise
    except Exception as failure:
        return {"error": {"code": "handler-error", "message": str(failure)}}
    return {"error": {"code": "method-not-found", "message": f"no handler for {method}"}}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def has_expired(connection: Connection, job: dict[str, Any]) -> bool:
    """By the time of this moment, at which no handler runs."""
    at_ms: Any = job.get("expires_at_ms")
    if not is_number(at_ms):
        return False
    try:
        seconds, microseconds = map(int, call(connection, "TIME"))
    except redis.exceptions.NoPermissionError:
        return False
    return bool(at_ms < seconds * 1000 + microseconds / 1000)


def read(connection: Connection, raw: bytes) -> Answer | None:
    """The answer to a message, or None to a dead one."""
    try:
        job = json.loads(raw.decode())
        names = [job["channel"], job["id"]]
        if not all(isinstance(name, str) and name for name in names):
            return None
        result = {"id": job["id"], **handle(connection, job)}
        names[0].encode()
        message = json.dumps(result, allow_nan=False, ensure_ascii=False).encode()
        keep_ms = job.get("keep_ms")
        kept_ms = int(min(keep_ms, KEEP_MAX_MS)) if is_number(keep_ms) and keep_ms >= 1 else 0
        return Answer(job["channel"], message, kept_ms)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def call(connection: Connection, *command: Any) -> Any:
    connection.send_command(*command)
    reply = connection.read_response()
    failures.clear()
    return reply


def forbids_channel(refusal: redis.exceptions.NoPermissionError) -> bool:
    """Whether no server may publish this result; a server that may not PUBLISH at all is a mistake."""
    return "channel" in str(refusal)


def fail(problem: Exception, *, to_stop: bool) -> None:
    print(f"lost: {problem}", file=sys.stderr)
    failures.append(time.monotonic())
    if to_stop and failures[-1] - failures[0] > PATIENCE_S:
        sys.exit("Redis is away")


def keep(connection: Connection, raw: bytes, answer: Answer) -> bool:
    """Store a result, unless Redis forbids it; False where it is to be tried again."""
    if not answer.keep_ms:
        return True
    key = f"{QUEUE}:result:{hashlib.sha1(raw, usedforsecurity=False).hexdigest()}"
    try:
        call(connection, "SET", key, answer.result, "NX", "PX", answer.keep_ms)
    except redis.exceptions.NoPermissionError:
        return True
    except redis.exceptions.OutOfMemoryError:
        _, since = unstored.setdefault(raw, (answer, time.monotonic()))
        return bool(stopping) or time.monotonic() > since + KEEPS_FOR_S
    return True


def process(connection: Connection, raw: bytes) -> None:
    answer = unstored[raw][0] if raw in unstored else read(connection, raw)
    if answer is not None and not keep(connection, raw, answer):
        return  # it stays on the list
    unstored.pop(raw, None)
    try:
        if answer is not None:
            call(connection, "PUBLISH", answer.channel, answer.result)
    except redis.exceptions.NoPermissionError as refusal:
        if not forbids_channel(refusal):
            raise
        answer = None
    if answer is None:
        call(connection, "LPUSH", f"{QUEUE}:dead", raw)
    if call(connection, "LREM", LIST, -1, raw) == 0:
        print("the entry was gone", file=sys.stderr)


def serve(connection: Connection, *, again: bool) -> None:
    second_look_at = time.monotonic() + T_S
    look_at, looks, keep_at = 0.0, 0, 0.0
    while True:
        if look_at <= time.monotonic():
            for raw in reversed(call(connection, "LRANGE", LIST, 0, -1)):
                process(connection, raw)
            looks += 1
            look_at = second_look_at if looks == 1 else time.monotonic() + LOOK_S
        elif unstored and (stopping or keep_at <= time.monotonic()):
            for raw in list(unstored):
                process(connection, raw)
            keep_at = time.monotonic() + KEEPS_AGAIN_S
        elif stopping and again and looks == 1:
            time.sleep(max(0.0, look_at - time.monotonic()))
        elif stopping:
            return
        else:
            block_s = KEEPS_AGAIN_S if unstored else T_S
            raw = call(connection, "BLMOVE", QUEUE, LIST, "RIGHT", "LEFT", block_s)
            if raw is not None:
                process(connection, raw)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    options = parse_url(ENV["REDIS_URL"])
    connected, pause_s = False, 0.01
    while True:
        connection = Connection(**options, protocol=2, socket_timeout=T_S + 10)
        try:
            connection.connect()
            again, connected, pause_s = connected, True, 0.01
            return serve(connection, again=again)
        except (RedisError, OSError) as lost:
            connection.disconnect()
            if stopping and not connected:
                return None
            fail(lost, to_stop=bool(stopping))
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)


if __name__ == "__main__":
    main()
