"""Client drivers that settle jobs wrongly, or at the wrong time (spec §6).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING

from base_client import Client, Job, Json

if TYPE_CHECKING:
    from resp import Connection

# client.settle


class SettleTwice(Client):
    registered: dict[str, Job] = {}  # noqa: RUF012 - replaced, never changed

    def register(self, job: Job) -> None:
        self.registered = {**self.registered, job.id: job}
        super().register(job)

    def find(self, result: dict[str, Json]) -> Job | None:
        return self.registered.get(result["id"])

    def settle(self, job: Job, outcome: dict[str, Json]) -> None:
        self.pending.pop(job.id, None)
        self.write(job, outcome)


class SettlesLate(Client):
    late: dict[str, Job] = {}  # noqa: RUF012 - replaced, never changed
    by: tuple[str, ...] = ("result", "error")

    def on_timeout(self, job: Job) -> None:
        super().on_timeout(job)
        self.late = {**self.late, job.id: job}

    def find(self, result: dict[str, Json]) -> Job | None:
        late = self.late.get(result["id"]) if result.keys() & set(self.by) else None
        return super().find(result) or late

    def settle(self, job: Job, outcome: dict[str, Json]) -> None:
        if job.id in self.late:
            self.write(job, outcome)
        super().settle(job, outcome)


class SettleAgainWhenLate(SettlesLate):
    pass


class SettleAgainByLateError(SettlesLate):
    by = ("error",)


class RefusedMeansLost(Client):
    def on_push_refused(self, job: Job, refusal: str) -> None:
        self.settle_error(job, "connection-lost", refusal)


class RefusedIgnored(Client):
    def on_push_refused(self, job: Job, refusal: str) -> None:
        self.log(refusal)


class RefusedPushedAgain(Client):
    def on_push_refused(self, job: Job, refusal: str) -> None:
        time.sleep(0.05)  # a back-off, without which it would ask as fast as it can
        self.unpushed.append(job)
        self.push_all()


class RefusedEndsClient(Client):
    def on_push_refused(self, job: Job, refusal: str) -> None:
        sys.exit(1)


class RefusedMeansTimeout(Client):
    def on_push_refused(self, job: Job, refusal: str) -> None:
        if job.settles_at is None:
            super().on_push_refused(job, refusal)


class TimeoutsRunOut(Client):
    timeouts = 0

    def settles_at(self, call: dict[str, Json]) -> float | None:
        settles_at = super().settles_at(call)
        self.timeouts += settles_at is not None
        return time.monotonic() if self.timeouts > 100 else settles_at


class SubscribeToAll(Client):
    def send_subscription(self, subscription: Connection) -> None:
        subscription.send("PSUBSCRIBE", f"{self.queue}:results:*")


# client.timeout


class TimeoutIgnored(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        return None


class TimeoutAsError(Client):
    def on_timeout(self, job: Job) -> None:
        self.settle_error(job, "handler-error", "no result came in time")


class TimeoutAsNull(Client):
    def on_timeout(self, job: Job) -> None:
        self.settle(job, {"result": None})


class TimeoutHalf(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        settles_at = super().settles_at(call)
        return None if settles_at is None else settles_at - call["timeout_ms"] / 2000


class TimeoutAtMostOneSecond(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        timeout_ms = call.get("timeout_ms")
        return super().settles_at({"timeout_ms": timeout_ms and min(timeout_ms, 1000)})


class TimeoutInThirtyTwoBits(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        timeout_ms = call.get("timeout_ms")
        return super().settles_at({"timeout_ms": timeout_ms and timeout_ms % (1 << 31)})


class TimeoutBeyondThirtyOneBitsAtOnce(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        timeout_ms = call.get("timeout_ms")
        return super().settles_at({"timeout_ms": 1 if (timeout_ms or 0) >= 1 << 31 else timeout_ms})


class TimeoutBeyondThirtyOneBitsMeansNone(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        timeout_ms = call.get("timeout_ms")
        return super().settles_at(
            {"timeout_ms": None if (timeout_ms or 0) >= 1 << 31 else timeout_ms}
        )


class TimeoutBeyondThirtyOneBitsStopsAll(Client):
    stopped = False

    def settles_at(self, call: dict[str, Json]) -> float | None:
        self.stopped = self.stopped or call.get("timeout_ms", 0) >= 1 << 31
        return super().settles_at(call)

    def on_timeout(self, job: Job) -> None:
        if not self.stopped:
            super().on_timeout(job)

    def patience_s(self) -> float | None:
        return 0.1 if self.stopped else super().patience_s()


class TimeoutBelowOneMeansNone(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        return super().settles_at({"timeout_ms": int(call.get("timeout_ms", 0)) or None})


class TimeoutInLocalTime(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        own = super().settles_at(call)
        return None if own is None else own + time.timezone


class NoTimeoutMeansOneSecond(Client):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        return super().settles_at({"timeout_ms": 1000, **call})


class TimeoutNeedsTraffic(Client):
    def patience_s(self) -> float | None:
        return None


class TimeoutFromPushAnswered(Client):
    pushed_at = 0.0

    def push(self, job: Job) -> None:
        self.pushed_at = time.monotonic()
        super().push(job)

    def on_push_answered(self, job: Job, reply: Json) -> None:
        if job.settles_at is not None:
            job.settles_at += time.monotonic() - self.pushed_at
        super().on_push_answered(job, reply)


class TimeoutOfOneEndsAll(Client):
    def on_timeout(self, job: Job) -> None:
        for other in list(self.pending.values()):
            super().on_timeout(other)


class TimeoutOfEarlierJob(Client):
    earliest = math.inf

    def settles_at(self, call: dict[str, Json]) -> float | None:
        own = super().settles_at(call)
        if own is not None:
            own = self.earliest = min(own, self.earliest)
        return own
