"""A server that speaks RESP3 and runs several jobs on one thread and one connection.

A handler that takes time is a due date, not a thread. While jobs run, it asks for more by LMOVE,
and answers what is due in between; only a server with nothing to do blocks.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import signal
import sys
import time
from collections import Counter
from typing import Any

from redis.connection import Connection, parse_url
from redis.exceptions import NoPermissionError, RedisError

Due = tuple[float, int, bytes, str, bytes]
LOOK_S = PATIENCE_S = 5.0


def refuse(constant: str) -> None:
    raise ValueError(constant)


class Server:
    def __init__(self, env: dict[str, str]) -> None:
        self.options = parse_url(env["REDIS_URL"])
        self.queue = env["JOBQUEUE_QUEUE"]
        self.prefix = env.get("JOBQUEUE_CHANNEL_PREFIX", "")
        self.list = (
            env.get("JOBQUEUE_IN_PROCESS") or f"{self.queue}:in-process:{env['JOBQUEUE_PROCESSOR']}"
        )
        self.limit = int(env.get("JOBQUEUE_CONCURRENCY", "1"))
        self.block_s = min(int(env.get("JOBQUEUE_BLOCK_MS", "1000")), 5000) / 1000
        self.running: list[Due] = []
        self.found: list[bytes] = []
        self.numbers = itertools.count()
        self.stopping = False
        self.lives = 0
        self.failing_since: float | None = None
        signal.signal(signal.SIGTERM, self.stop)

    def stop(self, *_: object) -> None:
        self.stopping = True

    def main(self) -> None:
        while True:
            self.redis = Connection(**self.options, protocol=3, socket_timeout=self.block_s + 10)
            try:
                self.redis.connect()
                self.lives += 1
                self.live()
                return
            except (RedisError, OSError) as lost:
                print(lost, file=sys.stderr)
                self.redis.disconnect()
                if self.stopping and self.lives == 0:
                    return
                self.failing_since = self.failing_since or time.monotonic()
                if self.stopping and time.monotonic() - self.failing_since > PATIENCE_S:
                    sys.exit(1)
                time.sleep(0.03)

    def do(self, *command: Any) -> Any:
        self.redis.send_command(*command)
        reply = self.redis.read_response()
        self.failing_since = None
        return reply

    def live(self) -> None:
        second_look_at = time.monotonic() + self.block_s
        look_at, looks = 0.0, 0
        while True:
            self.answer_due()
            if look_at <= time.monotonic():
                self.look()
                looks += 1
                look_at = second_look_at if looks == 1 else time.monotonic() + LOOK_S
            elif len(self.running) == self.limit:
                self.sleep_until_due()
            elif self.found:
                self.start(self.found.pop(0))
            elif not self.stopping:
                self.claim()
            elif looks == 1 and self.lives > 1:
                time.sleep(0.01)
            elif self.running:
                self.sleep_until_due()
            else:
                return

    def look(self) -> None:
        known = Counter(due[2] for due in self.running)
        self.found = []
        for raw in reversed(self.do("LRANGE", self.list, 0, -1)):
            if known[raw]:
                known[raw] -= 1
            else:
                self.found.append(raw)

    def claim(self) -> None:
        move = [self.queue, self.list, "RIGHT", "LEFT"]
        raw = self.do("LMOVE", *move) if self.running else self.do("BLMOVE", *move, self.block_s)
        if raw is not None:
            self.start(raw)
        elif self.running:
            time.sleep(max(0.0, min(0.005, self.running[0][0] - time.monotonic())))

    def sleep_until_due(self) -> None:
        time.sleep(max(0.0, min(0.02, self.running[0][0] - time.monotonic())))

    def start(self, raw: bytes) -> None:
        try:
            job = json.loads(raw.decode(), parse_constant=refuse)
            due_s, outcome = self.run(job) if self.addressed(job) else (0.0, None)
            if outcome is not None:
                text = json.dumps({"id": job["id"], **outcome}, ensure_ascii=False, allow_nan=False)
                answer = job["channel"].encode().decode(), text.encode()
        except (ValueError, TypeError, RecursionError):
            outcome = None
        if outcome is None:
            self.bury(raw)
        else:
            heapq.heappush(
                self.running, (time.monotonic() + due_s, next(self.numbers), raw, *answer)
            )

    def addressed(self, job: Any) -> bool:
        if not isinstance(job, dict):
            return False
        channel, name = job.get("channel"), job.get("id")
        if not isinstance(channel, str) or not isinstance(name, str) or not channel or not name:
            return False
        return channel.startswith(self.prefix)

    def run(self, job: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        parameters = job.get("parameters")
        match job.get("method"):
            case "echo":
                return 0.0, {"result": parameters}
            case "wait" if isinstance(parameters, dict) and "ms" in parameters:
                return parameters["ms"] / 1000, {"result": parameters}
            case "wait" | "fail":
                text = parameters.get("message") if isinstance(parameters, dict) else "no"
                return 0.0, {"error": {"code": "handler-error", "message": str(text)}}
            case str(name) if name:
                return 0.0, {"error": {"code": "method-not-found", "message": name}}
        return 0.0, {"error": {"code": "invalid-job", "message": "name a method"}}

    def answer_due(self) -> None:
        while self.running and self.running[0][0] <= time.monotonic():
            _, _, raw, channel, result = self.running[0]
            try:
                self.do("PUBLISH", channel, result)
                self.do("LREM", self.list, -1, raw)
            except NoPermissionError as refusal:
                if "channel" not in str(refusal):
                    raise
                self.bury(raw)
            heapq.heappop(self.running)

    def bury(self, raw: bytes) -> None:
        self.do("LPUSH", f"{self.queue}:dead", raw)
        self.do("LREM", self.list, -1, raw)


if __name__ == "__main__":
    Server(dict(os.environ)).main()
