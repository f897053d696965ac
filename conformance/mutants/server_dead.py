"""Servers that treat dead messages, or the dead list, wrongly (spec §7.4).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

from base_server import Server
from resp import ReplyError

# server.dead.removed, server.dead.odd-bytes, server.dead-list.keeps


class DeadLeft(Server):
    def bury(self, raw: bytes) -> None:
        self.keep(raw)


class DeadEmptyLeft(Server):
    def bury(self, raw: bytes) -> None:
        self.keep(raw)
        if raw:
            self.remove(raw)


class OddBytesLeft(Server):
    def bury(self, raw: bytes) -> None:
        try:
            raw.decode()
        except UnicodeDecodeError:
            return
        super().bury(raw)


class DeepNestingLeft(Server):
    def bury(self, raw: bytes) -> None:
        if raw.count(b"[") < 1000:
            super().bury(raw)


class DeadNoted(Server):
    def bury(self, raw: bytes) -> None:
        super().bury(raw)
        self.ask("LPUSH", self.list, self.dump({"dead": raw.decode(errors="replace")}))


class DeadStopsServing(Server):
    def bury(self, raw: bytes) -> None:
        super().bury(raw)
        self.stopping = True


class DeadForgotten(Server):
    def keep(self, raw: bytes) -> None:
        pass


class DeadLivesForADay(Server):
    def keep(self, raw: bytes) -> None:
        super().keep(raw)
        self.ask("EXPIRE", self.dead, 86_400)


class DeadKeptTwice(Server):
    def keep(self, raw: bytes) -> None:
        super().keep(raw)
        super().keep(raw)


class DeadKeptAfterRemoval(Server):
    def bury(self, raw: bytes) -> None:
        self.remove(raw)
        self.keep(raw)


class DeadKeptAsText(Server):
    def keep(self, raw: bytes) -> None:
        super().keep(raw.decode(errors="replace").encode())


class DeadKeptInEnvelope(Server):
    def keep(self, raw: bytes) -> None:
        super().keep(self.dump({"message": raw.decode(errors="replace"), "reason": "dead"}))


class DeadKeptOnOneList(Server):
    def keep(self, raw: bytes) -> None:
        self.ask("LPUSH", "job-queue:dead", raw)


class RecoveredDeadForgotten(Server):
    recovered: tuple[bytes, ...] = ()

    def look(self) -> list[bytes]:
        found = super().look()
        self.recovered += tuple(found)
        return found

    def keep(self, raw: bytes) -> None:
        if raw not in self.recovered:
            super().keep(raw)


class DeadForbiddenForgotten(Server):
    def keep(self, raw: bytes) -> None:
        if self.read(raw) is None:
            super().keep(raw)


class DeadListEmptied(Server):
    def connect(self) -> None:
        super().connect()
        assert self.claims is not None
        self.claims.call("DEL", self.dead)


class DeadIsForgottenWhereMemoryIsShort(Server):
    def keep(self, raw: bytes) -> None:
        try:
            super().keep(raw)
        except ReplyError as refusal:
            if not str(refusal).startswith("OOM"):
                raise
