"""Clients that give wrong handles, or collect by them what they shouldn't or not what they should (spec §6.3).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import base64
import binascii
import time
from typing import TYPE_CHECKING

from keeping_client import KeepingClient, MalformedHandle, Watch
from resp import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from base_client import Json


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


class LooksForEightDetachedJobs(KeepingClient):
    def listen(self, watch: Watch) -> dict[str, Json] | None:
        if watch.message is None and watch.keep_ms and int(watch.id) > 8:
            watch.digest = "0" * 40
        return super().listen(watch)


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


class LostCollectionWaitsFiveSeconds(KeepingClient):
    def after_loss(self, watch: Watch) -> dict[str, Json] | None:
        if watch.keep_ms == 0:
            watch.settles_at = max(watch.settles_at or 0.0, time.monotonic() + 5.0)
        return super().after_loss(watch)


class CollectsForThirtyOneBits(KeepingClient):
    def settles_at(self, call: dict[str, Json]) -> float | None:
        if "collect" in call and call["timeout_ms"] >= 2**31:
            return time.monotonic()
        return super().settles_at(call)


class TimeoutDeafensTheSameHandle(KeepingClient):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.subscriptions: dict[str, list[Connection]] = {}

    def wait_for_message(self, watch: Watch, subscription: Connection) -> dict[str, Json]:
        self.subscriptions.setdefault(watch.channel, []).append(subscription)
        return super().wait_for_message(watch, subscription)

    def at_the_end(self, watch: Watch) -> dict[str, Json]:
        for each in self.subscriptions[watch.channel]:
            each.send("UNSUBSCRIBE", watch.channel)
        return super().at_the_end(watch)


class DetachedIsPushedUnheard(KeepingClient):
    def listen(self, watch: Watch) -> dict[str, Json] | None:
        refused = None if watch.message is None else self.push_detached(watch)
        return refused or super().listen(watch)


class DetachedAndUnansweredWaits(KeepingClient):
    def after_loss(self, watch: Watch) -> dict[str, Json] | None:
        watch.accepted = True
        return super().after_loss(watch)


class ForbiddenLookIsNeverOver(KeepingClient):
    def log(self, sentence: str) -> None:
        super().log(sentence)
        if "refuses to tell" in sentence:
            raise SystemExit  # which ends a thread in silence


class DetachedHearsOnAnyChannel(KeepingClient):
    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.watches: dict[str, Watch] = {}

    def start(self, watch: Watch) -> None:
        self.watches[watch.id] = watch
        super().start(watch)

    def on_unknown(self, result: dict[str, Json]) -> None:
        watch = self.watches.get(result["id"])
        if watch is None:
            super().on_unknown(result)
        else:
            self.say({"seq": watch.seq, **self.outcome(result)})
