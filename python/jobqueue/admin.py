"""What an operator does to a queue: look at it, return an orphaned list to it, empty its dead list.

Every function takes a redis-py client that answers with bytes. What moves a message is one atomic
command or script, so whoever is interrupted leaves each message in exactly one place. `status`
counts and never reads a message: the `status` user of the protocol's section 12 is enough for it.

Whether a list is orphaned is the caller's to know: nothing in Redis tells it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from jobqueue.protocol import keys
from jobqueue.protocol.messages import Dead, decide

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from redis import Redis

# The newest entry goes first and each older one to its right, so the oldest ends up where servers
# claim; being one script, it lets no server claim a newer one in between.
_RETURN_ENTRIES = """
local entries = redis.call('LLEN', KEYS[1])
for _ = 1, entries do redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT') end
return entries
"""

# Pushes only what it removed: of two operators who requeue one message, one does it.
_REQUEUE_DEAD = """
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[1])
return 1
"""

_PAGE = 100  # dead messages read at once, of 1 MiB each and more


@dataclass(frozen=True, slots=True)
class Status:
    """How many messages lie where; `in_process` maps the key of each list to its length.

    Bytes of a key that aren't UTF-8 are lone surrogates, as in names of files: `os.fsencode` returns
    the very bytes.
    """

    queue: str
    waiting: int
    in_process: Mapping[str, int]
    dead: int


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """One message of a dead list, under a name that stays its own whatever else comes and goes."""

    message: bytes

    @property
    def name(self) -> str:
        """Return the first 12 hexadecimal digits of the SHA-256 of the message's bytes."""
        return hashlib.sha256(self.message).hexdigest()[:12]

    @property
    def reason(self) -> str:
        """Say why no server answers the message."""
        outcome = decide(self.message, ())
        if isinstance(outcome, Dead):
            return outcome.reason
        return "the server that claimed it may not publish on its channel"


def status(redis: Redis, queue: str = keys.QUEUE) -> Status:
    """Count what waits, what each processor has claimed, and what is dead.

    The counts are taken one after the other: a job on its way can be counted twice or not at all.
    In-process lists are found by their names: one whose whole key was configured is found where the
    key begins with `<queue>:in-process:`.
    """
    bare = f"{queue}:in-process"
    # SCAN's MATCH is a glob, and a queue's name may hold a glob's own characters.
    pattern = re.sub(r"([*?\[\]\\])", r"\\\1", bare) + "*"
    scan = redis.scan_iter(match=keys.encoded(pattern), count=1000, _type="LIST")
    found = {keys.name(key) for key in scan}
    lists = sorted(key for key in found if key == bare or key.startswith(f"{bare}:"))
    with redis.pipeline(transaction=False) as pipe:
        for key in (queue, keys.dead(queue), *lists):
            pipe.llen(_key(key))
        waiting, dead, *claimed = pipe.execute()
    return Status(queue, waiting, dict(zip(lists, claimed, strict=True)), dead)


def requeue(redis: Redis, in_process: str, queue: str = keys.QUEUE) -> int:
    """Return all entries of an orphaned in-process list to the queue, in one step.

    They wait before everything else, the oldest first, as they did when they were claimed.

    Returns:
        How many entries were moved.
    """
    return _script(redis, _RETURN_ENTRIES, _key(in_process), _key(queue))


def dead_messages(redis: Redis, queue: str = keys.QUEUE) -> Iterator[DeadMessage]:
    """Yield the messages of the dead list, oldest first, a page at a time.

    What dies meanwhile does no harm; where somebody removes messages meanwhile, others can be left
    out.
    """
    end = -1
    # Counted from the right, where the oldest is: what arrives at the left shifts nothing.
    while page := cast("list[bytes]", redis.lrange(_key(keys.dead(queue)), end - _PAGE + 1, end)):
        yield from (DeadMessage(message) for message in reversed(page))
        end -= _PAGE


def requeue_dead(redis: Redis, names: Collection[str] | None, queue: str = keys.QUEUE) -> int:
    """Push dead messages to the queue again, byte for byte, as if a client did.

    Args:
        redis: A client that answers with bytes.
        names: Which messages, each with all its copies; None means all.
        queue: The queue's key.

    Returns:
        How many messages were moved.
    """
    dead = _key(keys.dead(queue))
    if names is None:
        entries = redis.llen(dead)
        moves = (redis.lmove(dead, _key(queue), "RIGHT", "LEFT") for _ in range(entries))
        return sum(moved is not None for moved in moves)
    chosen = [each.message for each in dead_messages(redis, queue) if each.name in names]
    return sum(_script(redis, _REQUEUE_DEAD, dead, _key(queue), message) for message in chosen)


def drop_dead(redis: Redis, names: Collection[str] | None, queue: str = keys.QUEUE) -> int:
    """Delete dead messages for good.

    Args:
        redis: A client that answers with bytes.
        names: Which messages, each with all its copies; None means all.
        queue: The queue's key.

    Returns:
        How many messages were deleted.
    """
    dead = _key(keys.dead(queue))
    if names is None:
        with redis.pipeline() as pipe:
            pipe.llen(dead)
            pipe.unlink(dead)
            entries, _ = pipe.execute()
        return int(entries)
    chosen = [each.message for each in dead_messages(redis, queue) if each.name in names]
    return sum(int(redis.lrem(dead, -1, cast("str", message))) for message in chosen)


def _key(name: str) -> str:
    """Return a name's exact bytes, which redis-py takes although its annotations say `str`."""
    return cast("str", keys.encoded(name))


def _script(redis: Redis, script: str, source: str, target: str, *arguments: bytes) -> int:
    answer: Any = redis.eval(script, 2, source, target, *arguments)
    return int(answer)
