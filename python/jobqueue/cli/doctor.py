"""`jobqueue doctor`: what an operator should know about a queue's Redis before it hurts."""

import dataclasses
from enum import StrEnum
from typing import Annotated

import typer

from jobqueue.cli.options import Json, Queue, Url
from jobqueue.cli.terminal import Status, connect, say, say_table, talking_to, to_json
from jobqueue.doctor import examine
from jobqueue.protocol.keys import QUEUE
from jobqueue.wire.pools import DEFAULT_URL


class Role(StrEnum):
    """What a user of Redis is for."""

    CLIENT = "client"
    SERVER = "server"


def doctor(
    *,
    role: Annotated[
        Role | None,
        typer.Option(help="What the user in the URL is for. Without it, either will do."),
    ] = None,
    as_json: Json = False,
    redis: Url = DEFAULT_URL,
    queue: Queue = QUEUE,
) -> None:
    """Check the Redis of a queue, and say what to change.

      jobqueue doctor
      jobqueue doctor --role server
      jobqueue doctor --json | jq -r '.[] | select(.level == "mend") | .sentence'

    It checks the version, the cluster, replicas, memory, persistence and limits of Redis, what the
    user may do, and the queue itself. Nothing is changed. What the user may not ask is reported as
    unknown.

    A terminal gets a table. A pipe gets one line per finding, with tabs between its level, what was
    checked, and a sentence. With --json the output is one array. The exit status is 1 if something
    should be changed, which is the level mend.
    """
    with talking_to(connect(redis, queue)) as client:
        findings = list(examine(client, queue, role=None if role is None else role.value))
    if as_json:
        say(to_json([dataclasses.asdict(each) for each in findings]))
    else:
        rows = [(each.level, each.check, each.sentence) for each in findings]
        say_table(("level", "check", "finding"), rows)
    if any(each.level == "mend" for each in findings):
        raise typer.Exit(Status.FAILED)
