"""The base server with the feature `expiry`: Redis tells the time when a job has its place."""

from __future__ import annotations

import os

from base_server import Job, Json, Server, is_name
from resp import Connection, ReplyError


class ExpiryServer(Server):
    def run(self, job: Job) -> dict[str, Json]:
        method: Json = job.get("method")
        if is_name(method) and self.handler(method) is not None and self.has_expired(job):
            return self.refuse()
        return super().run(job)

    def refuse(self) -> dict[str, Json]:
        return self.error("expired", "the job wasn't started in time")

    def has_expired(self, job: Job) -> bool:
        at_ms: Json = job.get("expires_at_ms")
        return self.is_time(at_ms) and self.is_over(at_ms)

    def is_time(self, value: Json) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    def is_over(self, at_ms: float) -> bool:
        failures = 0
        while True:
            try:
                return self.now_ms() > at_ms
            except ReplyError as refusal:
                return self.on_no_time(refusal)
            except OSError as lost:
                self.log(f"no time: {lost}")
                if self.stopping and self.gives_up():
                    os._exit(1)
                failures += 1
                self.back_off(failures)

    def now_ms(self) -> float:
        connection = Connection(self.url, self.silence_s)
        try:
            seconds, microseconds = connection.call("TIME")
        finally:
            connection.close()
        return int(seconds) * 1_000 + int(microseconds) / 1_000

    def on_no_time(self, refusal: ReplyError) -> bool:
        self.log(f"no time: {refusal}")
        return False
