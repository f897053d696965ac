"""A time limit for an answer of Redis, in a loop that may have been held up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

GRACE_SECONDS = 0.1


class Patience:
    """As `asyncio.timeout`, but it ends only after the loop has looked at what arrived meanwhile.

    Where a handler has blocked the loop for longer than the limit, `asyncio.timeout` would take an
    answer that lies in the socket for no answer.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._timeout.__aenter__()
        self._handle = self._loop.call_later(self._seconds, self._pass)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._handle.cancel()
        await self._timeout.__aexit__(exc_type, exc, traceback)

    def _pass(self) -> None:
        self._timeout.reschedule(self._loop.time() + GRACE_SECONDS)
