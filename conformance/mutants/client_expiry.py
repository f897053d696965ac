"""Clients that let the wrong jobs expire, or at the wrong time (spec §6.2).

Each class is one mutant. Its bug is what it overrides; mutants.toml says in words what is wrong,
which requirement that breaks, and which tests notice.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from expiry_client import ExpiryClient

if TYPE_CHECKING:
    from base_client import Json


# client.expiry.member


class ForgetsToExpire(ExpiryClient):
    def member(self, _at_ms: float) -> dict[str, Json]:
        return {}


class ExpiresAsAString(ExpiryClient):
    def member(self, at_ms: float) -> dict[str, Json]:
        return {"expires_at_ms": str(at_ms)}


class ExpiresAfterADuration(ExpiryClient):
    def now_ms(self) -> float:
        return 0


class ExpiresAtSeconds(ExpiryClient):
    def member(self, at_ms: float) -> dict[str, Json]:
        return {"expires_at_ms": at_ms / 1_000}


class ExpiresByTheTimeout(ExpiryClient):
    """It lets each job with a timeout expire, too."""

    def expires_at_ms(self, call: dict[str, Json]) -> float | None:
        at_ms = super().expires_at_ms(call)
        timeout_ms = call.get("timeout_ms")
        return self.now_ms() + timeout_ms if at_ms is None and timeout_ms is not None else at_ms


class ExpiresAlways(ExpiryClient):
    def expires_at_ms(self, call: dict[str, Json]) -> float | None:
        return super().expires_at_ms(call) or self.now_ms() + 1e10


class ExpiresOnlyTheFirst(ExpiryClient):
    def expires_at_ms(self, call: dict[str, Json]) -> float | None:
        return super().expires_at_ms(call) if self.calls == 1 else None


class ExpiresBeforeALossOnly(ExpiryClient):
    lost = False

    def on_subscription_lost(self, lost: Exception) -> None:
        self.lost = True
        super().on_subscription_lost(lost)

    def expires_at_ms(self, call: dict[str, Json]) -> float | None:
        return None if self.lost else super().expires_at_ms(call)


class ExpiresWithinA32BitNumber(ExpiryClient):
    def expires_at_ms(self, call: dict[str, Json]) -> float | None:
        in_ms = call.get("expires_in_ms")
        return None if in_ms is None else self.now_ms() + min(in_ms, 2**24)


# client.expiry.clock


class ExpiresByItsOwnTime(ExpiryClient):
    def now_ms(self) -> float:
        return time.time() * 1_000


class ExpiresNeverAtOnce(ExpiryClient):
    def expires_at_ms(self, call: dict[str, Json]) -> float | None:
        return super().expires_at_ms(call) if call.get("expires_in_ms") else None
