"""A correct server with every feature of protocol 1.0: what most server mutants are made from.

The main thread claims on one connection; a thread for each job runs its handler and answers on a
second one. Each step of the protocol is a method of its own, so that a mutant is one override.

`held` is the multiset of entries that this process will answer. An entry stays there until its
removal is confirmed, so further entries of the list belong to no handler and are recovered.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

from resp import Connection, ReplyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MESSAGE_LIMIT_BYTES = 1024 * 1024
STOP_S = 5.0  # for which a stopping server tries to reach Redis
LOOK_S = 5.0  # from one look to the next, once it has looked twice

Json: TypeAlias = Any
Job: TypeAlias = dict[str, Json]


def wait(parameters: Json) -> Json:
    time.sleep(parameters["ms"] / 1000)
    return parameters


class Abrupt(BaseException):
    """A failure that `except Exception` doesn't catch."""


def fail(parameters: Json) -> Json:
    failure = Abrupt if parameters.get("abruptly") else ValueError
    raise failure(parameters["message"])


def echo(parameters: Json) -> Json:
    return parameters


def is_name(value: Json) -> bool:
    return isinstance(value, str) and value != ""


def no_json(constant: str) -> Json:
    raise ValueError(f"{constant} is not valid JSON")


class Server:
    block_limit_ms = 5000

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.url = environment["REDIS_URL"]
        self.queue = environment.get("JOBQUEUE_QUEUE", "job-queue")
        self.list = self.list_name(environment)
        self.dead = f"{self.queue}:dead"
        block_ms = int(environment.get("JOBQUEUE_BLOCK_MS", "1000"))
        self.block_s = min(max(block_ms, 1), self.block_limit_ms) / 1000
        self.silence_s = int(environment.get("JOBQUEUE_SILENCE_MS", "10000")) / 1000
        self.concurrency = int(environment.get("JOBQUEUE_CONCURRENCY", "1"))
        self.prefix = environment.get("JOBQUEUE_CHANNEL_PREFIX", "")
        self.handlers = {"echo": echo, "fail": fail, "wait": wait}
        self.claims: Connection | None = None
        self.answers: Connection | None = None
        self.answering = threading.RLock()
        self.changed = threading.Condition()
        self.held: Counter[bytes] = Counter()
        self.running = 0
        self.looks_at: list[float] = []
        self.was_lost = False
        self.stopping = False
        self.gives_up_at: float | None = None

    def list_name(self, environment: Mapping[str, str]) -> str:
        whole = environment.get("JOBQUEUE_IN_PROCESS")
        return whole or f"{self.queue}:in-process:{environment['JOBQUEUE_PROCESSOR']}"

    # The main thread: connect, recover, claim.

    def serve(self) -> int:
        signal.signal(signal.SIGTERM, self.on_sigterm)
        failures = 0
        while True:
            try:
                self.connect()
                failures = 0
                self.serve_connection()
            except (OSError, ReplyError) as lost:
                self.on_lost(lost)
                if self.stopping and not self.was_lost:
                    return 0  # never connected, so nothing was claimed
                if self.stopping and self.gives_up():
                    return 1
                failures += 1
                self.back_off(failures)
            else:
                return self.exit_status()

    def connect(self) -> None:
        self.claims = Connection(self.url, self.block_s + self.silence_s)
        self.schedule_looks()

    def gives_up(self) -> bool:
        self.gives_up_at = self.gives_up_at or time.monotonic() + STOP_S
        return time.monotonic() > self.gives_up_at

    def schedule_looks(self) -> None:
        now = time.monotonic()
        self.second_look_at = now + self.block_s
        self.looks_at = [now, self.second_look_at]

    def next_look(self) -> None:
        self.looks_at.pop(0)
        if not self.looks_at:
            self.looks_at.append(time.monotonic() + LOOK_S)

    def on_lost(self, lost: Exception) -> None:
        self.log(f"connection lost: {lost}")
        if self.claims is not None:
            self.was_lost = True
            self.claims.close()

    def back_off(self, failures: int) -> None:
        time.sleep(min(0.01 * 2**failures, 1.0) * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    def serve_connection(self) -> None:
        while True:
            if self.look_is_due():
                self.next_look()
                self.recover()
            elif self.stopping:
                break
            else:
                self.take()
        self.drain()

    def look_is_due(self) -> bool:
        return bool(self.looks_at) and self.looks_at[0] <= time.monotonic()

    def recover(self) -> None:
        with self.answering:  # or an entry that is being removed would hide an identical one
            with self.changed:
                held = self.held.copy()
            entries = self.look()
        for raw in entries:
            if held[raw] > 0:
                held[raw] -= 1
            else:
                self.start_found(raw)

    def start_found(self, raw: bytes) -> None:
        self.wait_for_slot()
        self.start(raw)

    def look(self) -> list[bytes]:
        assert self.claims is not None
        entries: list[bytes] = self.claims.call("LRANGE", self.list, 0, -1)
        return entries[::-1]

    def take(self) -> None:
        self.wait_for_slot()
        if self.stopping:
            return
        raw = self.claim()
        if raw is not None:
            self.start(raw)

    def claim(self) -> bytes | None:
        assert self.claims is not None
        raw: bytes | None = self.claims.call(
            "BLMOVE", self.queue, self.list, "RIGHT", "LEFT", str(self.block_s)
        )
        return raw

    def wait_for_slot(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.running < self.concurrency)

    def start(self, raw: bytes) -> None:
        with self.changed:
            self.running += 1
            self.held[raw] += 1
        threading.Thread(target=self.handle, args=(raw,), daemon=True).start()

    def on_sigterm(self, _signal: int, _frame: object) -> None:
        self.stopping = True

    def drain(self) -> None:
        if self.was_lost and self.looks_at and self.looks_at[0] <= self.second_look_at:
            # A claim of the lost connection may still wait in Redis, and is this life's.
            time.sleep(max(0.0, self.looks_at[0] - time.monotonic()))
            self.looks_at.clear()
            self.recover()
        with self.changed:
            self.changed.wait_for(lambda: self.running == 0)

    def exit_status(self) -> int:
        return 0

    # A job's thread: read, run, answer.

    def handle(self, raw: bytes) -> None:
        job = self.read(raw)
        result = None if job is None else self.encode(job, self.outcome(raw, job))
        failures = 0
        while True:
            try:
                with self.answering:
                    self.finish(raw, job, result)
                    self.release(raw)
                break
            except (OSError, ReplyError) as lost:
                self.on_answer_lost(lost)
                failures += 1
                self.back_off(failures)
        with self.changed:
            self.running -= 1
            self.changed.notify_all()

    def release(self, raw: bytes) -> None:
        with self.changed:
            self.held[raw] -= 1

    def read(self, raw: bytes) -> Job | None:
        """The job in a message, or None for a dead one."""
        if len(raw) > MESSAGE_LIMIT_BYTES:
            return None
        try:
            job = self.parse(raw)
        except (ValueError, RecursionError):
            return None
        return job if self.is_answerable(job) else None

    def is_answerable(self, job: Json) -> bool:
        return (
            isinstance(job, dict)
            and is_name(job.get("channel"))
            and is_name(job.get("id"))
            and self.may_publish(job["channel"])
        )

    def parse(self, raw: bytes) -> Json:
        value = json.loads(raw.decode(), parse_constant=no_json)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()  # can it be answered?
        return value

    def may_publish(self, channel: str) -> bool:
        return channel.startswith(self.prefix)

    def outcome(self, _raw: bytes, job: Job) -> dict[str, Json]:
        return self.run(job)

    def run(self, job: Job) -> dict[str, Json]:
        """The members of the result besides its id."""
        method = job.get("method", "")
        if not is_name(method):
            return self.error("invalid-job", "the job names no method")
        handler = self.handler(method)
        if handler is None:
            return self.error("method-not-found", f"no handler is registered for method {method!r}")
        try:
            return self.value(handler(self.parameters(job)))
        except (Exception, Abrupt) as failure:
            return self.on_failure(failure)

    def handler(self, method: str) -> Callable[[Json], Json] | None:
        return self.handlers.get(method)

    def parameters(self, job: Job) -> Json:
        return job.get("parameters")

    def value(self, value: Json) -> dict[str, Json]:
        return {"result": value}

    def on_failure(self, failure: BaseException) -> dict[str, Json]:
        return self.error("handler-error", str(failure))

    def error(self, code: str, message: str) -> dict[str, Json]:
        return {"error": {"code": code, "message": message}}

    def encode(self, job: Job, outcome: dict[str, Json]) -> bytes:
        return self.dump({"id": job["id"], **outcome})

    def dump(self, result: Json) -> bytes:
        return json.dumps(result, allow_nan=False, ensure_ascii=False).encode()

    def finish(self, raw: bytes, job: Job | None, result: bytes | None) -> None:
        """Answers a job or moves a dead message; raises if that isn't confirmed."""
        self.answers = self.answers or self.connect_answers()
        if job is None or result is None:
            self.bury(raw)
            return
        try:
            self.answer(raw, job, result)
        except ReplyError as refusal:
            if not self.forbids_channel(str(refusal)):
                raise
            self.bury(raw)

    def forbids_channel(self, refusal: str) -> bool:
        return refusal.startswith("NOPERM") and "channel" in refusal

    def connect_answers(self) -> Connection:
        return Connection(self.url, self.silence_s)

    def answer(self, raw: bytes, job: Job, result: bytes) -> None:
        self.publish(job["channel"], result)
        self.remove(raw)

    def publish(self, channel: str, result: bytes) -> None:
        self.ask("PUBLISH", channel, result)

    def remove(self, raw: bytes) -> None:
        if self.ask("LREM", self.list, -1, raw) == 0:
            self.on_gone(raw)

    def on_gone(self, raw: bytes) -> None:
        self.log(f"another client removed an entry of {len(raw)} bytes")

    def bury(self, raw: bytes) -> None:
        self.log(f"a message of {len(raw)} bytes is dead")
        self.keep(raw)
        self.remove(raw)

    def keep(self, raw: bytes) -> None:
        self.ask("LPUSH", self.dead, raw)

    def on_answer_lost(self, lost: Exception) -> None:
        self.log(f"answer not confirmed: {lost}")
        if self.stopping and self.gives_up():
            os._exit(1)
        with self.answering:
            if self.answers is not None:
                self.answers.close()
                self.answers = None
        self.was_lost = True
        self.schedule_looks()

    def ask(self, *command: str | bytes | int) -> Any:
        assert self.answers is not None
        return self.answers.call(*command)

    def log(self, sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(Server(os.environ).serve())
