"""Connections that ask where Redis is, each time that they connect: for threads and for asyncio.

A failover, or a slot that has moved to another node, is found by connecting again.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis import asyncio as aio
from redis import connection as plain

from jobqueue.wire.connection import NotFoundError, not_answered, socket_of, transport_of
from jobqueue.wire.lookup import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobqueue.wire.lookup import Address, Lookup

ASK_SECONDS = 2.0  # to connect, and again for the reply
CONNECT_SECONDS = 3.0  # to connect to what was found
LOOK_SECONDS = 3.0  # after which no further address is asked in one attempt


class _Finding:
    """Mixed into a connection of redis-py.

    Args:
        lookup: What to ask.
        asking: The connections to ask with: a class of redis-py, and its arguments.
        settings: Arguments of the connection.
    """

    def __init__(
        self, *, lookup: Lookup, asking: tuple[Any, Mapping[str, Any]], **settings: Any
    ) -> None:
        super().__init__(**settings)
        self._lookup = lookup
        self._asking = asking


class Found(_Finding, plain.Connection):
    """A connection to the Redis that was found."""

    def connect(self) -> None:
        """Ask, and connect."""
        if socket_of(self) is None:
            self.host, self.port = _find(self._lookup, *self._asking)
        super().connect()  # type: ignore[no-untyped-call]


class FoundTls(Found, plain.SSLConnection):
    """The same with TLS."""


class AioFound(_Finding, aio.Connection):
    """A connection to the Redis that was found, for asyncio."""

    async def connect(self) -> None:
        """Ask, and connect."""
        if socket_of(self) is None:
            self.host, self.port = await _aio_find(self._lookup, *self._asking)
        await super().connect()  # type: ignore[no-untyped-call]


class AioTls(aio.SSLConnection):
    """A connection that is closed at once: a farewell of TLS may take longer than its loop lives."""

    async def disconnect(self, *arguments: Any, **options: Any) -> None:
        """Abort, and disconnect."""
        with suppress(AttributeError):  # it isn't connected
            transport_of(self).abort()
        await super().disconnect(*arguments, **options)


class AioFoundTls(AioFound, AioTls):
    """A connection to the Redis that was found, with TLS."""


def _find(lookup: Lookup, connection_class: Any, settings: Mapping[str, Any]) -> Address:
    reasons = []
    until = time.monotonic() + LOOK_SECONDS
    for host, port in lookup.turn():
        connection = connection_class(**settings, host=host, port=port)
        try:
            connection.connect()
            connection.send_command(*lookup.command)
            return lookup.read(connection.read_response(), (host, port))
        except Exception as error:
            reasons.append(
                f"{shown((host, port))}: {not_answered(error, connection_class, settings)}"
            )
        finally:
            with suppress(Exception):
                connection.disconnect()
        if time.monotonic() > until:
            break
    raise NotFoundError("; ".join(reasons))


async def _aio_find(lookup: Lookup, connection_class: Any, settings: Mapping[str, Any]) -> Address:
    reasons = []
    until = time.monotonic() + LOOK_SECONDS
    for host, port in lookup.turn():
        connection = connection_class(**settings, host=host, port=port)
        try:
            async with asyncio.timeout(2 * ASK_SECONDS):
                await connection.connect()
                await connection.send_command(*lookup.command)
                return lookup.read(await connection.read_response(), (host, port))
        except Exception as error:
            reasons.append(
                f"{shown((host, port))}: {not_answered(error, connection_class, settings)}"
            )
        finally:
            with suppress(Exception):
                await connection.disconnect(nowait=True)
        if time.monotonic() > until:
            break
    raise NotFoundError("; ".join(reasons))
