"""Clients that miss results although they are kept, or take other jobs for lost (spec §6.3).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import select
import time
from typing import TYPE_CHECKING

from expiry_client import ExpiryClient
from keeping_client import KeepingClient, MalformedHandle, Watch
from resp import Connection

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


# client.kept.handle and client.kept.own-channel


class GivesNoHandle(KeepingClient):
    def handle(self, watch: Watch) -> str:
        return ""


class GivesTheHandleFirst(KeepingClient):
    def push_detached(self, watch: Watch) -> dict[str, Json] | None:
        self.say({"seq": watch.seq, "handle": self.handle(watch)})
        return super().push_detached(watch)


class SwapsTheParts(KeepingClient):
    def handle(self, watch: Watch) -> str:
        return ".".join([watch.digest, self.spelled(watch.channel), self.spelled(watch.id)])


class PadsItsHandles(KeepingClient):
    def handle(self, watch: Watch) -> str:
        names = [
            base64.urlsafe_b64encode(each.encode()).decode() for each in (watch.id, watch.channel)
        ]
        return ".".join([watch.digest, *names])


class WritesItsHandlesInCapitals(KeepingClient):
    def handle(self, watch: Watch) -> str:
        return super().handle(watch).replace(watch.digest, watch.digest.upper())


class HandlesTheDigestOfTheId(KeepingClient):
    def handle(self, watch: Watch) -> str:
        return super().handle(watch).replace(watch.digest, self.digest(watch.id.encode()))


class HandlesNothingAfterALoss(KeepingClient):
    was_lost = False

    def on_subscription_lost(self, lost: Exception) -> None:
        self.was_lost = True
        super().on_subscription_lost(lost)

    def push_detached(self, watch: Watch) -> dict[str, Json] | None:
        if self.was_lost:
            watch.digest = self.digest(b"")
        return super().push_detached(watch)


class DetachesOnItsChannel(KeepingClient):
    def own_channel(self) -> str:
        return self.channel


class DetachesOnOneChannel(KeepingClient):
    other = ""

    def own_channel(self) -> str:
        self.other = self.other or self.channel_name()
        return self.other


class DetachesOnAGuessableChannel(KeepingClient):
    def own_channel(self) -> str:
        return f"{self.queue}:results:{self.calls}"


# client.kept.collects


class CollectsBeforeItListens(KeepingClient):
    def listen(self, watch: Watch) -> dict[str, Json] | None:
        subscription = Connection(self.url, self.silence_s)
        try:
            found = None if watch.message else super().found(watch.digest, watch.id)
            if found is not None:
                return self.outcome(found)
            subscription.call("SUBSCRIBE", watch.channel)
            if watch.message is not None:
                refused = self.push_detached(watch)
                if refused is not None:
                    return refused
            return self.wait_for_message(watch, subscription)
        finally:
            subscription.close()


class CollectsOnlyWhatIsStored(KeepingClient):
    def wait_for_message(self, watch: Watch, subscription: Connection) -> dict[str, Json]:
        if watch.message is None and watch.keep_ms:
            return super().wait_for_message(watch, subscription)
        while watch.settles_at is not None and time.monotonic() < watch.settles_at:
            time.sleep(0.05)
        return self.at_the_end(watch)


class CollectsByPolling(KeepingClient):
    def wait_for_message(self, watch: Watch, subscription: Connection) -> dict[str, Json]:
        while watch.settles_at is None or time.monotonic() < watch.settles_at:
            found = self.found(watch.digest, watch.id)
            if found is not None:
                return self.outcome(found)
            time.sleep(0.05)
        return self.at_the_end(watch)


class CollectsOnlyWhatIsPublished(KeepingClient):
    def listen(self, watch: Watch) -> dict[str, Json] | None:
        if watch.message is None:
            watch.digest = "0" * 40
        return super().listen(watch)


class CollectsOnlyItsOwn(KeepingClient):
    own: tuple[str, ...] = ()

    def handle(self, watch: Watch) -> str:
        self.own += (watch.channel,)
        return super().handle(watch)

    def listen(self, watch: Watch) -> dict[str, Json] | None:
        if watch.message is None and watch.channel not in self.own:
            time.sleep(max(0.0, (watch.settles_at or 0.0) - time.monotonic()))
            return self.at_the_end(watch)
        return super().listen(watch)


class CollectsUntilALoss(KeepingClient):
    def after_loss(self, watch: Watch) -> dict[str, Json] | None:
        if watch.message is None and not watch.keep_ms:
            return {"error": {"code": "connection-lost", "message": "a lost connection"}}
        return super().after_loss(watch)


class LooksOnceForAHandle(KeepingClient):
    looked: tuple[str, ...] = ()

    def found(self, digest: str, name: str) -> dict[str, Json] | None:
        if digest in self.looked:
            return None
        self.looked += (digest,)
        return super().found(digest, name)


class CollectsOneAtATime(KeepingClient):
    def start(self, watch: Watch) -> None:
        if watch.message is None:
            for thread in self.threads:
                thread.join()
        super().start(watch)


class DeletesWhatItCollects(KeepingClient):
    def found(self, digest: str, name: str) -> dict[str, Json] | None:
        result = super().found(digest, name)
        if result is not None:
            connection = Connection(self.url, self.silence_s)
            connection.call("DEL", self.result_key(digest))
            connection.close()
        return result


class CollectsPlainNamesOnly(KeepingClient):
    def unspelled(self, spelled: str) -> str:
        name = super().unspelled(spelled)
        return name.encode("ascii", "replace").decode()


# client.kept.malformed


class CollectsWhateverItIsGiven(KeepingClient):
    def on_malformed_handle(self, call: dict[str, Json], malformed: ValueError) -> None:
        self.start(Watch(call["seq"], "?", call["collect"] or "?", self.settles_at(call), "0" * 40))


class TimesOutOnMalformedHandles(KeepingClient):
    def on_malformed_handle(self, call: dict[str, Json], malformed: ValueError) -> None:
        self.say({"seq": call["seq"], "timeout": True})


class DiesOfMalformedHandles(KeepingClient):
    def on_malformed_handle(self, call: dict[str, Json], malformed: ValueError) -> None:
        raise malformed


class TakesPaddedHandles(KeepingClient):
    def read_handle(self, handle: str) -> tuple[str, str, str]:
        return super().read_handle(handle.replace("=", ""))


class TakesHandlesInCapitals(KeepingClient):
    def read_handle(self, handle: str) -> tuple[str, str, str]:
        return super().read_handle(handle[:40].lower() + handle[40:])


class TakesHandlesWithSpaces(KeepingClient):
    def read_handle(self, handle: str) -> tuple[str, str, str]:
        return super().read_handle(handle.strip())


class TakesAnySpelling(KeepingClient):
    def unspelled(self, spelled: str) -> str:
        try:
            return base64.urlsafe_b64decode(spelled + "=" * (-len(spelled) % 4)).decode()
        except binascii.Error as error:
            raise MalformedHandle(str(error)) from error


class TakesWhatIsNoUtf8(KeepingClient):
    def unspelled(self, spelled: str) -> str:
        try:
            return super().unspelled(spelled)
        except UnicodeDecodeError:
            return "?"


# client.timeout.settles


class LostCollectionWaitsAnew(KeepingClient):
    def on_collect(self, call: dict[str, Json]) -> None:
        self.waits_s = call["timeout_ms"] / 1000
        super().on_collect(call)

    def after_loss(self, watch: Watch) -> dict[str, Json] | None:
        if watch.keep_ms == 0:
            watch.settles_at = time.monotonic() + self.waits_s
        return super().after_loss(watch)


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
