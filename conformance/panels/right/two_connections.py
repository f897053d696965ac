"""A server that claims ahead: one thread claims on its connection, another answers on its own.

While a job runs, the next one is already claimed; at a stop, what was claimed and not started goes
back to the right end of the queue.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from typing import Any

from redis.connection import Connection, parse_url
from redis.exceptions import NoPermissionError, RedisError

OPTIONS = parse_url(os.environ["REDIS_URL"])
QUEUE = os.environ["JOBQUEUE_QUEUE"]
LIST = (
    os.environ.get("JOBQUEUE_IN_PROCESS")
    or f"{QUEUE}:in-process:" + (os.environ["JOBQUEUE_PROCESSOR"])
)
BLOCK_S = min(float(os.environ.get("JOBQUEUE_BLOCK_MS", "1000")) / 1000, 5.0)
AHEAD = 1
LOOK_S = PATIENCE_S = 5.0


class Shared:
    """What both threads know: the entries that this process answers for, started or not."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.mine: Counter[bytes] = Counter()
        self.waiting: deque[bytes] = deque()
        self.stopping = False
        self.claims_are_over = False
        self.lost = 0
        self.failures: list[float] = []  # of both, since the last look


class Line:
    def __init__(self) -> None:
        self.connection = Connection(**OPTIONS, protocol=2, socket_timeout=BLOCK_S + 10)
        self.connection.connect()

    def __call__(self, *command: Any) -> Any:
        self.connection.send_command(*command)
        return self.connection.read_response()


def persist(step: Any, shared: Shared) -> Any:
    """Calls a step with a fresh connection until it returns."""
    while True:
        line = None
        try:
            line = Line()
            return step(line, shared)
        except (RedisError, OSError) as lost:
            print(f"{step.__name__}: {lost}", file=sys.stderr)
            if line is not None:
                line.connection.disconnect()
            with shared.lock:
                shared.lost += line is not None
                if shared.stopping and not shared.lost and not shared.mine:
                    return None
                shared.failures.append(time.monotonic())
                if shared.stopping and shared.failures[-1] - shared.failures[0] > PATIENCE_S:
                    os._exit(1)
            time.sleep(0.04)


def claim_all(claims: Line, shared: Shared) -> None:
    look_at, looks = time.monotonic(), 0
    second_look_at = look_at + BLOCK_S
    lost = shared.lost
    while True:
        if shared.lost != lost:
            raise ConnectionError("the other connection was lost, so this one looks again")
        if look_at <= time.monotonic():
            look(claims, shared)
            looks += 1
            look_at = second_look_at if looks == 1 else time.monotonic() + LOOK_S
        elif shared.stopping:
            if lost and looks == 1:
                time.sleep(max(0.0, look_at - time.monotonic()))
                continue
            return give_back(claims, shared)
        else:
            with shared.lock:
                room = shared.lock.wait_for(lambda: len(shared.waiting) < AHEAD, 0.05)
            if room and not shared.stopping:
                raw = claims("BLMOVE", QUEUE, LIST, "RIGHT", "LEFT", BLOCK_S)
                if raw is not None:
                    take(raw, shared)


def take(raw: bytes, shared: Shared) -> None:
    with shared.lock:
        shared.mine[raw] += 1
        shared.waiting.append(raw)
        shared.lock.notify_all()


def look(claims: Line, shared: Shared) -> None:
    with shared.lock:
        mine = shared.mine.copy()
    entries = claims("LRANGE", LIST, 0, -1)
    with shared.lock:
        shared.failures.clear()
    for raw in reversed(entries):
        if mine[raw] > 0:
            mine[raw] -= 1
        else:
            take(raw, shared)


def give_back(claims: Line, shared: Shared) -> None:
    with shared.lock:
        while shared.waiting:
            raw = shared.waiting.pop()
            shared.mine[raw] -= 1  # where this fails, the next look finds it
            claims("MULTI")
            claims("RPUSH", QUEUE, raw)
            claims("LREM", LIST, -1, raw)
            claims("EXEC")
        shared.claims_are_over = True
        shared.lock.notify_all()


def answer_all(answers: Line, shared: Shared) -> None:
    while True:
        with shared.lock:
            shared.lock.wait_for(lambda: unfinished or shared.waiting or shared.claims_are_over)
            if not unfinished:
                if not shared.waiting:
                    return
                unfinished.append(shared.waiting.popleft())
                shared.lock.notify_all()
        raw = unfinished[0]
        answer(answers, raw)
        with shared.lock:
            unfinished.clear()
            shared.mine[raw] -= 1


unfinished: list[bytes] = []


def answer(answers: Line, raw: bytes) -> None:
    result = result_of(raw)
    try:
        if result is not None:
            answers("PUBLISH", *result)
    except NoPermissionError as refusal:
        if "channel" not in str(refusal):
            raise
        result = None
    if result is None:
        answers("LPUSH", QUEUE + ":dead", raw)
    answers("LREM", LIST, -1, raw)


def result_of(raw: bytes) -> tuple[str, str] | None:
    try:
        job = json.loads(raw.decode("utf8"))
        channel, name = job["channel"], job["id"]
        if isinstance(channel, str) and isinstance(name, str) and min(len(channel), len(name)):
            result = json.dumps({**run(job), "id": name}, allow_nan=False)
            return channel.encode().decode(), result
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    return None


def run(job: dict[str, Any]) -> dict[str, Any]:
    method = job.get("method")
    if not isinstance(method, str) or method == "":
        return {"error": {"code": "invalid-job", "message": "no method is named"}}
    handlers = {"echo": lambda p: p, "wait": wait, "fail": fail}
    if method not in handlers:
        return {
            "error": {
                "code": "method-not-found",
                "message": f"no handler is registered for method {method!r}",
            }
        }
    try:
        return {"result": handlers[method](job.get("parameters"))}
    except Exception as problem:
        return {"error": {"code": "handler-error", "message": str(problem)}}


def wait(parameters: Any) -> Any:
    time.sleep(parameters["ms"] / 1000)
    return parameters


def fail(parameters: Any) -> Any:
    raise ArithmeticError(parameters["message"])


if __name__ == "__main__":
    shared = Shared()
    signal.signal(signal.SIGTERM, lambda *_: setattr(shared, "stopping", True))
    answering = threading.Thread(target=persist, args=(answer_all, shared))
    answering.start()
    persist(claim_all, shared)
    with shared.lock:
        shared.claims_are_over = True
        shared.lock.notify_all()
    answering.join()
