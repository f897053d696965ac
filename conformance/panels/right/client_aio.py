"""A client driver on asyncio: a future for each job, settled by the first outcome."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from typing import Any

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import RedisError, ResponseError

URL = os.environ["REDIS_URL"]
SILENCE_S = int(os.environ.get("JOBQUEUE_SILENCE_MS", "10000")) / 1000
QUEUE = os.environ["JOBQUEUE_QUEUE"]
CHANNEL = f"{QUEUE}:results:{uuid.uuid4()}"
Outcome = dict[str, Any]


def failed(code: str, message: object) -> Outcome:
    return {"error": {"code": code, "message": str(message)}}


def new() -> Connection:
    return Connection(**parse_url(URL), protocol=2, socket_timeout=SILENCE_S)


class Client:
    def __init__(self) -> None:
        self.futures: dict[str, asyncio.Future[Outcome]] = {}
        self.lossy: set[str] = set()  # pushed, and without a timeout
        self.subscription: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.turn = asyncio.Lock()
        self.pushes = new()

    async def listen(self) -> None:
        connection = new()
        while True:
            try:
                await connection.connect()
                await connection.send_command("SUBSCRIBE", CHANNEL)
                while True:
                    reply = await connection.read_response(
                        timeout=SILENCE_S / 2, disconnect_on_error=False
                    )
                    if reply is None:
                        await connection.send_command("PING")
                        reply = await connection.read_response()
                    kind, *rest = reply
                    if kind == b"message":
                        self.receive(rest[-1])
                    elif kind == b"subscribe":
                        self.subscription.set_result(None)
            except (RedisError, OSError) as lost:
                self.lose(lost)
            await connection.disconnect(nowait=True)
            await asyncio.sleep(0.04)

    def lose(self, lost: Exception) -> None:
        print(lost, file=sys.stderr)
        for name in self.lossy:
            self.settle(name, failed("connection-lost", lost))
        if not self.subscription.done():
            self.subscription.set_exception(lost)
            self.subscription.exception()  # so that asyncio logs nothing
        self.subscription = asyncio.get_running_loop().create_future()

    def receive(self, content: bytes) -> None:
        try:
            result = json.loads(content.decode())
            name, error = result["id"], result.get("error", {"code": "", "message": ""})
            texts = [name, error["code"], error["message"]]
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return
        if not all(isinstance(text, str) for text in texts):
            return
        if "result" in result and "error" not in result:
            self.settle(name, {"result": result["result"]})
        elif "error" in result and "result" not in result:
            known = {key: error[key] for key in ("code", "message", "data") if key in error}
            self.settle(name, {"error": known})

    def settle(self, name: str, outcome: Outcome) -> None:
        future = self.futures.get(name)
        if future is not None and not future.done():
            future.set_result(outcome)

    async def run(self, call: dict[str, Any], name: str) -> None:
        ms = call.get("timeout_ms")
        future = self.futures[name] = asyncio.get_running_loop().create_future()
        pushing = asyncio.create_task(self.push(call, name))
        try:
            outcome = await asyncio.wait_for(future, None if ms is None else ms / 1000)
        except TimeoutError:
            outcome = {"timeout": True}
        del self.futures[name]
        self.lossy.discard(name)
        print(json.dumps({"seq": call["seq"], **outcome}), flush=True)
        await pushing

    async def push(self, call: dict[str, Any], name: str) -> None:
        try:
            await asyncio.shield(self.subscription)
        except (RedisError, OSError) as lost:
            return self.settle(name, failed("not-queued", lost))
        members = {"method": call["method"], "parameters": call.get("parameters")}
        message = json.dumps({**members, "channel": CHANNEL, "id": name}, ensure_ascii=False)
        async with self.turn:
            try:
                if not self.pushes.is_connected or await closed(self.pushes):
                    await self.pushes.disconnect(nowait=True)
                    await self.pushes.connect()
            except (RedisError, OSError) as lost:
                return self.settle(name, failed("not-queued", lost))
            if name not in self.futures:
                return None
            if not self.subscription.done():
                return self.settle(name, failed("not-queued", "the subscription was lost"))
            if call.get("timeout_ms") is None:
                self.lossy.add(name)
            try:
                await self.pushes.send_command("LPUSH", QUEUE, message.encode())
                await self.pushes.read_response()
            except ResponseError as refused:
                self.settle(name, failed("not-queued", refused))
            except (RedisError, OSError) as lost:
                if name in self.lossy:
                    self.settle(name, failed("connection-lost", lost))
        return None


async def closed(connection: Connection) -> bool:
    try:
        return bool(await connection.can_read())
    except (RedisError, OSError):
        return True


async def main() -> None:
    client = Client()
    listening = asyncio.create_task(client.listen())
    lines = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    jobs = []
    while line := await lines.readline():
        jobs.append(asyncio.create_task(client.run(json.loads(line), uuid.uuid4().hex)))
    for job in jobs:
        await job
    listening.cancel()


if __name__ == "__main__":
    asyncio.run(main())
