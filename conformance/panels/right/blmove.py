"""A server on one connection that waits for every reply: BLMOVE, PUBLISH, LREM.

It keeps nothing in memory: every entry of its list is run again after a lost connection. Made
from redis-py's Connection, whose retries and pools it doesn't use.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

import redis
from redis.connection import Connection, parse_url
from redis.exceptions import RedisError

ENV = os.environ
QUEUE = ENV["JOBQUEUE_QUEUE"]
LIST = ENV.get("JOBQUEUE_IN_PROCESS") or f"{QUEUE}:in-process:{ENV['JOBQUEUE_PROCESSOR']}"
T_S = min(int(ENV.get("JOBQUEUE_BLOCK_MS", "2000")), 5000) / 1000
LOOK_S = 5.0  # how often it looks for a claim that was delivered late
PATIENCE_S = 5.0  # for which a server that is to stop tries to reach Redis
stopping: list[int] = []
failures: list[float] = []  # since the last reply


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


def process(connection: Connection, raw: bytes) -> None:
    answer = read(raw)
    try:
        if answer is not None:
            call(connection, "PUBLISH", *answer)
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
    look_at, looks = 0.0, 0
    while True:
        if look_at <= time.monotonic():
            for raw in reversed(call(connection, "LRANGE", LIST, 0, -1)):
                process(connection, raw)
            looks += 1
            look_at = second_look_at if looks == 1 else time.monotonic() + LOOK_S
        elif stopping and again and looks == 1:
            time.sleep(max(0.0, look_at - time.monotonic()))
        elif stopping:
            return
        else:
            raw = call(connection, "BLMOVE", QUEUE, LIST, "RIGHT", "LEFT", T_S)
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
