"""Clients that miss results although they are kept, or take other jobs for lost (spec §6.3).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import hashlib
import select
import time
from typing import TYPE_CHECKING

from expiry_client import ExpiryClient
from keeping_client import KeepingClient, Watch

if TYPE_CHECKING:
    from base_client import Job, Json


# client.kept.member


class ForgetsToKeep(KeepingClient):
    def keep_ms(self, call: dict[str, Json]) -> Json:
        return None


class KeepsAsAString(KeepingClient):
    def keep_ms(self, call: dict[str, Json]) -> Json:
        keep_ms = super().keep_ms(call)
        return None if keep_ms is None else str(keep_ms)


class KeepsAFraction(KeepingClient):
    def keep_ms(self, call: dict[str, Json]) -> Json:
        return call.get("keep_ms")


class KeepsForSeconds(KeepingClient):
    def keep_ms(self, call: dict[str, Json]) -> Json:
        asked = call.get("keep_ms")
        return None if asked is None else int(asked / 1000)


class KeepsAlways(KeepingClient):
    def keep_ms(self, call: dict[str, Json]) -> Json:
        return super().keep_ms(call) or 60_000


class KeepsOnlyTheFirst(KeepingClient):
    def keep_ms(self, call: dict[str, Json]) -> Json:
        return super().keep_ms(call) if self.calls == 1 else None


class KeepsWithoutTimeoutsOnly(KeepingClient):
    def keep_ms(self, call: dict[str, Json]) -> Json:
        return None if "timeout_ms" in call else super().keep_ms(call)


class KeepsBeforeALossOnly(KeepingClient):
    was_lost = False

    def on_subscription_lost(self, lost: Exception) -> None:
        self.was_lost = True
        super().on_subscription_lost(lost)

    def keep_ms(self, call: dict[str, Json]) -> Json:
        return None if self.was_lost else super().keep_ms(call)


class KeepsWithinA32BitNumber(KeepingClient):
    def keep_ms(self, call: dict[str, Json]) -> Json:
        keep_ms = super().keep_ms(call)
        return None if keep_ms is None else keep_ms & 0x7FFFFFFF


# client.kept.looks


class NeverLooks(KeepingClient):
    def look(self) -> None:
        pass


class LooksFirst(KeepingClient):
    def subscribe(self) -> None:
        try:
            super().look()
        except OSError as lost:
            self.log(f"no look: {lost}")
        super().subscribe()

    def look(self) -> None:
        pass


class LooksAfterTheFirstLossOnly(KeepingClient):
    looks = 0

    def look(self) -> None:
        self.looks += 1
        if self.looks <= 2:  # the first subscription follows no loss
            super().look()


class LooksOnceForAJob(KeepingClient):
    looked: tuple[str, ...] = ()

    def look_for(self, job: Job) -> None:
        if job.id not in self.looked:
            self.looked += (job.id,)
            super().look_for(job)


class LooksNoMoreOnceForbidden(KeepingClient):
    may_look = True

    def look(self) -> None:
        if self.may_look:
            super().look()

    def log(self, sentence: str) -> None:
        self.may_look = self.may_look and "NOPERM" not in sentence
        super().log(sentence)


class LooksForOneJob(KeepingClient):
    def look(self) -> None:
        for job in list(self.pending.values())[:1]:
            if job.pushed and job.id in self.keeps:
                self.look_for(job)


class LooksForEightJobs(KeepingClient):
    def look(self) -> None:
        for job in list(self.pending.values())[:8]:
            if job.pushed and job.id in self.keeps:
                self.look_for(job)


class LooksForTimedJobsOnly(KeepingClient):
    def look_for(self, job: Job) -> None:
        if job.settles_at is not None and job.id not in self.lost:
            super().look_for(job)


class LooksForUntimedJobsOnly(KeepingClient):
    def look_for(self, job: Job) -> None:
        if job.settles_at is None or job.id in self.lost:
            super().look_for(job)


class LooksUnderTheId(KeepingClient):
    def look_for(self, job: Job) -> None:
        result = self.found(self.digest(job.id.encode()), job.id)
        if result is not None:
            self.settle(job, self.outcome(result))


class LooksUnderAnotherDigest(KeepingClient):
    def digest(self, message: bytes) -> str:
        return hashlib.sha256(message).hexdigest()[:40]


class LooksUnderAnotherQueue(KeepingClient):
    def result_key(self, digest: str) -> str:
        return f"job-queue:result:{digest}"


class FindsNoNull(KeepingClient):
    def found(self, digest: str, name: str) -> dict[str, Json] | None:
        result = super().found(digest, name)
        return None if result is None or result.get("result", "") is None else result


class FindsNoErrors(KeepingClient):
    def found(self, digest: str, name: str) -> dict[str, Json] | None:
        result = super().found(digest, name)
        return None if result is None or "error" in result else result


class FindsNothingLarge(KeepingClient):
    def stored(self, digest: str) -> bytes | None:
        stored = super().stored(digest)
        return None if stored is None or len(stored) > 65_536 else stored


class TakesWhateverItFinds(KeepingClient):
    def found(self, digest: str, name: str) -> dict[str, Json] | None:
        stored = self.stored(digest)
        return None if stored is None else self.read(stored) or {"result": stored.decode()}


class TakesAnothersResult(KeepingClient):
    def is_right(self, result: dict[str, Json], name: str) -> bool:
        return True


class GivesUpWhereNothingIsFound(KeepingClient):
    """It takes a job whose result isn't stored for a lost one."""

    def look_for(self, job: Job) -> None:
        super().look_for(job)
        self.settle_error(job, "connection-lost", "no result is stored")


# client.kept.waits and client.kept.lost


class DeafOnceItHasLooked(KeepingClient):
    looked: tuple[str, ...] = ()

    def look_for(self, job: Job) -> None:
        super().look_for(job)
        self.looked += (job.id,)

    def find(self, result: dict[str, Json]) -> Job | None:
        job = super().find(result)
        return None if job is not None and job.id in self.looked else job


class DeafWhileItLooks(KeepingClient):
    def look(self) -> None:
        super().look()
        subscription = self.subscription
        while subscription is not None and select.select([subscription.socket], [], [], 0)[0]:
            subscription.receive()


class LosesKeptJobsAtOnce(KeepingClient):
    def waits_for(self, job: Job) -> bool:
        return False


class WaitsForWhatWasNeverAnswered(KeepingClient):
    def waits_for(self, job: Job) -> bool:
        return job.id in self.keeps


class WaitsForEver(KeepingClient):
    def on_result_lost(self, job: Job) -> None:
        if job.settles_at is not None or not self.waits_for(job):
            super().on_result_lost(job)


class WaitsForHalfOfIt(KeepingClient):
    def on_result_lost(self, job: Job) -> None:
        was_lost = job.id in self.lost
        super().on_result_lost(job)
        if job.id in self.lost and not was_lost:
            job.settles_at = time.monotonic() + self.keeps[job.id] / 2000


class WaitsFromTheLastLoss(KeepingClient):
    def on_result_lost(self, job: Job) -> None:
        if job.id in self.lost:
            job.settles_at = time.monotonic() + self.keeps[job.id] / 1000
        else:
            super().on_result_lost(job)


class WaitsFromThePush(KeepingClient):
    def on_push_answered(self, job: Job, reply: Json) -> None:
        super().on_push_answered(job, reply)
        if job.settles_at is None and job.id in self.keeps:
            self.lost.add(job.id)
            job.settles_at = time.monotonic() + self.keeps[job.id] / 1000


class LosesTimedJobsToo(KeepingClient):
    def on_result_lost(self, job: Job) -> None:
        if self.waits_for(job) and job.id not in self.lost:
            self.lost.add(job.id)
            job.settles_at = time.monotonic() + self.keeps[job.id] / 1000
        else:
            super().on_result_lost(job)


class LosesAllWithTheFirst(KeepingClient):
    """It has one time for all of its kept jobs, the shortest."""

    def on_result_lost(self, job: Job) -> None:
        super().on_result_lost(job)
        if job.id in self.lost and job.settles_at is not None:
            ends = [self.pending[each].settles_at for each in self.lost if each in self.pending]
            job.settles_at = min([job.settles_at, *(end for end in ends if end is not None)])


class TimesOutInPlaceOfALoss(KeepingClient):
    def on_timeout(self, job: Job) -> None:
        self.settle(job, {"timeout": True})


# client.kept.looks and client.kept.handle, of jobs that expire


class ForgetsTheExpiry(KeepingClient, ExpiryClient):
    def without_expiry(self, message: bytes) -> bytes:
        """A job as it was before it got the time at which it expires."""
        job = self.parse(message)
        job.pop("expires_at_ms", None)
        return self.dump(job)


class LooksForAJobWithoutItsExpiry(ForgetsTheExpiry):
    def look_for(self, job: Job) -> None:
        result = self.found(self.digest(self.without_expiry(job.message)), job.id)
        if result is not None:
            self.settle(job, self.outcome(result))


class HandleOfAJobWithoutItsExpiry(ForgetsTheExpiry):
    def start(self, watch: Watch) -> None:
        if watch.message is not None:
            watch.digest = self.digest(self.without_expiry(watch.message))
        super().start(watch)


class LosesAtOnceWhatIsKeptForLong(KeepingClient):
    def on_result_lost(self, job: Job) -> None:
        if self.keeps.get(job.id, 0) >= 2**31:
            del self.keeps[job.id]
        super().on_result_lost(job)


class LooksNoFurtherThanARefusal(KeepingClient):
    refused = False

    def look(self) -> None:
        self.refused = False
        super().look()

    def look_for(self, job: Job) -> None:
        if not self.refused:
            super().look_for(job)

    def log(self, sentence: str) -> None:
        self.refused = self.refused or "refuses to tell" in sentence
        super().log(sentence)
