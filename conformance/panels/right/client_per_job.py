"""A client driver that does one job at a time, each on a channel and connections of its own.

What is kept is looked up on a connection that is made for the look.
"""

import base64
import contextlib
import hashlib
import json
import math
import os
import select
import socket
import sys
import time
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis

url = urlsplit(os.environ["REDIS_URL"])
queue = os.environ["JOBQUEUE_QUEUE"]
silence_s = int(os.environ.get("JOBQUEUE_SILENCE_MS", "10000")) / 1000


class Late(Exception):
    """The job's timeout has passed; a connection's own is an OSError."""


class Refused(ConnectionError):
    """Redis answered with an error."""


@dataclass
class Wait:
    """A job whose result is waited for, and the digest and the time for which the result is kept, if it is."""

    channel: str
    name: str
    until: float = math.inf
    digest: str = ""
    keep_s: float = 0.0
    accepted: bool = False
    lost: bool = False
    handle_for: Any = None  # the seq of a call that wants one

    def accept(self) -> None:
        """Redis has the job."""
        self.accepted = True
        if self.handle_for is not None:
            handle = ".".join([self.digest, spelled(self.name), spelled(self.channel)])
            print(json.dumps({"seq": self.handle_for, "handle": handle}), flush=True)

    def lose(self, problem: OSError) -> None:
        """A connection is lost: a job without a timeout is, too, unless its result may be found."""
        if self.until == math.inf:
            if not (self.keep_s and self.accepted):
                raise problem
            self.lost, self.until = True, time.monotonic() + self.keep_s

    def late(self) -> dict[str, Any]:
        return error("connection-lost", "nothing was found") if self.lost else {"timeout": True}


class Line:
    def __init__(self) -> None:
        self.socket = socket.create_connection((url.hostname or "", url.port or 6379), silence_s)
        self.reader = hiredis.Reader()
        self.heard()
        if url.password:
            self.ask("AUTH", *filter(None, [unquote(url.username or "")]), unquote(url.password))
        if url.path[1:] not in {"", "0"}:
            self.ask("SELECT", url.path[1:])

    def send(self, *command: str | bytes) -> None:
        self.socket.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]

    def receive(self) -> None:
        """What has come, or an OSError where the line is lost or has been silent for too long."""
        self.socket.settimeout(max(0.001, self.silent_at - time.monotonic()))
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("closed")
        self.reader.feed(data)
        self.heard()

    def heard(self) -> None:
        now = time.monotonic()
        self.pings_at, self.silent_at = now + silence_s / 2, now + silence_s

    def ping(self) -> None:
        self.pings_at = math.inf  # once for each silence
        with contextlib.suppress(OSError):  # a line that is lost can be read
            self.send("PING")

    def ask(self, *command: str | bytes) -> Any:
        self.send(*command)
        while (reply := self.reader.gets()) is False:
            self.receive()
        if isinstance(reply, Exception):
            raise Refused(str(reply))
        return reply

    def alive(self, job: Wait) -> bool:
        """Receive what has come, or note that the line is lost."""
        try:
            self.receive()
        except OSError as problem:
            job.lose(problem)
            return False
        return True

    def close(self) -> None:
        self.socket.close()

    def fileno(self) -> int:
        return self.socket.fileno()


def subscribe(channel: str, until: float) -> Line:
    """A line that holds the reply to SUBSCRIBE."""
    line = Line()
    line.send("SUBSCRIBE", channel)
    while (reply := line.reader.gets()) is False:
        wait([line], until)
        line.receive()
    if isinstance(reply, Exception):
        raise ConnectionError(str(reply))
    return line


def wait(lines: list[Line], until: float) -> list[Line]:
    """The lines on which something has come, or nothing for too long."""
    while True:
        next_at = min(until, *(min(line.pings_at, line.silent_at) for line in lines))
        readable, _, _ = select.select(lines, [], [], max(0.0, next_at - time.monotonic()))
        now = time.monotonic()
        if found := readable or [line for line in lines if line.silent_at <= now]:
            return found
        if until <= now:
            raise Late
        for line in lines:
            if line.pings_at <= now:
                line.ping()


def error(code: str, problem: object) -> dict[str, Any]:
    return {"error": {"code": code, "message": str(problem)}}


def end_of(call: dict[str, Any]) -> float:
    ms = call.get("timeout_ms")
    return math.inf if ms is None else time.monotonic() + ms / 1000


def run(call: dict[str, Any]) -> dict[str, Any]:
    job = Wait(f"{queue}:results:{uuid.uuid4()}", "the only one", end_of(call))
    message: dict[str, Any] = {"channel": job.channel, "id": job.name}
    message |= {key: call[key] for key in ("method", "parameters") if key in call}
    job.handle_for = call["seq"] if call.get("detached") else None
    if "keep_ms" in call:
        message["keep_ms"] = int(call["keep_ms"])
        job.keep_s = call["keep_ms"] / 1000
    raw = json.dumps(message).encode()
    job.digest = hashlib.sha1(raw, usedforsecurity=False).hexdigest() if job.keep_s else ""
    try:
        results, pushes = subscribe(job.channel, job.until), Line()
    except Late:
        return {"timeout": True}
    except OSError as problem:
        return error("not-queued", problem)
    try:
        pushes.send("LPUSH", queue, raw)
        return settle(job, results, pushes)
    except Late:
        return job.late()
    except OSError as problem:
        return error("connection-lost", problem)


def collect(call: dict[str, Any]) -> dict[str, Any]:
    try:
        digest, name, channel = call["collect"].split(".")
        job = Wait(unspelled(channel), unspelled(name), end_of(call), digest)
    except ValueError as problem:
        return error("invalid-handle", problem)
    if len(digest) != 40 or set(digest) - set("0123456789abcdef"):
        return error("invalid-handle", "no digest")
    try:
        results, found = again(job)
        return found or settle(job, results)
    except Late:
        return job.late()


def spelled(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def unspelled(text: str) -> str:
    name = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    if not name or spelled(name) != text:
        raise ValueError("no name is spelled so")
    return name


def settle(job: Wait, results: Line, pushes: Line | None = None) -> dict[str, Any]:
    lines = [results] if pushes is None else [results, pushes]
    try:
        while True:
            for line in list(lines):
                outcome, replies = heard(job, line)
                if outcome is not None:
                    return outcome
                if line is pushes and replies:
                    lines.remove(line)
                    line.close()
                    job.accept()
            for line in wait(lines, job.until):
                if not line.alive(job):
                    lines.remove(line)
                    line.close()
                    if line is not pushes:
                        results, outcome = again(job)
                        lines.append(results)
                        if outcome is not None:
                            return outcome
    finally:
        for line in lines:
            line.close()


def heard(job: Wait, line: Line) -> tuple[dict[str, Any] | None, int]:
    """What a line has brought: an outcome, if one is among it, and how many replies."""
    replies = 0
    while (reply := line.reader.gets()) is not False:
        replies += 1
        if (outcome := judge(reply, job.name)) is not None:
            return outcome, replies
    return None, replies


def again(job: Wait) -> tuple[Line, dict[str, Any] | None]:
    """A subscription, and what was stored before it stood."""
    while True:
        try:
            line = subscribe(job.channel, job.until)
            return line, look(job) if job.digest else None
        except OSError:
            if time.monotonic() >= job.until:
                raise Late from None
            time.sleep(min(0.05, job.until - time.monotonic()))


def look(job: Wait) -> dict[str, Any] | None:
    line = Line()
    try:
        stored = line.ask("GET", f"{queue}:result:{job.digest}")
    except Refused:
        return None
    finally:
        line.close()
    return None if stored is None else read(stored, job.name)


def judge(reply: Any, name: str) -> dict[str, Any] | None:
    """What a reply or a message settles the job with, if anything."""
    if isinstance(reply, hiredis.ReplyError):
        return error("not-queued", reply)
    if not isinstance(reply, list) or reply[0] != b"message":
        return None
    return read(reply[2], name)


def read(message: bytes, name: str) -> dict[str, Any] | None:
    """The outcome of the job that goes by this name, if it is that."""
    try:
        result = json.loads(message.decode())
    except (ValueError, RecursionError):
        return None
    match result:
        case {"id": str(whose), "result": value} if whose == name and "error" not in result:
            return {"result": value}
        case {"id": str(whose), "error": {"code": str(), "message": str()} as found}:
            known = {key: found[key] for key in ("code", "message", "data") if key in found}
            return {"error": known} if whose == name and "result" not in result else None
    return None


if __name__ == "__main__":
    for line in sys.stdin:
        call = json.loads(line)
        outcome = collect(call) if "collect" in call else run(call)
        print(json.dumps({"seq": call["seq"], **outcome}), flush=True)
