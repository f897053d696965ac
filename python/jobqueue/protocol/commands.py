"""The commands that a server sends, and the meaning of their replies; without any I/O.

Each function is a generator: it yields commands to send in one write, is sent their replies in the
same order, and returns a result. An error reply is a value, `ErrorReply`. One that the protocol
treats as a lost connection is raised as `Unavailable`.

If a generator is abandoned half-way, its message is still on the in-process list: a message is
removed only after Redis has accepted the result.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from jobqueue.errors import ConnectionLost
from jobqueue.protocol import keys as names
from jobqueue.protocol.messages import Answer, Dead

if TYPE_CHECKING:
    from jobqueue.protocol.keys import Keys

Command: TypeAlias = tuple[bytes, ...]
Reply: TypeAlias = Any
Returned = TypeVar("Returned")

ATTEMPTS_SECONDS = 259_200  # how long an entry's attempts are remembered
Commands: TypeAlias = Generator[list[Command], list[Reply], Returned]


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error reply of Redis: its first word, and the whole text."""

    code: str
    text: str


# "… no permissions to access one of the channels …", but "… to run the 'publish' command …": so do
# Redis 6.2, 7.0 and 8.0 and Valkey 8.1 and 9.1 say it, each in slightly other words.
_ABOUT_A_CHANNEL = re.compile("permissions? to access")


class Unavailable(ConnectionLost):
    """Redis is reachable but can't serve now, which counts as a lost connection."""


class Unstored(NamedTuple):
    """Redis had no memory to store a result: nothing was published, and nothing removed."""


def may_transact() -> Commands[bool]:
    """Find out by an empty transaction whether this connection may use MULTI and EXEC.

    If MULTI were refused later, in one write with the commands of the transaction, the removal could
    take effect without the PUBLISH.
    """
    began, executed = yield [(b"MULTI",), (b"EXEC",)]
    if isinstance(began, ErrorReply):
        return False
    checked(executed)
    return True


def look(keys: Keys) -> Commands[list[bytes]]:
    """Read the in-process list, oldest first. No claim of the server may be outstanding."""
    (entries,) = yield [(b"LRANGE", keys.in_process, b"0", b"-1")]
    # server.recovery.order: the oldest entry is the rightmost.
    oldest_first: list[bytes] = checked(entries)[::-1]
    return oldest_first


def clock() -> Commands[float]:
    """Read Redis's clock.

    Returns:
        Milliseconds; before all times if the ACL forbids TIME, so that no job seems to have expired.
    """
    (time,) = yield [(b"TIME",)]
    if _forbidden(time):
        # server.expiry.forbidden
        return -math.inf
    seconds, microseconds = map(int, checked(time))
    return seconds * 1_000 + microseconds / 1_000


def claim(keys: Keys, limit: int, block: float | None = None) -> Commands[list[bytes]]:
    """Claim the oldest jobs, at most `limit`; wait for the first up to `block` seconds, if given."""
    # server.claim.atomic, server.claim.order
    move = (keys.queue, keys.in_process, b"RIGHT", b"LEFT")
    first: Command = (b"LMOVE", *move)
    if block is not None:
        # server.recovery.block: for Redis, 0 means forever.
        first = (b"BLMOVE", *move, b"%.3f" % max(block, 0.001))
    replies = yield [first, *[(b"LMOVE", *move)] * (limit - 1)]
    return [message for message in map(checked, replies) if message is not None]


def give_back(keys: Keys) -> Commands[None]:
    """Return the newest entry of the in-process list to where it was claimed, unstarted.

    The last claim put it there. An entry that a late claim has put before it isn't running either; the
    next look finds the one that stays.
    """
    # server.remove.only
    (returned,) = yield [(b"LMOVE", keys.in_process, keys.queue, b"LEFT", b"RIGHT")]
    checked(returned)


def attempts(keys: Keys, message: bytes) -> Commands[int]:
    """Read how often a message was counted; 0 where Redis refuses."""
    (count,) = yield [(b"GET", names.attempts(keys.queue, message))]
    # server.attempts.refused: what has more digits, INCR refuses.
    return int(count) if isinstance(count, bytes) and count.isdigit() and len(count) < 20 else 0


def attempt(keys: Keys, message: bytes) -> Commands[int]:
    """Count a message, and return how often it was counted; 0 where Redis refuses."""
    key = names.attempts(keys.queue, message)
    # server.attempts.counts, server.list.lasting: what expires is a key of its own, never a list.
    count, _ = yield [(b"INCR", key), (b"EXPIRE", key, b"%d" % ATTEMPTS_SECONDS)]
    # server.attempts.refused
    return count if isinstance(count, int) else 0


def finish(
    keys: Keys, outcome: Answer | Dead, *, transactions: bool, keep_ms: int = 0
) -> Commands[str | Unstored | None]:
    """Publish a result, or push a dead message to the dead list; then remove the message.

    With transactions an answer takes one write, unless Redis refuses it.

    Args:
        keys: The lists.
        outcome: The result, or the dead message.
        transactions: Whether Redis allows them.
        keep_ms: For how long the result is stored, too; 0 is not at all.

    Returns:
        None, or a note for the log about something unusual, or that it has to be tried again.
    """
    store = _storing(keys, outcome, keep_ms) if keep_ms else []
    if isinstance(outcome, Dead):
        return (yield from _dead_letter(keys, outcome, store))
    # server.publish.channel, server.publish.before-remove, server.kept.stores
    publish = (b"PUBLISH", outcome.channel, outcome.result)
    # server.remove.finished
    remove = _removal(keys, outcome)
    # server.publish.refused: a transaction in which one command was refused executes none of them.
    published: Reply = None
    if transactions:
        replies = yield [(b"MULTI",), *store, publish, remove, (b"EXEC",)]
        published, executed = replies[-3], replies[-1]
        if not isinstance(executed, ErrorReply):
            published, removed = executed[-2:]
            if not isinstance(published, ErrorReply):
                return _removed(removed)
            if removed == 1:
                # The ACL was changed before EXEC, which continues after a refused command.
                (returned,) = yield [(b"LPUSH", keys.in_process, outcome.message)]
                checked(returned)
    if not _forbidden(published):
        # At its memory limit Redis 7.0 refuses MULTI, and accepts both commands outside of it.
        if store and not (yield from _stored(store)):
            return Unstored()
        (published,) = yield [publish]
    if _forbids_channel(published):
        # server.publish.noperm
        yield from _dead_letter(keys, Dead(outcome.message, published.text), [])
        return f"dead message: {published.text}"
    # server.publish.forbidden-command
    checked(published)
    (removed,) = yield [remove]
    return _removed(removed)


def one_write(outcome: Answer | Dead, *, transactions: bool) -> bool:
    """Tell whether `finish` takes one write, so that a claim may follow in the same write.

    Otherwise the claim would be executed before the removal.
    """
    return transactions and isinstance(outcome, Answer)


def answer_of(outcome: Answer | Dead) -> Answer | None:
    """Return what is published, if anything is."""
    return outcome.answer if isinstance(outcome, Dead) else outcome


def _storing(keys: Keys, outcome: Answer | Dead, keep_ms: int) -> list[Command]:
    """Return the command that stores a result, if there is one."""
    if (answer := answer_of(outcome)) is None:
        return []
    key = names.result(keys.queue, names.digest(outcome.message))
    # server.kept.stores, server.kept.first
    return [(b"SET", key, answer.result, b"NX", b"PX", b"%d" % keep_ms)]


def _stored(store: list[Command]) -> Commands[bool]:
    """Store a result by itself; tell whether it can be published, stored or not."""
    (stored,) = yield store
    if isinstance(stored, ErrorReply) and stored.code == "OOM":
        return False
    if not _forbidden(stored):
        # server.kept.refused: without the right to store, it is published all the same.
        checked(stored)
    return True


def _dead_letter(keys: Keys, dead: Dead, store: list[Command]) -> Commands[str | Unstored | None]:
    if (answer := dead.answer) is not None:
        if store and not (yield from _stored(store)):
            return Unstored()
        # server.attempts.limit
        (published,) = yield [(b"PUBLISH", answer.channel, answer.result)]
        if not _forbids_channel(published):
            checked(published)
    # server.dead-list.keeps, server.dead.removed: MULTI executes the commands after a failed one, so
    # the reply to the push is checked before the removal.
    (pushed,) = yield [(b"LPUSH", keys.dead, dead.message)]
    checked(pushed)
    (removed,) = yield [_removal(keys, dead)]
    return _removed(removed)


def _removal(keys: Keys, outcome: Answer | Dead) -> Command:
    # server.remove.exact-bytes, server.remove.only, server.dead.odd-bytes: by what was claimed, not by
    # its position; -1 searches from the right, where the oldest entry is.
    return (b"LREM", keys.in_process, b"-1", outcome.message)


def _removed(removed: Reply) -> str | None:
    # server.remove.gone
    return "the message had already been removed" if checked(removed) == 0 else None


def _forbidden(reply: Reply) -> bool:
    return isinstance(reply, ErrorReply) and reply.code == "NOPERM"


def _forbids_channel(reply: Reply) -> bool:
    return _forbidden(reply) and bool(_ABOUT_A_CHANNEL.search(reply.text))


def checked(reply: Reply) -> Any:
    """Return a reply that is not an error.

    Raises:
        Unavailable: It is one.
    """
    if isinstance(reply, ErrorReply):
        # server.connection.refused
        raise Unavailable(f"Redis refused a command: {reply.text}")
    return reply
