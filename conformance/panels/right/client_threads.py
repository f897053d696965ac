"""A client driver with a thread that listens, one that pushes, and one for each job that waits."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import uuid
from typing import Any

from redis.connection import Connection, parse_url
from redis.exceptions import RedisError, ResponseError

QUEUE = os.environ["JOBQUEUE_QUEUE"]
CHANNEL = f"{QUEUE}:results:{uuid.uuid4()}"
SILENCE_S = int(os.environ.get("JOBQUEUE_SILENCE_MS", "10000")) / 1000
OPTIONS = {**parse_url(os.environ["REDIS_URL"]), "protocol": 2, "socket_timeout": SILENCE_S / 2}


class Job:
    """The outcome of one call: the first one counts."""

    def __init__(self, call: dict[str, Any], name: str) -> None:
        ms = call.get("timeout_ms")
        self.name, self.call = name, call
        self.ends_at = None if ms is None else time.monotonic() + ms / 1000
        self.settled = threading.Event()
        self.outcome: dict[str, Any] = {"timeout": True}

    def settle(self, **outcome: Any) -> None:
        with settling:
            if not self.settled.is_set():
                self.outcome = outcome
                self.settled.set()

    def fail(self, code: str, problem: object) -> None:
        self.settle(error={"code": code, "message": str(problem)})

    def left_s(self) -> float | None:
        return None if self.ends_at is None else max(0.0, self.ends_at - time.monotonic())


class Listener(threading.Thread):
    """Stays subscribed, and settles the jobs that wait for results."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.changed = threading.Condition()
        self.subscribed = False
        self.failures = 0
        self.jobs: dict[str, Job] = {}

    def run(self) -> None:
        while True:
            connection = Connection(**OPTIONS)
            try:
                connection.connect()
                connection.send_command("SUBSCRIBE", CHANNEL)
                while True:
                    if not connection.can_read(SILENCE_S / 2):
                        connection.send_command("PING")
                    self.receive(*connection.read_response())
            except (RedisError, OSError) as lost:
                print("subscription:", lost, file=sys.stderr)
                self.lose(lost)
            connection.disconnect()
            time.sleep(0.05)

    def receive(self, kind: bytes, *rest: Any) -> None:
        with self.changed:
            if kind == b"subscribe":
                self.subscribed = True
                self.changed.notify_all()
            elif kind == b"message" and (result := read(rest[-1])) is not None:
                job = self.jobs.get(result.pop("id"))
                if job is not None:
                    job.settle(**result)

    def lose(self, lost: Exception) -> None:
        with self.changed:
            for job in self.jobs.values():
                if job.ends_at is None:
                    job.fail("connection-lost", lost)
            self.failures += 1
            self.subscribed = False
            self.changed.notify_all()

    def admit(self, job: Job) -> bool:
        """Waits until the subscription stands, and from then on settles the job."""
        with self.changed:
            failures = self.failures
            self.changed.wait_for(lambda: self.subscribed or self.failures > failures, job.left_s())
            if self.subscribed:
                self.jobs[job.name] = job
            elif self.failures > failures:
                job.fail("not-queued", "there is no subscription")
            return self.subscribed


def read(content: bytes) -> dict[str, Any] | None:
    try:
        result = json.loads(content.decode())
    except (ValueError, RecursionError):
        return None
    match result:
        case {"result": _, "error": _}:
            return None
        case {"id": str(name), "result": value}:
            return {"id": name, "result": value}
        case {"id": str(name), "error": {"code": str(), "message": str()} as error}:
            known = {key: error[key] for key in ("code", "message", "data") if key in error}
            return {"id": name, "error": known}
    return None


class Pusher(threading.Thread):
    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.jobs: queue.Queue[Job] = queue.Queue()
        self.connection: Connection | None = None

    def run(self) -> None:
        while True:
            job = self.jobs.get()
            if listener.admit(job) and not job.settled.is_set():
                self.push(job)

    def push(self, job: Job) -> None:
        members = {"method": job.call["method"], "parameters": job.call.get("parameters")}
        message = json.dumps({**members, "channel": CHANNEL, "id": job.name}).encode()
        try:
            connection = self.connect()
        except (RedisError, OSError) as problem:
            job.fail("not-queued", problem)
            return
        try:
            with settling:  # it may have been settled while this connection was made
                if job.settled.is_set():
                    return
                connection.send_command("LPUSH", QUEUE, message)
            connection.read_response()
        except ResponseError as refusal:
            job.fail("not-queued", refusal)
        except (RedisError, OSError) as lost:
            self.connection = None
            if job.ends_at is None:
                job.fail("connection-lost", lost)

    def connect(self) -> Connection:
        if self.connection is None or closed(self.connection):
            self.connection = None
            connection = Connection(**OPTIONS)
            connection.connect()
            self.connection = connection
        return self.connection


def closed(connection: Connection) -> bool:
    try:
        return bool(connection.can_read())
    except (RedisError, OSError):
        return True


def run(job: Job) -> None:
    job.settled.wait(job.left_s())
    job.settle(timeout=True)
    with listener.changed:
        listener.jobs.pop(job.name, None)
    with writing:
        print(json.dumps({"seq": job.call["seq"], **job.outcome}), flush=True)


if __name__ == "__main__":
    listener, pusher = Listener(), Pusher()
    writing, settling = threading.Lock(), threading.Lock()
    listener.start()
    pusher.start()
    waiting = []
    for number, line in enumerate(sys.stdin):
        job = Job(json.loads(line), f"job-{number}")
        pusher.jobs.put(job)
        waiting.append(threading.Thread(target=run, args=(job,)))
        waiting[-1].start()
    for thread in waiting:
        thread.join()
