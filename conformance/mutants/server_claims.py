"""Servers that use the wrong list, or claim wrongly (spec §7.1).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

from base_server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping


# server.list


class ListOfDefaultQueue(Server):
    def list_name(self, environment: Mapping[str, str]) -> str:
        return (
            super()
            .list_name({**environment, "JOBQUEUE_IN_PROCESS": ""})
            .replace(self.queue, "job-queue")
        )


class ListIgnoresWholeKey(Server):
    def list_name(self, environment: Mapping[str, str]) -> str:
        return super().list_name({**environment, "JOBQUEUE_IN_PROCESS": ""})


class ListNamedAnotherWay(Server):
    def list_name(self, environment: Mapping[str, str]) -> str:
        whole = environment.get("JOBQUEUE_IN_PROCESS")
        return whole or f"{self.queue}:processing:{environment['JOBQUEUE_PROCESSOR']}"


class ListLowerCase(Server):
    def list_name(self, environment: Mapping[str, str]) -> str:
        return super().list_name(environment).lower()


class ListShared(Server):
    def list_name(self, environment: Mapping[str, str]) -> str:
        return environment.get("JOBQUEUE_IN_PROCESS") or f"{self.queue}:in-process"


class ListsOfAllRecovered(Server):
    def look(self) -> list[bytes]:
        assert self.claims is not None
        for other in self.claims.call("KEYS", f"{self.queue}:in-process:*"):
            while other.decode() != self.list:
                if self.claims.call("LMOVE", other, self.list, "RIGHT", "LEFT") is None:
                    break
        return super().look()


class ListRandom(Server):
    def list_name(self, environment: Mapping[str, str]) -> str:
        return f"{super().list_name(environment)}-{uuid.uuid4()}"


class ListOfProcess(Server):
    def list_name(self, environment: Mapping[str, str]) -> str:
        whole = environment.get("JOBQUEUE_IN_PROCESS")
        return whole or f"{super().list_name(environment)}:{os.getpid()}"


# server.claim


class ClaimPopThenPush(Server):
    def claim(self) -> bytes | None:
        assert self.claims is not None
        popped = self.claims.call("BRPOP", self.queue, str(self.block_s))
        if popped is None:
            return None
        raw: bytes = popped[1]
        self.claims.call("LPUSH", self.list, raw)
        return raw


class ClaimCopyThenPop(Server):
    def claim(self) -> bytes | None:
        assert self.claims is not None
        raw: bytes | None = self.claims.call("LINDEX", self.queue, -1)
        if raw is None:
            return super().claim()
        self.claims.call("LPUSH", self.list, raw)
        self.claims.call("RPOP", self.queue)
        return raw


class ClaimToRightEnd(Server):
    def claim(self) -> bytes | None:
        assert self.claims is not None
        raw: bytes | None = self.claims.call(
            "BLMOVE", self.queue, self.list, "RIGHT", "RIGHT", str(self.block_s)
        )
        return raw


class ClaimNewestFirst(Server):
    def claim(self) -> bytes | None:
        assert self.claims is not None
        raw: bytes | None = self.claims.call(
            "BLMOVE", self.queue, self.list, "LEFT", "LEFT", str(self.block_s)
        )
        return raw


class ClaimNewestWhenBusy(Server):
    def claim(self) -> bytes | None:
        assert self.claims is not None
        if self.claims.call("LLEN", self.queue) > 3:
            raw: bytes = self.claims.call("LMOVE", self.queue, self.list, "LEFT", "LEFT")
            return raw
        return super().claim()


# server.list.lasting


class ListLivesForADay(Server):
    def claim(self) -> bytes | None:
        raw = super().claim()
        assert self.claims is not None
        self.claims.call("EXPIRE", self.list, 86_400)
        return raw


class QueueLivesForADay(Server):
    def claim(self) -> bytes | None:
        raw = super().claim()
        assert self.claims is not None
        self.claims.call("EXPIRE", self.queue, 86_400)
        return raw


# server.claim.order


class ClaimsTheNewestAfterFourConnects(Server):
    connects = 0

    def connect(self) -> None:
        self.connects += 1
        super().connect()

    def claim(self) -> bytes | None:
        if self.connects <= 4:
            return super().claim()
        assert self.claims is not None
        raw: bytes | None = self.claims.call(
            "BLMOVE", self.queue, self.list, "LEFT", "LEFT", str(self.block_s)
        )
        return raw
