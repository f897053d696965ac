"""A correct client driver with every feature: what all client mutants are made from.

One thread, one event loop over standard input, a subscription and a connection for pushing. A job
is in `pending` from the call until it is settled, in `unpushed` until the subscription stands, and
in `unanswered` until Redis has answered its push. Each step of the protocol is a method of its own,
so that a mutant is one override.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import time
import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import hiredis
from resp import Connection, ReplyError

if TYPE_CHECKING:
    from collections.abc import Mapping

BACK_OFF_S = 0.05
LONGEST_WAIT_S = 3600.0  # a selector can't wait for weeks

Json: TypeAlias = Any


@dataclass
class Job:
    seq: Json
    id: str
    message: bytes
    settles_at: float | None
    pushed: bool = False


def no_json(constant: str) -> Json:
    raise ValueError(f"{constant} is not valid JSON")


class Client:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self.url = environment["REDIS_URL"]
        self.queue = environment.get("JOBQUEUE_QUEUE", "job-queue")
        self.channel = self.channel_name()
        self.silence_s = int(environment.get("JOBQUEUE_SILENCE_MS", "10000")) / 1000
        self.calls = 0
        self.input: bytes | None = b""
        self.pending: dict[str, Job] = {}
        self.unpushed: deque[Job] = deque()
        self.unanswered: deque[Job] = deque()
        self.subscription: Connection | None = None
        self.subscribed = False
        self.pushes: Connection | None = None
        self.resubscribes_at: float | None = None
        self.heard_at = self.pings_at = self.pushes_heard_at = 0.0

    def channel_name(self) -> str:
        return f"{self.queue}:results:{uuid.uuid4()}"

    # The event loop.

    def serve(self) -> int:
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin.buffer, selectors.EVENT_READ, self.on_input)
        while self.input is not None or self.pending:
            for key, _ in self.selector.select(self.patience_s()):
                key.data()
            self.on_time()
        return 0

    def patience_s(self) -> float | None:
        times = [job.settles_at for job in self.pending.values() if job.settles_at is not None]
        if self.resubscribes_at is not None:
            times.append(self.resubscribes_at)
        if self.pending and self.subscription is not None:
            times += [self.pings_at, self.heard_at + self.silence_s]
        if self.unanswered:
            times.append(self.pushes_heard_at + self.silence_s)
        return min(max(0.0, min(times) - time.monotonic()), LONGEST_WAIT_S) if times else None

    def on_time(self) -> None:
        now = time.monotonic()
        for job in list(self.pending.values()):
            if job.settles_at is not None and job.settles_at <= now:
                self.on_timeout(job)
        if self.resubscribes_at is not None and self.resubscribes_at <= now:
            self.subscribe()
        if self.pending:
            self.notice_silence(now)

    def notice_silence(self, now: float) -> None:
        if self.unanswered and now >= self.pushes_heard_at + self.silence_s:
            self.on_pushes_lost(TimeoutError("Redis doesn't answer a push"))
        if self.subscription is None:
            return
        if now >= self.heard_at + self.silence_s:
            self.on_subscription_lost(TimeoutError("Redis doesn't answer a PING"))
        elif now >= self.pings_at:
            self.pings_at = now + self.silence_s / 3
            try:
                self.subscription.send("PING")
            except OSError as lost:
                self.on_subscription_lost(lost)

    def on_input(self) -> None:
        data = os.read(sys.stdin.fileno(), 65536)
        if not data or self.input is None:
            self.selector.unregister(sys.stdin.buffer)
            self.input = None
            return
        *lines, self.input = (self.input + data).split(b"\n")
        for line in lines:
            self.on_call(json.loads(line))

    # A call: subscribe, register, push.

    def on_call(self, call: dict[str, Json]) -> None:
        self.calls += 1
        name = self.job_id(call)
        job = Job(call["seq"], name, self.encode(call, name), self.settles_at(call))
        if not self.pending:  # while nothing was pending, Redis wasn't pinged
            self.heard_at = time.monotonic()
            self.pings_at = self.heard_at + self.silence_s / 3
        self.register(job)
        self.unpushed.append(job)
        if self.subscription is None:
            self.subscribe()
        self.push_all()

    def job_id(self, _call: dict[str, Json]) -> str:
        return str(self.calls)

    def settles_at(self, call: dict[str, Json]) -> float | None:
        timeout_ms = call.get("timeout_ms")
        return None if timeout_ms is None else time.monotonic() + timeout_ms / 1000

    def encode(self, call: dict[str, Json], name: str) -> bytes:
        return self.dump(
            {
                "method": call["method"],
                "parameters": self.parameters(call),
                "channel": self.channel,
                "id": name,
            }
        )

    def parameters(self, call: dict[str, Json]) -> Json:
        return call.get("parameters")

    def dump(self, job: Json) -> bytes:
        return json.dumps(job, allow_nan=False, ensure_ascii=False).encode()

    def register(self, job: Job) -> None:
        self.pending[job.id] = job

    def subscribe(self) -> None:
        self.resubscribes_at = None
        try:
            self.subscription = Connection(self.url, self.silence_s)
            self.heard_at = time.monotonic()
            self.pings_at = self.heard_at + self.silence_s / 3
            self.send_subscription(self.subscription)
        except (OSError, ReplyError) as lost:
            self.on_subscription_lost(lost)
        else:
            self.selector.register(
                self.subscription, selectors.EVENT_READ, self.on_subscription_readable
            )

    def send_subscription(self, subscription: Connection) -> None:
        subscription.send("SUBSCRIBE", self.channel)

    def on_subscription_readable(self) -> None:
        assert self.subscription is not None
        try:
            replies = self.subscription.receive()
            self.heard_at = time.monotonic()
            for reply in replies:
                if isinstance(reply, hiredis.ReplyError):
                    raise ReplyError(str(reply))  # noqa: TRY301 - handled as a lost connection
                kind, *_, content = reply
                if kind.endswith(b"subscribe"):
                    self.on_subscribed()
                elif kind.endswith(b"message"):
                    self.on_message(content)
        except (OSError, ReplyError) as lost:
            self.on_subscription_lost(lost)

    def on_subscribed(self) -> None:
        self.subscribed = True
        self.push_all()

    def push_all(self) -> None:
        while self.unpushed and self.may_push():
            job = self.unpushed.popleft()
            if self.is_wanted(job):
                self.push(job)

    def is_wanted(self, job: Job) -> bool:
        return job.id in self.pending

    def may_push(self) -> bool:
        return self.subscribed

    def push(self, job: Job) -> None:
        if self.pushes is None and not self.connect_pushes(job):
            return
        assert self.pushes is not None
        job.pushed = True
        if not self.unanswered:
            self.pushes_heard_at = time.monotonic()
        self.unanswered.append(job)
        try:
            self.send_push(self.pushes, job)
        except OSError as lost:
            self.on_pushes_lost(lost)

    def connect_pushes(self, job: Job) -> bool:
        try:
            self.pushes = Connection(self.url, self.silence_s)
        except (OSError, ReplyError) as lost:
            self.settle_error(job, "not-queued", f"no connection to push on: {lost}")
            return False
        self.selector.register(self.pushes, selectors.EVENT_READ, self.on_pushes_readable)
        return True

    def send_push(self, pushes: Connection, job: Job) -> None:
        pushes.send("LPUSH", self.queue, job.message)

    def on_pushes_readable(self) -> None:
        assert self.pushes is not None
        try:
            replies = self.pushes.receive()
            self.pushes_heard_at = time.monotonic()
            for reply in replies:
                self.on_push_answered(self.unanswered.popleft(), reply)
        except OSError as lost:
            self.on_pushes_lost(lost)

    def on_push_answered(self, job: Job, reply: Json) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self.on_push_refused(job, str(reply))

    def on_push_refused(self, job: Job, refusal: str) -> None:
        self.settle_error(job, "not-queued", refusal)

    # What can go wrong with a connection.

    def on_subscription_lost(self, lost: Exception) -> None:
        self.log(f"subscription lost: {lost}")
        was_subscribed, self.subscribed = self.subscribed, False
        self.close(self.subscription)
        self.subscription = None
        for job in list(self.pending.values()):
            if job.pushed:
                self.on_result_lost(job)
            elif not was_subscribed:
                self.settle_error(job, "not-queued", f"no subscription: {lost}")
        if self.pending:
            self.resubscribe()

    def resubscribe(self) -> None:
        self.resubscribes_at = time.monotonic() + BACK_OFF_S

    def on_pushes_lost(self, lost: Exception) -> None:
        self.log(f"connection for pushing lost: {lost}")
        self.close(self.pushes)
        self.pushes = None
        unanswered, self.unanswered = self.unanswered, deque()
        for job in unanswered:
            self.on_push_lost(job)

    def on_push_lost(self, job: Job) -> None:
        self.on_result_lost(job)

    def on_result_lost(self, job: Job) -> None:
        if job.settles_at is None:
            self.settle_error(job, "connection-lost", "the result or the push may be lost")

    def close(self, connection: Connection | None) -> None:
        if connection is not None:
            if connection.fileno() in self.selector.get_map():
                self.selector.unregister(connection)
            connection.close()

    # Results.

    def on_message(self, message: bytes) -> None:
        result = self.read(message)
        if result is None:
            self.on_malformed(message)
            return
        job = self.find(result)
        if job is None:
            self.on_unknown(result)
        elif "error" in result:
            self.settle(job, {"error": self.error(result["error"])})
        else:
            self.settle(job, {"result": self.value(result["result"])})

    def read(self, message: bytes) -> dict[str, Json] | None:
        """The result in a message, or None for one that is not a valid result."""
        try:
            result = self.parse(message)
        except (ValueError, RecursionError):
            return None
        return result if self.is_result(result) else None

    def parse(self, message: bytes) -> Json:
        return json.loads(message.decode(), parse_constant=no_json)

    def is_result(self, result: Json) -> bool:
        return (
            isinstance(result, dict)
            and isinstance(result.get("id"), str)
            and ("result" in result) != ("error" in result)
            and ("result" in result or self.is_error(result["error"]))
        )

    def is_error(self, error: Json) -> bool:
        return (
            isinstance(error, dict)
            and isinstance(error.get("code"), str)
            and isinstance(error.get("message"), str)
        )

    def find(self, result: dict[str, Json]) -> Job | None:
        return self.pending.get(result["id"])

    def on_malformed(self, message: bytes) -> None:
        self.log(f"ignored a message of {len(message)} bytes, which is not a valid result")

    def on_unknown(self, result: dict[str, Json]) -> None:
        self.log(f"ignored a result of no unsettled job: {result['id']!r}")

    def value(self, value: Json) -> Json:
        return value

    def error(self, error: Json) -> Json:
        return {name: error[name] for name in ("code", "message", "data") if name in error}

    # Settling.

    def on_timeout(self, job: Job) -> None:
        self.settle(job, {"timeout": True})

    def settle_error(self, job: Job, code: str, message: str) -> None:
        self.settle(job, {"error": {"code": code, "message": message}})

    def settle(self, job: Job, outcome: dict[str, Json]) -> None:
        if self.pending.pop(job.id, None) is not None:
            self.write(job, outcome)

    def write(self, job: Job, outcome: dict[str, Json]) -> None:
        print(json.dumps({"seq": job.seq, **outcome}), flush=True)

    def log(self, sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(Client(os.environ).serve())
