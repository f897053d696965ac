"""A client driver that does one job at a time, each on a channel and connections of its own."""

import contextlib
import json
import math
import os
import select
import socket
import sys
import time
import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis

url = urlsplit(os.environ["REDIS_URL"])
queue = os.environ["JOBQUEUE_QUEUE"]
silence_s = int(os.environ.get("JOBQUEUE_SILENCE_MS", "10000")) / 1000


class Late(Exception):
    """The job's timeout has passed; a connection's own is an OSError."""


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
            raise ConnectionError(str(reply))
        return reply

    def fileno(self) -> int:
        return self.socket.fileno()


def subscribe(channel: str, until: float | None) -> Line:
    """A line that holds the reply to SUBSCRIBE."""
    line = Line()
    line.send("SUBSCRIBE", channel)
    while (reply := line.reader.gets()) is False:
        wait([line], until)
        line.receive()
    if isinstance(reply, Exception):
        raise ConnectionError(str(reply))
    return line


def wait(lines: list[Line], until: float | None) -> list[Line]:
    """The lines on which something has come, or nothing for too long."""
    ends_at = math.inf if until is None else until
    while True:
        next_at = min(ends_at, *(min(line.pings_at, line.silent_at) for line in lines))
        readable, _, _ = select.select(lines, [], [], max(0.0, next_at - time.monotonic()))
        now = time.monotonic()
        if found := readable or [line for line in lines if line.silent_at <= now]:
            return found
        if ends_at <= now:
            raise Late
        for line in lines:
            if line.pings_at <= now:
                line.ping()


def error(code: str, problem: object) -> dict[str, Any]:
    return {"error": {"code": code, "message": str(problem)}}


def run(call: dict[str, Any]) -> dict[str, Any]:
    until = call.get("timeout_ms") and time.monotonic() + call["timeout_ms"] / 1000
    channel = f"{queue}:results:{uuid.uuid4()}"
    job = {**call, "channel": channel, "id": "the only one"}
    del job["seq"]
    job.pop("timeout_ms", None)
    try:
        results, pushes = subscribe(channel, until), Line()
    except Late:
        return {"timeout": True}
    except OSError as problem:
        return error("not-queued", problem)
    try:
        pushes.send("LPUSH", queue, json.dumps(job).encode())
        return settle(channel, results, pushes, until)
    except Late:
        return {"timeout": True}
    except OSError as problem:
        return error("connection-lost", problem)


def settle(channel: str, results: Line, pushes: Line, until: float | None) -> dict[str, Any]:
    unanswered = [pushes]
    while True:
        for line in (results, *unanswered):
            while (reply := line.reader.gets()) is not False:
                outcome = judge(reply)
                if outcome is not None:
                    return outcome
                if line is pushes:
                    unanswered = []
        for line in wait([results, *unanswered], until):
            try:
                line.receive()
            except OSError:
                if until is None:
                    raise
                if line is pushes:
                    unanswered = []
                else:
                    results = again(channel, until)


def again(channel: str, until: float) -> Line:
    while True:
        try:
            return subscribe(channel, until)
        except OSError:
            if time.monotonic() >= until:
                raise Late from None
            time.sleep(min(0.05, until - time.monotonic()))


def judge(reply: Any) -> dict[str, Any] | None:
    """What a reply or a message settles the job with, if anything."""
    if isinstance(reply, hiredis.ReplyError):
        return error("not-queued", reply)
    if not isinstance(reply, list) or reply[0] != b"message":
        return None
    try:
        result = json.loads(reply[2].decode())
    except (ValueError, RecursionError):
        return None
    match result:
        case {"id": "the only one", "result": value} if "error" not in result:
            return {"result": value}
        case {"id": "the only one", "error": {"code": str(), "message": str()} as found}:
            known = {key: found[key] for key in ("code", "message", "data") if key in found}
            return None if "result" in result else {"error": known}
    return None


if __name__ == "__main__":
    for line in sys.stdin:
        call = json.loads(line)
        print(json.dumps({"seq": call["seq"], **run(call)}), flush=True)
