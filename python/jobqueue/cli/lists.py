"""`jobqueue status`, `requeue` and `unregister`: count a queue's lists; requeue or forget one of them."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from jobqueue import admin
from jobqueue.cli.options import Json, Queue, Url
from jobqueue.cli.terminal import (
    Fault,
    Status,
    complain,
    connect,
    plain,
    say,
    say_table,
    talking_to,
    to_json,
)
from jobqueue.core.keeping import LIMIT_SECONDS
from jobqueue.errors import ProcessorInUse
from jobqueue.host.lock import ProcessorLock
from jobqueue.protocol import keys
from jobqueue.wire.pools import DEFAULT_URL, identity

Processor = Annotated[
    str | None,
    typer.Argument(metavar="PROCESSOR", help="The processor whose in-process list it is."),
]
InProcess = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="The whole key of the list, instead of PROCESSOR."),
]


def status(
    *,
    as_json: Json = False,
    redis: Url = DEFAULT_URL,
    queue: Queue = keys.QUEUE,
    keep_max_ms: Annotated[
        int,
        typer.Option(
            "--keep-max-ms",
            metavar="MS",
            min=0,
            envvar="JOBQUEUE_KEEP_MAX_MS",
            help="For how long the queue's servers keep results at most, in milliseconds.",
        ),
    ] = round(LIMIT_SECONDS * 1000),
) -> None:
    """Count the messages on each of the queue's lists, and tell which servers are alive.

      jobqueue status
      jobqueue status --json | jq .waiting

    A terminal gets a table. A pipe gets one line per list, with tabs between its kind, its key, its
    length and, for an in-process list, the state of its server. With --json the output is one object.

    The last line is how long results are kept at most, whatever a client asks for. No server tells
    Redis its limit: it is what this command is given, or the default of servers.

    A server with takeover is alive or, without its lease, lapsed: others run its jobs. Its list is
    emptied when they have. The list of a server without takeover is unregistered.

    The counts are read one after the other: a job that moves meanwhile can be counted twice or not
    at all.
    """
    with talking_to(connect(redis, queue)) as client:
        counts = admin.status(client, queue)
    if as_json:
        say(to_json({**dataclasses.asdict(counts), "keep_max_ms": keep_max_ms}))
    else:
        kept = f"for up to {keep_max_ms / 1000:g} s" if keep_max_ms else "none"
        claimed = counts.in_process.items()
        rows = [
            ("queue", queue, counts.waiting, ""),
            *(("in-process list", key, length, counts.states[key]) for key, length in claimed),
            ("dead list", keys.dead(queue), counts.dead, ""),
            ("kept results", f"{queue}:result:*", "", kept),
        ]
        say_table(("list", "key", "length", "server"), rows)
    complain(counts.remark)


def requeue(
    processor: Processor = None,
    *,
    in_process: InProcess = None,
    redis: Url = DEFAULT_URL,
    queue: Queue = keys.QUEUE,
) -> None:
    """Return an orphaned in-process list to the queue.

      jobqueue requeue web-7
      jobqueue requeue --in-process job-queue:in-process

    Use this for a server that won't start again under its name. One that does start again recovers
    its list by itself. The jobs go to the front of the queue, the oldest first.

    If the server is still running, its jobs run twice. The command refuses the list of a server on
    this host, and of one that holds the list's lease, as servers with takeover do. It can't detect
    another server on another host: check that first.
    """
    in_process = _list("requeue", processor, in_process, queue)
    client = connect(redis, queue)
    place = identity(client.connection_pool)
    try:
        with talking_to(client), ProcessorLock(place, in_process), _refusing():
            moved = admin.requeue(client, in_process, queue)
    except ProcessorInUse:
        sentence = f"{in_process} is in use by a server on this host: its jobs would run twice"
        raise Fault(sentence, Status.FAILED) from None
    say(plain(f"{moved} moved from {in_process} to {queue}"))


def unregister(
    processor: Processor = None,
    *,
    in_process: InProcess = None,
    redis: Url = DEFAULT_URL,
    queue: Queue = keys.QUEUE,
) -> None:
    """Have servers with takeover forget an in-process list.

      jobqueue unregister web-7

    Use this before a server without takeover uses the list: the others would run its jobs a second
    time. The command refuses a list that has entries, or whose lease a server holds.
    """
    in_process = _list("unregister", processor, in_process, queue)
    client = connect(redis, queue)
    with talking_to(client), _refusing():
        found = admin.unregister(client, in_process, queue)
    say(plain(f"{in_process} {'is no longer' if found else 'was not'} registered"))


def _list(command: str, processor: str | None, in_process: str | None, queue: str) -> str:
    if processor is not None and in_process is None:
        return keys.in_process(queue, processor)
    if processor is not None or in_process is None:
        raise Fault(f"{command} needs either PROCESSOR or --in-process KEY", Status.USAGE)
    return in_process


@contextmanager
def _refusing() -> Iterator[None]:
    """Report that a list is in use, whichever host its server is on."""
    try:
        yield
    except ProcessorInUse as error:
        raise Fault(str(error), Status.FAILED) from None
