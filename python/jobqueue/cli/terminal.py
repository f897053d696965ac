"""What the commands say: results on stdout, a fault in one sentence on stderr, and an exit status.

Nothing from Redis reaches a terminal as it is: what a terminal would obey, or not show, is escaped.
No sentence holds a Redis URL or a part of one, for a URL holds a password.
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

from jobqueue.wire.pools import pool_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TextIO

_WIDEST = 500  # characters of a cell, which is more than a terminal shows


class Status(IntEnum):
    """The exit statuses of `jobqueue`."""

    DONE = 0
    FAILED = 1  # the job's answer is an error, or the command was refused
    USAGE = 2  # the command line, its JSON, its URL or its module is wrong
    TIMEOUT = 3  # no result in time; the job may run yet
    NO_REDIS = 4  # Redis can't be reached or refuses; the job never runs
    LOST = 5  # a connection was lost; the job may have run
    INTERRUPTED = 130


class Fault(Exception):  # noqa: N818 - whose fault it is, its status says
    """What ends a command: one sentence for stderr, and an exit status."""

    def __init__(self, sentence: str, status: Status) -> None:
        super().__init__(sentence)
        self.status = status


def prepare_streams() -> None:
    """Write UTF-8 to stdout and stderr, whatever the locale: JSON is nothing else."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed; else the connection to Redis would get this number
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def say(line: str) -> None:
    """Write a line to stdout.

    Raises:
        Fault: It can't be written.
    """
    if sys.stdout is None:  # as Python makes it where it is closed
        raise Fault("standard output is closed, so the output is lost", Status.FAILED)
    try:
        sys.stdout.write(f"{line}\n")
    except OSError as error:
        raise _lost(error) from None


def flush() -> None:
    """Hand everything that was said to the system.

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
    if isinstance(error, BrokenPipeError):  # whoever read has gone, and needs no sentence
        return Fault("", Status.FAILED)
    return Fault(f"standard output can't be written: {error.strerror}", Status.FAILED)


def _discard(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere: Python would complain of it at its own end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(sentence: str) -> None:
    """Write a sentence to stderr, if there is one and anybody can be told."""
    if not sentence or sys.stderr is None:
        return
    try:
        sys.stderr.write(f"jobqueue: {plain(sentence)}\n")
    except OSError:
        _discard(sys.stderr)


def plain(text: str) -> str:
    r"""Escape what isn't printable, line breaks included, in the way of JSON.

    Bytes that aren't UTF-8, which are lone surrogates in a name, become `\xff`, as in Python.
    """
    bytes_told = re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)
    return _escaped(bytes_told)


def to_json(value: object) -> str:
    """Write a value as JSON in one line."""
    return _escaped(json.dumps(value, ensure_ascii=False))


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def say_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table: for people on a terminal; elsewhere a line for each row, with tabs between.

    Where a terminal is too narrow, its last column is cut.
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
        table.add_row(*(Text(plain(str(cell)[:_WIDEST])) for cell in row))
    Console().print(table)


def connect(url: str) -> redis.Redis:
    """Make a client for one command; it connects when it is used."""
    try:
        return redis.Redis.from_pool(pool_of(url))
    except (ValueError, redis.RedisError) as error:
        raise Fault(f"--redis or REDIS_URL: {error}", Status.USAGE) from None


@contextmanager
def talking_to(client: redis.Redis) -> Iterator[redis.Redis]:
    """Close the client at the end, and turn what Redis or the network does wrong into a Fault."""
    try:
        with client:
            yield client
    except redis.AuthenticationError as error:
        sentence = f"{_place(client)} refuses the credentials: {error}"
    except (redis.ConnectionError, redis.TimeoutError) as error:
        sentence = f"can't reach {_place(client)}: {error}"
    except redis.RedisError as error:
        sentence = f"{_place(client)} refuses the command: {error}"
    else:
        return
    raise Fault(sentence, Status.NO_REDIS)


def _place(client: redis.Redis) -> str:
    options = client.connection_pool.connection_kwargs
    where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"Redis at {where}"
