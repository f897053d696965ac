"""The base client with the feature `expiry-client`: Redis's time, for each job that expires."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base_client import Client
from resp import Connection, ReplyError

if TYPE_CHECKING:
    from base_client import Json


class ExpiryClient(Client):
    def encode(self, call: dict[str, Json], name: str) -> bytes:
        message = super().encode(call, name)
        at_ms = self.expires_at_ms(call)
        return (
            message if at_ms is None else self.dump({**self.parse(message), **self.member(at_ms)})
        )

    def member(self, at_ms: float) -> dict[str, Json]:
        return {"expires_at_ms": at_ms}

    def expires_at_ms(self, call: dict[str, Json]) -> float | None:
        in_ms = call.get("expires_in_ms")
        return None if in_ms is None else self.now_ms() + in_ms

    def now_ms(self) -> float:
        while True:
            try:
                connection = Connection(self.url, self.silence_s)
                seconds, microseconds = connection.call("TIME")
                connection.close()
            except (OSError, ReplyError) as lost:
                self.log(f"no time: {lost}")
            else:
                return int(seconds) * 1_000 + int(microseconds) // 1_000
