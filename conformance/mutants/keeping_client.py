"""The base client with the feature `kept-results-client`: it looks up what it missed, and collects by handles.

The kept jobs of the event loop wait in `keeps`, by their ids. Each job that is detached and each handle that is
collected has a thread and a subscription of its own, a `Watch`.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from base_client import BACK_OFF_S, Client
from resp import Connection, ReplyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from base_client import Job, Json

HANDLE = re.compile(r"([0-9a-f]{40})\.([\w-]+)\.([\w-]+)", re.ASCII)
PING_S = 1.0  # after which a subscription that is silent is asked whether it is still there


class MalformedHandle(ValueError):
    """A text that is no handle."""


@dataclass
class Watch:
    """A job whose result is waited for on a channel of its own; `settles_at` is the end of that."""

    seq: Json
    id: str
    channel: str
    settles_at: float | None
    digest: str = ""
    message: bytes | None = None  # what is still to be pushed
    keep_ms: float = 0.0
    accepted: bool = True
    lost: bool = False


class KeepingClient(Client):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.keeps: dict[str, float] = {}
        self.accepted: set[str] = set()
        self.lost: set[str] = set()
        self.threads: list[threading.Thread] = []
        self.writing = threading.Lock()

    def serve(self) -> int:
        status = super().serve()
        for thread in self.threads:
            thread.join()
        return status

    def on_call(self, call: dict[str, Json]) -> None:
        if "collect" in call:
            self.on_collect(call)
        elif call.get("detached"):
            self.on_detached(call)
        else:
            super().on_call(call)

    # What is pushed.

    def encode(self, call: dict[str, Json], name: str) -> bytes:
        message = super().encode(call, name)
        keep_ms = self.keep_ms(call)
        if keep_ms is None:
            return message
        self.keeps[name] = call.get("keep_ms", 0.0)
        return self.dump({**self.parse(message), "keep_ms": keep_ms})

    def keep_ms(self, call: dict[str, Json]) -> Json:
        """The member of the job; None where it has none."""
        asked = call.get("keep_ms")
        return None if asked is None else int(asked)

    def on_push_answered(self, job: Job, reply: Json) -> None:
        self.accepted.add(job.id)
        super().on_push_answered(job, reply)

    # What a loss means.

    def on_subscribed(self) -> None:
        self.look()
        super().on_subscribed()

    def look(self) -> None:
        for job in list(self.pending.values()):
            if job.pushed and job.id in self.keeps:
                self.look_for(job)

    def look_for(self, job: Job) -> None:
        result = self.found(self.digest(job.message), job.id)
        if result is not None:
            self.settle(job, self.outcome(result))

    def found(self, digest: str, name: str) -> dict[str, Json] | None:
        """The stored result, if there is a valid one with this id."""
        stored = self.stored(digest)
        result = None if stored is None else self.read(stored)
        return result if result is not None and self.is_right(result, name) else None

    def is_right(self, result: dict[str, Json], name: str) -> bool:
        return bool(result["id"] == name)

    def stored(self, digest: str) -> bytes | None:
        connection = Connection(self.url, self.silence_s)
        try:
            stored: bytes | None = connection.call("GET", self.result_key(digest))
        except ReplyError as refusal:
            self.log(f"Redis refuses to tell a result: {refusal}")
            return None
        finally:
            connection.close()
        return stored

    def result_key(self, digest: str) -> str:
        return f"{self.queue}:result:{digest}"

    def digest(self, message: bytes) -> str:
        return hashlib.sha1(message, usedforsecurity=False).hexdigest()

    def outcome(self, result: dict[str, Json]) -> dict[str, Json]:
        if "error" in result:
            return {"error": self.error(result["error"])}
        return {"result": self.value(result["result"])}

    def on_result_lost(self, job: Job) -> None:
        if job.settles_at is None and self.waits_for(job):
            self.lost.add(job.id)
            job.settles_at = time.monotonic() + self.keeps[job.id] / 1000
        else:
            super().on_result_lost(job)

    def waits_for(self, job: Job) -> bool:
        return job.id in self.keeps and job.id in self.accepted

    def on_timeout(self, job: Job) -> None:
        if job.id in self.lost:
            self.settle_error(job, "connection-lost", "the result may be lost")
        else:
            super().on_timeout(job)

    # Handles.

    def on_detached(self, call: dict[str, Json]) -> None:
        self.calls += 1
        name = self.job_id(call)
        channel = self.own_channel()
        message = self.dump({**self.parse(self.encode(call, name)), "channel": channel})
        digest, keep_ms = self.digest(message), call["keep_ms"]
        self.start(
            Watch(call["seq"], name, channel, self.settles_at(call), digest, message, keep_ms)
        )

    def own_channel(self) -> str:
        return self.channel_name()

    def on_collect(self, call: dict[str, Json]) -> None:
        try:
            digest, name, channel = self.read_handle(call["collect"])
        except ValueError as malformed:
            self.on_malformed_handle(call, malformed)
            return
        self.start(Watch(call["seq"], name, channel, self.settles_at(call), digest))

    def on_malformed_handle(self, call: dict[str, Json], malformed: ValueError) -> None:
        error = {"code": "invalid-handle", "message": str(malformed)}
        self.say({"seq": call["seq"], "error": error})

    def handle(self, watch: Watch) -> str:
        return ".".join([watch.digest, self.spelled(watch.id), self.spelled(watch.channel)])

    def spelled(self, name: str) -> str:
        return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")

    def read_handle(self, handle: str) -> tuple[str, str, str]:
        match = HANDLE.fullmatch(handle)
        if match is None:
            raise MalformedHandle("a handle has three parts")
        digest, *names = match.groups()
        name, channel = (self.unspelled(each) for each in names)
        return digest, name, channel

    def unspelled(self, spelled: str) -> str:
        name = base64.urlsafe_b64decode(spelled + "=" * (-len(spelled) % 4)).decode()
        if not name or self.spelled(name) != spelled:
            raise MalformedHandle(f"{spelled} isn't how a name is spelled")
        return name

    # The thread of a watch.

    def start(self, watch: Watch) -> None:
        thread = threading.Thread(target=self.watch, args=(watch,))
        self.threads.append(thread)
        thread.start()

    def watch(self, watch: Watch) -> None:
        while True:
            try:
                outcome = self.listen(watch)
            except (OSError, ReplyError) as lost:
                self.log(f"subscription lost: {lost}")
                outcome = self.after_loss(watch)
                time.sleep(BACK_OFF_S)
            if outcome is not None:
                self.say({"seq": watch.seq, **outcome})
                return

    def listen(self, watch: Watch) -> dict[str, Json] | None:
        """Subscribe, push or look, and wait for the result."""
        subscription = Connection(self.url, self.silence_s)
        try:
            subscription.call("SUBSCRIBE", watch.channel)
            if watch.message is not None:
                refused = self.push_detached(watch)
                if refused is not None:
                    return refused
            else:
                found = self.found(watch.digest, watch.id)
                if found is not None:
                    return self.outcome(found)
            return self.wait_for_message(watch, subscription)
        finally:
            subscription.close()

    def push_detached(self, watch: Watch) -> dict[str, Json] | None:
        assert watch.message is not None
        message, watch.message, watch.accepted = watch.message, None, False
        pushes = Connection(self.url, self.silence_s)
        try:
            pushes.call("LPUSH", self.queue, message)
        except ReplyError as refusal:
            return {"error": {"code": "not-queued", "message": str(refusal)}}
        finally:
            pushes.close()
        watch.accepted = True
        self.say({"seq": watch.seq, "handle": self.handle(watch)})
        return None

    def wait_for_message(self, watch: Watch, subscription: Connection) -> dict[str, Json]:
        heard_at = time.monotonic()
        while True:
            now = time.monotonic()
            if watch.settles_at is not None and now >= watch.settles_at:
                return self.at_the_end(watch)
            if now > heard_at + self.silence_s:
                raise TimeoutError("Redis doesn't answer a PING")
            left = PING_S if watch.settles_at is None else min(PING_S, watch.settles_at - now)
            subscription.socket.settimeout(max(left, 0.001))
            try:
                reply: Any = subscription.read()
            except TimeoutError:
                subscription.send("PING")
                continue
            heard_at = time.monotonic()
            if reply[0] == b"message":
                result = self.read(reply[2])
                if result is not None and self.is_right(result, watch.id):
                    return self.outcome(result)

    def after_loss(self, watch: Watch) -> dict[str, Json] | None:
        now = time.monotonic()
        if watch.message is not None:
            return {"error": {"code": "not-queued", "message": "no connection"}}
        if watch.settles_at is None:
            watch.lost = True
            watch.settles_at = now + (watch.keep_ms / 1000 if watch.accepted else 0.0)
        return self.at_the_end(watch) if now >= watch.settles_at else None

    def at_the_end(self, watch: Watch) -> dict[str, Json]:
        if watch.lost:
            message = "the result may be lost"
            return {"error": {"code": "connection-lost", "message": message}}
        return {"timeout": True}

    def write(self, job: Job, outcome: dict[str, Json]) -> None:
        with self.writing:
            super().write(job, outcome)

    def say(self, line: dict[str, Json]) -> None:
        """Write a line about what has a thread."""
        with self.writing:
            print(self.dump(line).decode(), flush=True)
