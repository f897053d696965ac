"""How commands write: results to stdout, a failure as one sentence to stderr, and an exit status.

Control characters are escaped before anything from Redis reaches a terminal. No sentence contains a
Redis URL or a part of one, since a URL may contain a password.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

import redis
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobqueue.protocol.keys import Keys
from jobqueue.wire.connection import error_reply, reason_of
from jobqueue.wire.pools import identity, pool_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TextIO

_CELL_LIMIT = 500  # characters, more than a terminal shows
_IN_ONE_SLOT = "{job-queue}"  # a queue that a cluster can have


class Status(IntEnum):
    """The exit statuses of `jobqueue`."""

    DONE = 0
    FAILED = 1  # the job failed, the command was refused, or output was lost
    USAGE = 2  # the command line, its JSON, its URL or its module is not valid
    TIMEOUT = 3  # no result in time; the job may have run, or may run later
    NO_REDIS = 4  # Redis can't be reached or refuses; no job was queued
    LOST = 5  # the connection was lost; the job may have run, or may run later
    NO_HANDLE = 6  # the text is not the handle of a job
    INTERRUPTED = 130


class Fault(Exception):  # noqa: N818 - the status says whether it is an error of the caller
    """Ends a command with one sentence for stderr and an exit status."""

    def __init__(self, sentence: str, status: Status) -> None:
        super().__init__(sentence)
        self.status = status


def prepare_streams() -> None:
    """Write UTF-8 to stdout and stderr in every locale, as JSON requires."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # it is closed, and the connection to Redis would get its number
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def say(line: str) -> None:
    """Write a line to stdout.

    Raises:
        Fault: It can't be written.
    """
    if sys.stdout is None:  # Python sets it to None if it is closed
        raise Fault("standard output is closed, so the output is lost", Status.FAILED)
    try:
        sys.stdout.write(f"{line}\n")
    except OSError as error:
        raise _lost(error) from None


def flush() -> None:
    """Flush stdout.

    Raises:
        Fault: It can't be written.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        raise _lost(error) from None


def _lost(error: OSError) -> Fault:
    _discard(sys.stdout)
    if isinstance(error, BrokenPipeError):  # the reader has ended: a message would be noise
        return Fault("", Status.FAILED)
    return Fault(f"can't write to standard output: {error.strerror}", Status.FAILED)


def _discard(stream: TextIO) -> None:
    """Discard what a stream has buffered: Python would report at exit that it can't write it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(sentence: str) -> None:
    """Write a sentence to stderr, unless it is empty or stderr is closed."""
    if not sentence or sys.stderr is None:
        return
    try:
        sys.stderr.write(f"jobqueue: {plain(sentence)}\n")
    except OSError:
        _discard(sys.stderr)


def plain(text: str) -> str:
    r"""Escape what isn't printable, line breaks included, as JSON does.

    Bytes that aren't UTF-8, which are lone surrogates in a name, become `\xff`, as in Python.
    """
    return _escaped(re.sub("[\udc80-\udcff]", lambda c: f"\\x{ord(c[0]) - 0xDC00:02x}", text))


def to_json(value: object) -> str:
    """Write a value as JSON in one line."""
    return _escaped(json.dumps(value, ensure_ascii=False))


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def say_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table to a terminal; to a pipe or a file, one line per row, with tabs between cells.

    On a narrow terminal the last column is truncated.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        for row in rows:
            say("\t".join(plain(str(cell)) for cell in row))
        return
    table = Table(box=None, pad_edge=False, expand=True)
    for title in header[:-1]:
        table.add_column(title, max_width=40, overflow="fold")
    table.add_column(header[-1], ratio=1, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(plain(str(cell)[:_CELL_LIMIT])) for cell in row))
    Console().print(table)


def connect(url: str, queue: str = _IN_ONE_SLOT) -> redis.Redis:
    """Return a client of redis-py for one command; it connects when it is first used.

    Raises:
        Fault: The URL is not valid, or not for this queue.
    """
    try:
        return redis.Redis.from_pool(pool_of(url, Keys.of(queue, "")))
    except (ValueError, redis.RedisError) as error:
        raise Fault(f"--redis or REDIS_URL: {error}", Status.USAGE) from None


@contextmanager
def talking_to(client: redis.Redis) -> Iterator[redis.Redis]:
    """Close the client at the end, and turn errors of Redis or the network into a Fault."""
    try:
        with client:
            yield client
    except redis.AuthenticationError as error:
        sentence = f"{_place(client)} refused the credentials: {error}"
    except (redis.ConnectionError, redis.TimeoutError) as error:
        sentence = f"can't connect to {_place(client)}: {reason_of(error)}"
    except redis.ResponseError as error:
        sentence = f"{_place(client)} refused the command: {error_reply(error).text}"
    except redis.RedisError as error:
        sentence = f"{_place(client)} can't be used: {error}"
    else:
        return
    raise Fault(sentence, Status.NO_REDIS)


def _place(client: redis.Redis) -> str:
    return f"Redis at {identity(client.connection_pool).rpartition('/')[0]}"
