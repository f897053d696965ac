"""The commands that a server sends, and what their replies mean, kept apart from how one waits.

Each function is a generator: it yields commands to send in one write, is sent their replies in the
same order, and returns what came of them. A reply that is an error is a value, `ErrorReply`. One
that the protocol treats as a lost connection is raised as `Unavailable`.

Commands that are given up half-way leave their message on the in-process list: nothing is ever
removed before Redis has taken the result.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from jobqueue.errors import ConnectionLost
from jobqueue.protocol.messages import Answer, Dead

if TYPE_CHECKING:
    from jobqueue.protocol.keys import Keys

Command: TypeAlias = tuple[bytes, ...]
Reply: TypeAlias = Any
Returned = TypeVar("Returned")
Commands: TypeAlias = Generator[list[Command], list[Reply], Returned]


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error that Redis replied with: its first word, and the whole of it."""

    code: str
    text: str


# Of a channel Redis says that there is no permission to access it; of a command, to run or execute it.
_ABOUT_A_CHANNEL = re.compile("permissions? to access")


class Unavailable(ConnectionLost):
    """Redis is there and can't serve now, which counts as a lost connection."""


def may_transact() -> Commands[bool]:
    """Ask whether this connection may use MULTI and EXEC, by an empty transaction.

    Were MULTI refused later, in one write with the commands that it is to hold together, a removal
    could take effect without its PUBLISH.
    """
    began, executed = yield [(b"MULTI",), (b"EXEC",)]
    if isinstance(began, ErrorReply):
        return False
    _taken(executed)
    return True


def look(keys: Keys) -> Commands[list[bytes]]:
    """Read the in-process list, oldest first. None of the server's claims may be outstanding."""
    (entries,) = yield [(b"LRANGE", keys.in_process, b"0", b"-1")]
    # server.recovery.order: the oldest entry stands at the right.
    oldest_first: list[bytes] = _taken(entries)[::-1]
    return oldest_first


def claim(keys: Keys, limit: int, block: float) -> Commands[list[bytes]]:
    """Claim the oldest jobs, at most `limit`; wait up to `block` seconds for the first."""
    # server.claim.atomic, server.claim.order
    move = (keys.queue, keys.in_process, b"RIGHT", b"LEFT")
    # server.recovery.block: Redis reads 0 as for ever.
    first: Command = (b"BLMOVE", *move, b"%.3f" % max(block, 0.001))
    replies = yield [first, *[(b"LMOVE", *move)] * (limit - 1)]
    return [message for message in map(_taken, replies) if message is not None]


def finish(keys: Keys, outcome: Answer | Dead, *, transactions: bool) -> Commands[str | None]:
    """Publish a result or bury a dead message, then remove the message.

    Where transactions are allowed, an answer is over with the first write, unless Redis refuses it.

    Returns:
        None, or what was odd, as words for the log.
    """
    if isinstance(outcome, Dead):
        return (yield from _bury(keys, outcome))
    # server.publish.channel, server.publish.before-remove
    publish = (b"PUBLISH", outcome.channel, outcome.result)
    remove = _removal(keys, outcome)
    # server.publish.refused: a transaction in which one command was refused executes none of them.
    published: Reply = None
    if transactions:
        _, published, _, executed = yield [(b"MULTI",), publish, remove, (b"EXEC",)]
        if not isinstance(executed, ErrorReply):
            published, removed = executed
            if not isinstance(published, ErrorReply):
                return _removed(removed)
            if removed == 1:
                # The ACL was changed before EXEC, which goes on behind a command that it refuses.
                (returned,) = yield [(b"LPUSH", keys.in_process, outcome.message)]
                _taken(returned)
    if not _forbidden(published):
        # At its memory limit Redis 7.0 refuses MULTI, and takes both of these alone.
        (published,) = yield [publish]
    if _forbidden(published) and _ABOUT_A_CHANNEL.search(published.text):
        # server.publish.noperm
        return (yield from _bury(keys, Dead(outcome.message, published.text)))
    # server.publish.forbidden-command
    _taken(published)
    (removed,) = yield [remove]
    return _removed(removed)


def one_write(outcome: Answer | Dead, *, transactions: bool) -> bool:
    """Tell whether `finish` is over with its first write, so that a claim may travel behind it.

    Where it isn't, a claim in the same write would overtake the removal.
    """
    return transactions and isinstance(outcome, Answer)


def _bury(keys: Keys, dead: Dead) -> Commands[str | None]:
    # server.dead-list.keeps, server.dead.removed: MULTI executes what follows a command that
    # failed, so the reply to the push is looked at before the removal.
    (pushed,) = yield [(b"LPUSH", keys.dead, dead.message)]
    _taken(pushed)
    (removed,) = yield [_removal(keys, dead)]
    return _removed(removed)


def _removal(keys: Keys, outcome: Answer | Dead) -> Command:
    # server.remove.exact-bytes; -1 searches from the right, where the oldest entry stands.
    return (b"LREM", keys.in_process, b"-1", outcome.message)


def _removed(removed: Reply) -> str | None:
    # server.remove.gone
    return "somebody else had removed it" if _taken(removed) == 0 else None


def _forbidden(reply: Reply) -> bool:
    return isinstance(reply, ErrorReply) and reply.code == "NOPERM"


def _taken(reply: Reply) -> Any:
    if isinstance(reply, ErrorReply):
        raise Unavailable(f"Redis refused a command: {reply.text}")
    return reply
