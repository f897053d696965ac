"""A client driver on one connection, with 32 jobs in flight: RESP3 delivers results between the replies to pushes."""

from __future__ import annotations

import json
import math
import os
import select
import socket
import sys
import time
import uuid
from collections import deque
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis

URL = urlsplit(os.environ["REDIS_URL"])
QUEUE = os.environ["JOBQUEUE_QUEUE"]
CHANNEL = f"{QUEUE}:results:{uuid.uuid4()}"
SILENCE_S = int(os.environ.get("JOBQUEUE_SILENCE_MS", "10000")) / 1000
IN_FLIGHT = 32  # the least that the protocol asks for
Job = dict[str, Any]  # seq, id, message, until


class Driver:
    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.ready = False
        self.jobs: dict[str, Job] = {}
        self.unsent: deque[Job] = deque()
        self.replies: deque[Job | None] = deque()  # None: to a PING
        self.retry_at: float | None = None
        self.pings_at = self.silent_at = 0.0
        self.count = 0

    def main(self) -> None:
        text, open_input = b"", True
        while open_input or self.jobs:
            sources: list[Any] = [0] if open_input else []
            sources += [self.socket] if self.socket else []
            readable, _, _ = select.select(sources, [], [], self.pause_s())
            if self.socket in readable:
                self.receive()
            if 0 in readable:
                chunk = os.read(0, 1 << 16)
                open_input = chunk != b""
                *lines, text = (text + chunk).split(b"\n")
                for line in lines:
                    self.call(json.loads(line))
            self.tick()

    def pause_s(self) -> float | None:
        times = [job["until"] for job in self.jobs.values() if job["until"]]
        times += [self.retry_at] if self.retry_at else []
        times += [min(self.pings_at, self.silent_at)] if self.socket and self.jobs else []
        return max(0.0, min(times) - time.monotonic()) if times else None

    def tick(self) -> None:
        now = time.monotonic()
        for job in [job for job in self.jobs.values() if job["until"] and job["until"] <= now]:
            self.settle(job, timeout=True)
        if self.retry_at and self.retry_at <= now:
            self.connect()
        if self.socket and self.jobs:
            self.notice_silence(now)

    def notice_silence(self, now: float) -> None:
        if self.silent_at <= now:
            self.lose(TimeoutError("Redis doesn't answer"))
        elif self.pings_at <= now:
            self.pings_at = math.inf
            if self.ready:  # until then, the handshake is what has to be answered
                self.replies.append(None)
                self.push("PING")

    def heard(self) -> None:
        now = time.monotonic()
        self.pings_at, self.silent_at = now + SILENCE_S / 2, now + SILENCE_S

    def call(self, call: Job) -> None:
        self.count += 1
        name = f"{self.count:x}"
        job = {"method": call["method"], "parameters": call.get("parameters")}
        message = json.dumps({**job, "channel": CHANNEL, "id": name}).encode()
        ms = call.get("timeout_ms")
        until = None if ms is None else time.monotonic() + ms / 1000
        entry = {"seq": call["seq"], "id": name, "message": message, "until": until}
        if not self.jobs:  # until now, nobody has asked whether Redis answers
            self.heard()
        self.jobs[name] = entry
        self.unsent.append(entry)
        if self.socket is None:
            self.connect()
        self.flush()

    def connect(self) -> None:
        self.retry_at = None
        try:
            self.socket = socket.create_connection((URL.hostname or "", URL.port or 6379), 5)
            self.reader = hiredis.Reader()
            self.heard()
            user = [unquote(URL.username or "default"), unquote(URL.password or "")]
            self.send("HELLO", "3", *(["AUTH", *user] if URL.password else []))
            if URL.path.strip("/0"):
                self.send("SELECT", URL.path[1:])
            self.send("SUBSCRIBE", CHANNEL)
        except OSError as problem:
            self.lose(problem)

    def send(self, *command: str | bytes) -> None:
        assert self.socket is not None
        self.socket.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]

    def receive(self) -> None:
        assert self.socket is not None
        try:
            data = self.socket.recv(1 << 18)
            if not data:
                raise ConnectionError("end of file")
            self.heard()
            self.reader.feed(data)
            while (reply := self.reader.gets()) is not False:
                self.take(reply)
        except OSError as problem:
            self.lose(problem)

    def take(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            if reply[0] == b"subscribe":
                self.ready = True
                self.flush()
            elif reply[0] == b"message":
                self.result(reply[2])
        elif not self.ready:
            if isinstance(reply, Exception):
                raise ConnectionError(str(reply))
        else:
            job = self.replies.popleft()
            if job is not None and isinstance(reply, Exception):
                self.settle(job, error={"code": "not-queued", "message": str(reply)})

    def flush(self) -> None:
        while self.ready and self.unsent and len(self.jobs) - len(self.unsent) < IN_FLIGHT:
            job = self.unsent.popleft()
            if job["id"] in self.jobs:
                self.replies.append(job)
                self.push("LPUSH", QUEUE, job["message"])

    def push(self, *command: str | bytes) -> None:
        try:
            self.send(*command)
        except OSError as problem:
            self.lose(problem)

    def lose(self, problem: OSError) -> None:
        print(problem, file=sys.stderr)
        if self.socket is not None:
            self.socket.close()
        self.socket, self.ready = None, False
        self.replies.clear()
        unsent, self.unsent = self.unsent, deque()
        for job in list(self.jobs.values()):
            if job in unsent:
                self.settle(job, error={"code": "not-queued", "message": str(problem)})
            elif job["until"] is None:
                self.settle(job, error={"code": "connection-lost", "message": str(problem)})
        self.retry_at = time.monotonic() + 0.05 if self.jobs else None

    def result(self, content: bytes) -> None:
        try:
            result = json.loads(content.decode("utf-8"))
        except (ValueError, RecursionError):
            return
        if not isinstance(result, dict) or not isinstance(result.get("id"), str):
            return
        job = self.jobs.get(result["id"])
        error = result.get("error")
        if job is None or ("result" in result) == ("error" in result):
            return
        if "result" in result:
            self.settle(job, result=result["result"])
        elif isinstance(error, dict):
            known = {key: error[key] for key in ("code", "message", "data") if key in error}
            if all(isinstance(error.get(key), str) for key in ("code", "message")):
                self.settle(job, error=known)

    def settle(self, job: Job, **outcome: Any) -> None:
        if self.jobs.pop(job["id"], None) is not None:
            if job in self.unsent:
                self.unsent.remove(job)
            sys.stdout.write(json.dumps({"seq": job["seq"], **outcome}) + "\n")
            sys.stdout.flush()
            self.flush()


if __name__ == "__main__":
    Driver().main()
