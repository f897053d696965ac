"""A server on asyncio: a task for each job, one connection for claims and one for answers.

Each answer is published, then removed; both wait their turn on the connection that all share.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from typing import Any

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import NoPermissionError, RedisError

QUEUE = os.environ["JOBQUEUE_QUEUE"]
LIST = os.environ.get(
    "JOBQUEUE_IN_PROCESS", f"{QUEUE}:in-process:{os.environ['JOBQUEUE_PROCESSOR']}"
)
DEAD = f"{QUEUE}:dead"
PREFIX = os.environ.get("JOBQUEUE_CHANNEL_PREFIX", "")
LIMIT = int(os.environ.get("JOBQUEUE_CONCURRENCY", "1"))
T_S = min(int(os.environ.get("JOBQUEUE_BLOCK_MS", "1000")) / 1000, 5)
LOOK_S = PATIENCE_S = 5.0
failures: list[float] = []  # since the last reply


class Line:
    """One connection at a time, and one exchange at a time on it."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.connection: Connection | None = None

    async def connect(self) -> None:
        self.connection = None
        connection = Connection(
            **parse_url(os.environ["REDIS_URL"]), protocol=2, socket_timeout=T_S + 10
        )
        await connection.connect()
        self.connection = connection

    async def __call__(self, *command: Any) -> Any:
        async with self.turn:
            if self.connection is None:
                await self.connect()
            connection = self.connection
            assert connection is not None
            try:
                await connection.send_command(*command)
                reply = await connection.read_response()
                failures.clear()
                return reply
            except (RedisError, OSError) as problem:
                if not isinstance(problem, NoPermissionError):
                    self.connection = None
                    await connection.disconnect()
                raise


class Server:
    def __init__(self) -> None:
        self.claims, self.answers = Line(), Line()
        self.slots = asyncio.Semaphore(LIMIT)
        self.running: Counter[bytes] = Counter()
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()
        self.look_at = self.second_look_at = 0.0
        self.looks = 0
        self.lives = 0

    async def main(self) -> None:
        self.clock = asyncio.get_running_loop()
        self.clock.add_signal_handler(signal.SIGTERM, self.stopping.set)
        pause_s = 0.02
        while not (self.stopping.is_set() and self.lives == 0):
            try:
                await self.claims.connect()
                self.lives += 1
                self.look_soon()
                pause_s = 0.02
                await self.live()
                return
            except (RedisError, OSError) as lost:
                self.fail(lost)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 1.0)

    def fail(self, lost: Exception) -> None:
        print(lost, file=sys.stderr)
        failures.append(self.clock.time())
        if self.stopping.is_set() and failures[-1] - failures[0] > PATIENCE_S:
            os._exit(1)

    def look_soon(self) -> None:
        self.look_at, self.looks = self.clock.time(), 0
        self.second_look_at = self.look_at + T_S

    async def live(self) -> None:
        while True:
            if self.look_at <= self.clock.time():
                self.looks += 1
                again_at = self.clock.time() + LOOK_S
                self.look_at = self.second_look_at if self.looks == 1 else again_at
                await self.look()
            elif self.stopping.is_set():
                if self.lives == 1 or self.looks > 1:
                    break
                await asyncio.sleep(0.01)
            elif await self.slot():
                raw = None
                try:
                    raw = await self.claims("BLMOVE", QUEUE, LIST, "RIGHT", "LEFT", T_S)
                finally:
                    if raw is None:
                        self.slots.release()
                if raw is not None:
                    self.start(raw)
        while self.tasks:
            await asyncio.wait(self.tasks)
        if self.looks < 2 and self.lives > 1:
            await self.live()

    async def slot(self) -> bool:
        """Waits for a slot, unless a stop or a look comes first."""
        try:
            await asyncio.wait_for(self.slots.acquire(), 0.05)
        except TimeoutError:
            return False
        if self.stopping.is_set():
            self.slots.release()
            return False
        return True

    async def look(self) -> None:
        running = self.running.copy()
        for raw in reversed(await self.claims("LRANGE", LIST, 0, -1)):
            if running[raw]:
                running[raw] -= 1
            else:
                await self.slots.acquire()
                self.start(raw)

    def start(self, raw: bytes) -> None:
        self.running[raw] += 1
        task = asyncio.create_task(self.job(raw))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def job(self, raw: bytes) -> None:
        answer = await understand(raw)
        while True:
            try:
                await self.finish(raw, answer)
                break
            except (RedisError, OSError) as lost:
                self.fail(lost)
                self.lives += 1
                self.look_soon()
                await asyncio.sleep(0.05)
        self.running[raw] -= 1
        self.slots.release()

    async def finish(self, raw: bytes, answer: tuple[str, bytes] | None) -> None:
        if answer is not None:
            try:
                await self.answers("PUBLISH", *answer)
                await self.answers("LREM", LIST, -1, raw)
            except NoPermissionError as refusal:
                if "channel" not in str(refusal):
                    raise
            else:
                return
        await self.answers("LPUSH", DEAD, raw)
        await self.answers("LREM", LIST, -1, raw)


async def understand(raw: bytes) -> tuple[str, bytes] | None:
    try:
        job = json.loads(raw.decode())
        match job:
            case {"channel": str(channel), "id": str(name)} if channel and name:
                if not channel.startswith(PREFIX):
                    return None
                result = {"id": name} | await run(job.get("method"), job.get("parameters"))
                text = json.dumps(result, allow_nan=False, ensure_ascii=False)
                return channel.encode().decode(), text.encode()
    except (ValueError, RecursionError):
        pass
    return None


async def run(method: Any, parameters: Any) -> dict[str, Any]:
    if method == "" or not isinstance(method, str):
        return {"error": {"code": "invalid-job", "message": "a job has a method"}}
    try:
        if method == "echo":
            return {"result": parameters}
        if method == "wait":
            await asyncio.sleep(parameters["ms"] / 1000)
            return {"result": parameters}
        if method == "fail":
            raise ValueError(parameters["message"])
    except Exception as problem:
        return {"error": {"code": "handler-error", "message": str(problem)}}
    return {"error": {"code": "method-not-found", "message": f"{method} is unknown"}}


if __name__ == "__main__":
    asyncio.run(Server().main())
