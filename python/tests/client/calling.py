"""A client of either colour with the same blocking methods."""

from __future__ import annotations

import asyncio
from typing import Any

from jobqueue import Client, aio

from tests.conftest import DEADLINE_S


class Caller:
    """Runs one job at a time.

    Args:
        source: What the client takes.
        asynchronous: Whether it is one for asyncio, in a loop of its own.
        options: The client's other arguments.
    """

    def __init__(self, source: Any, *, asynchronous: bool, **options: Any) -> None:
        self._runner = asyncio.Runner() if asynchronous else None
        self._client: Any = (aio.Client if asynchronous else Client)(source, **options)

    def run(self, method: str, parameters: Any = None, *, timeout: float | None = None) -> Any:
        """Return the job's result, or raise its error."""
        if self._runner is None:
            return self._client.run(method, parameters, timeout=timeout).result(DEADLINE_S)
        return self._runner.run(self._answer(method, parameters, timeout))

    async def _answer(self, method: str, parameters: Any, timeout: float | None) -> Any:  # noqa: ASYNC109
        async with asyncio.timeout(DEADLINE_S):
            return await (await self._client.run(method, parameters, timeout=timeout))

    def close(self) -> None:
        """Close the client, and its loop."""
        if self._runner is None:
            self._client.close()
            return
        self._runner.run(self._client.close())
        self._runner.close()
