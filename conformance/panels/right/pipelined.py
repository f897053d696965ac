"""A server whose one round trip per job answers a job and claims the next.

MULTI, PUBLISH, LREM, EXEC and LMOVE leave in one write; only an empty queue leads to BLMOVE. Where
the transaction is refused although the claim succeeded, both jobs are on the list, and the way out
is that of a lost connection: connect again, look, run what is there.

Each connection begins with an empty transaction. If Redis forbids that, the LREM in such a write
would be executed behind a PUBLISH that was refused, so each command then waits for the reply to the
one before.
"""

import json
import os
import signal
import socket
import sys
import time
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import hiredis

URL = urlsplit(os.environ["REDIS_URL"])
QUEUE = os.environ["JOBQUEUE_QUEUE"]
DEAD = QUEUE + ":dead"
LIST = os.environ.get("JOBQUEUE_IN_PROCESS")
if not LIST:
    LIST = QUEUE + ":in-process:" + os.environ["JOBQUEUE_PROCESSOR"]
BLOCK_S = min(int(os.environ.get("JOBQUEUE_BLOCK_MS", "1000")), 4000) / 1000
LOOK_S = 5.0
PATIENCE_S = 5.0
LMOVE = ["LMOVE", QUEUE, LIST, "RIGHT", "LEFT"]
BLMOVE = ["BLMOVE", QUEUE, LIST, "RIGHT", "LEFT", str(BLOCK_S)]


class Stopping:
    requested = False
    failing_since: float | None = None

    def __init__(self) -> None:
        signal.signal(signal.SIGTERM, self.request)

    def request(self, *_: object) -> None:
        self.requested = True

    def fail(self) -> None:
        self.failing_since = self.failing_since or time.monotonic()
        if self.requested and time.monotonic() - self.failing_since > PATIENCE_S:
            sys.exit(1)


class Pipe:
    """Sends several commands in one write, and returns as many replies, errors among them."""

    def __init__(self) -> None:
        self.socket = socket.create_connection((URL.hostname or "", URL.port or 6379), 12)
        self.parser = hiredis.Reader()
        hello = []
        if URL.password:
            hello.append(["AUTH", unquote(URL.username or "default"), unquote(URL.password)])
        hello.append(["SELECT", URL.path.strip("/") or "0"])
        for reply in self.send(*hello):
            check(reply)
        refusals = [str(reply) for reply in self.send(["MULTI"], ["DISCARD"])]
        self.transacts = not any(refusal.startswith("NOPERM") for refusal in refusals)

    def send(self, *commands: list[Any]) -> list[Any]:
        self.socket.sendall(b"".join(hiredis.pack_command(tuple(c)) for c in commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self.parser.gets()
            if reply is not False:
                replies.append(reply)
                continue
            chunk = self.socket.recv(262144)
            if chunk == b"":
                raise ConnectionResetError
            self.parser.feed(chunk)
        return replies


def check(reply: Any) -> Any:
    if isinstance(reply, hiredis.ReplyError):
        raise ConnectionError(str(reply))
    return reply


def fail(parameters: Any) -> NoReturn:
    raise LookupError(parameters["message"])


def wait(parameters: Any) -> Any:
    time.sleep(parameters["ms"] / 1e3)
    return parameters


HANDLERS = {"echo": lambda parameters: parameters, "wait": wait, "fail": fail}


def answer(raw: bytes) -> list[Any] | None:
    """The PUBLISH that answers a job, or None for a dead message."""
    try:
        job = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(job, dict):
        return None
    method, channel, name = job.get("method"), job.get("channel"), job.get("id")
    if not (isinstance(channel, str) and channel and isinstance(name, str) and name):
        return None
    result: dict[str, Any] = {"id": name}
    if not isinstance(method, str) or len(method) == 0:
        result["error"] = {
            "code": "invalid-job",
            "message": "the method must be a non-empty string",
        }
    elif method not in HANDLERS:
        result["error"] = {"code": "method-not-found", "message": f"unknown: {method}"}
    else:
        try:
            result["result"] = HANDLERS[method](job.get("parameters"))
        except Exception as problem:
            result["error"] = {"code": "handler-error", "message": str(problem)}
    try:
        return ["PUBLISH", channel.encode(), json.dumps(result, allow_nan=False).encode()]
    except ValueError:
        return None


def forbids_channel(refusal: Any) -> bool:
    return "NOPERM" in str(refusal) and "channel" in str(refusal)


def finish(pipe: Pipe, raw: bytes, *, claim: bool) -> bytes | None:
    """Answers a message or moves it to the dead list, and returns the next job if one was to be claimed."""
    publish, bury, remove = answer(raw), ["LPUSH", DEAD, raw], ["LREM", LIST, -1, raw]
    if not pipe.transacts:
        finish_in_steps(pipe, publish, bury, remove)
        return check(pipe.send(LMOVE)[0]) if claim else None
    replies = pipe.send(["MULTI"], publish or bury, remove, ["EXEC"], *([LMOVE] if claim else []))
    if publish and forbids_channel(replies[1]):
        for reply in pipe.send(["MULTI"], bury, remove, ["EXEC"]):
            check(reply)
    else:
        for reply in check(replies[3]):
            check(reply)
    return check(replies[4]) if claim else None


def finish_in_steps(pipe: Pipe, publish: Any, bury: Any, remove: Any) -> None:
    refusal = pipe.send(publish)[0] if publish else None
    if publish and not forbids_channel(refusal):
        check(refusal)
    else:
        check(pipe.send(bury)[0])
    check(pipe.send(remove)[0])


def live(stopping: Stopping, number: int) -> None:
    pipe = Pipe()
    born = time.monotonic()
    for moment in (born, born + BLOCK_S):
        claim_until(pipe, stopping, moment)
        if stopping.requested and moment > born and number == 0:
            return
        time.sleep(max(0.0, moment - time.monotonic()))
        look(pipe, stopping)
    while not stopping.requested:
        claim_until(pipe, stopping, time.monotonic() + LOOK_S)
        look(pipe, stopping)


def claim_until(pipe: Pipe, stopping: Stopping, moment: float) -> None:
    while time.monotonic() < moment and not stopping.requested:
        raw = check(pipe.send(BLMOVE)[0])
        while raw is not None:
            # A signal sets it meanwhile, which mypy can't know.
            claims = time.monotonic() < moment and not stopping.requested
            raw = finish(pipe, raw, claim=claims)


def look(pipe: Pipe, stopping: Stopping) -> None:
    entries = check(pipe.send(["LRANGE", LIST, 0, -1])[0])
    stopping.failing_since = None
    for entry in reversed(entries):
        finish(pipe, entry, claim=False)


def main() -> None:
    stopping, number = Stopping(), 0
    while True:
        try:
            return live(stopping, number)
        except OSError as lost:
            print(f"{type(lost).__name__}: {lost}", file=sys.stderr)
            number += not isinstance(lost, ConnectionRefusedError)
            if stopping.requested and number == 0:
                return None
            stopping.fail()
            time.sleep(0.05)


if __name__ == "__main__":
    main()
