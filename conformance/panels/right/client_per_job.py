"""A client driver that does one job at a time, each on a channel and connections of its own."""

import json
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


class Line:
    def __init__(self) -> None:
        self.socket = socket.create_connection((url.hostname or "", url.port or 6379))
        self.reader = hiredis.Reader()
        if url.password:
            self.ask("AUTH", *filter(None, [unquote(url.username or "")]), unquote(url.password))
        if url.path[1:] not in {"", "0"}:
            self.ask("SELECT", url.path[1:])

    def send(self, *command: str | bytes) -> None:
        self.socket.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]

    def receive(self) -> None:
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("closed")
        self.reader.feed(data)

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
    """A line that holds the reply to SUBSCRIBE; a timeout while it waits is a TimeoutError."""
    line = Line()
    line.send("SUBSCRIBE", channel)
    while (reply := line.reader.gets()) is False:
        wait([line], until)
        line.receive()
    if isinstance(reply, Exception):
        raise ConnectionError(str(reply))
    return line


def wait(lines: list[Line], until: float | None) -> list[Line]:
    left = None if until is None else max(0.0, until - time.monotonic())
    readable, _, _ = select.select(lines, [], [], left)
    if not readable:
        raise TimeoutError
    return readable


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
    except TimeoutError:
        return {"timeout": True}
    except OSError as problem:
        return error("not-queued", problem)
    try:
        pushes.send("LPUSH", queue, json.dumps(job).encode())
        return settle(channel, results, pushes, until)
    except TimeoutError:
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
        except TimeoutError:
            raise
        except OSError:
            if time.monotonic() >= until:
                raise TimeoutError from None
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
