"""`jobqueue dead`: list, requeue or delete the messages that no server can answer."""

import base64
from typing import Annotated

import typer

from jobqueue import admin
from jobqueue.cli.options import Json, Queue, Url
from jobqueue.cli.terminal import Fault, Status, connect, plain, say, say_table, talking_to, to_json
from jobqueue.protocol import keys
from jobqueue.wire.pools import DEFAULT_URL

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Names of messages, as `dead list` shows them."),
]
All = Annotated[bool, typer.Option("--all", help="All dead messages, instead of names.")]


def list_dead(
    *, as_json: Json = False, redis: Url = DEFAULT_URL, queue: Queue = keys.QUEUE
) -> None:
    """List the dead messages, oldest first.

      jobqueue dead list
      jobqueue dead list --json | jq -r 'select(.size_bytes > 1000) | .name'

    A message's name is a digest of its bytes. It doesn't change when the list changes, and equal
    messages have the same name.

    A terminal gets a table. A pipe gets one line per message, with tabs between name, size in
    bytes, reason and text. With --json each line is an object with the exact bytes, as `text`, or
    as `base64` if they aren't UTF-8.
    """
    with talking_to(connect(redis, queue)) as client:
        messages = admin.dead_messages(client, queue)
        if as_json:
            for each in messages:
                say(to_json(_described(each)))
            return
        rows = (
            (each.name, len(each.message), each.reason, keys.text(each.message))
            for each in messages
        )
        say_table(("name", "bytes", "reason", "message"), rows)


def requeue_dead(
    names: Names = None,
    *,
    everything: All = False,
    redis: Url = DEFAULT_URL,
    queue: Queue = keys.QUEUE,
) -> None:
    """Push dead messages to the queue again.

      jobqueue dead requeue 3f9a1c20be77
      jobqueue dead requeue --all

    The same bytes are queued behind the waiting jobs. A message that no server can answer this
    time either returns to the dead list under the same name.
    """
    chosen = _chosen(names, everything=everything)
    with talking_to(connect(redis, queue)) as client:
        moved = _found(admin.requeue_dead(client, chosen, queue), chosen)
    say(plain(f"{moved} moved from {keys.dead(queue)} to {queue}"))


def drop_dead(
    names: Names = None,
    *,
    everything: All = False,
    redis: Url = DEFAULT_URL,
    queue: Queue = keys.QUEUE,
) -> None:
    """Delete dead messages permanently.

      jobqueue dead drop 3f9a1c20be77
      jobqueue dead drop --all

    This can't be undone.
    """
    chosen = _chosen(names, everything=everything)
    with talking_to(connect(redis, queue)) as client:
        dropped = _found(admin.drop_dead(client, chosen, queue), chosen)
    say(plain(f"{dropped} deleted from {keys.dead(queue)}"))


def _described(dead: admin.DeadMessage) -> dict[str, object]:
    description = {"name": dead.name, "size_bytes": len(dead.message), "reason": dead.reason}
    try:
        return description | {"text": dead.message.decode()}
    except UnicodeDecodeError:
        return description | {"base64": base64.b64encode(dead.message).decode()}


def _chosen(names: list[str] | None, *, everything: bool) -> list[str] | None:
    if bool(names) == everything:
        raise Fault("give the names of dead messages, or --all", Status.USAGE)
    return names or None


def _found(count: int, names: list[str] | None) -> int:
    if names and not count:
        raise Fault(f"there is no dead message with the name {' or '.join(names)}", Status.FAILED)
    return count
