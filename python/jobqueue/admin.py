"""Administration of a queue: count its messages, requeue an orphaned list, manage dead messages.

Every function takes a client of redis-py that returns bytes (without `decode_responses`). Errors of
redis-py pass through unchanged. Each message is moved by one atomic command or script, so a call that
fails half-way has moved some messages, lost none, and can be repeated.

`status` counts and reads no message: it needs no more than the ACL user `jobqueue-status` of the
protocol's section 12.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import NoPermissionError, ResponseError

from jobqueue.errors import ProcessorInUse
from jobqueue.protocol import keys
from jobqueue.protocol.leases import State, state_of
from jobqueue.protocol.messages import Dead, decide
from jobqueue.wire.connection import error_reply

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from redis import Redis

# The newest entry is moved first and each older one to its right, so the oldest ends up where
# servers claim. In one script, so that no server claims a newer entry in between.
_RETURN_ENTRIES = """
if redis.call('EXISTS', KEYS[3]) == 1 then return -1 end
local entries = redis.call('LLEN', KEYS[1])
for _ = 1, entries do redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT') end
return entries
"""

_UNREGISTER = """
if redis.call('EXISTS', KEYS[2]) == 1 or redis.call('LLEN', KEYS[3]) > 0 then return -1 end
return redis.call('HDEL', KEYS[1], KEYS[3])
"""

# Pushes only what it removed: if two operators requeue the same message, it is queued once.
_REQUEUE_DEAD = """
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3], KEYS[4])
return 1
"""

_PAGE = 100  # dead messages per read: each may have 1 MiB or more


@dataclass(frozen=True, slots=True)
class Status:
    """The number of messages on each list of a queue, and which servers are alive.

    `in_process` maps each list's key to its length, `states` maps it to the state of its server.
    `remark` says why no state is known, and is empty otherwise.

    Bytes of a key that aren't UTF-8 are lone surrogates, as in names of files: `os.fsencode` returns
    the original bytes.
    """

    queue: str
    waiting: int
    in_process: Mapping[str, int]
    dead: int
    states: Mapping[str, State]
    remark: str = ""


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """One message of a dead list. Its name depends on its bytes alone."""

    message: bytes

    @property
    def name(self) -> str:
        """Return the first 12 hexadecimal digits of the SHA-256 of the message's bytes."""
        return hashlib.sha256(self.message).hexdigest()[:12]

    @property
    def reason(self) -> str:
        """Return why no server can answer the message, in a few words."""
        outcome = decide(self.message, ())
        if isinstance(outcome, Dead):
            return outcome.reason
        return "it was given up, or the server may not publish on its channel"


def status(redis: Redis, queue: str = keys.QUEUE) -> Status:
    """Count the messages that wait, that each processor has claimed, and that are dead.

    The counts are read one after the other: a job that moves meanwhile can be counted twice or not
    at all. In-process lists are found in the registry of servers with takeover, and by name
    (server.list.name): another list whose whole key was configured is found only if the key begins
    with `<queue>:in-process:`.
    """
    states, remark = list_states(redis, queue)
    lists = [queue, keys.dead(queue), *states]
    waiting, dead, *claimed = ask_each(redis, "LLEN", lists)
    return Status(queue, waiting, dict(zip(states, claimed, strict=True)), dead, states, remark)


def list_states(redis: Redis, queue: str = keys.QUEUE) -> tuple[dict[str, State], str]:
    """Return the state of each in-process list that is registered or isn't empty, sorted by key.

    No list is read, so OBJECT IDLETIME says the same as before.

    Returns:
        The states; and a sentence that says why none is known, which is empty otherwise.
    """
    found = in_process_lists(redis, queue)
    names = keys.Keys.of(queue, "")
    try:
        entries = redis.hscan_iter(_name(names.processors), count=1000)
        # Anybody may have written any key there, of another type too: server.takeover.ignores.
        values = {
            keys.name(key): value
            for key, value in entries
            if key.startswith(names.queue + b":") and key != names.dead
        }
        types = zip(values, ask_each(redis, "TYPE", values), strict=True)
        lists = sorted({*found, *(key for key, kind in types if kind in (b"list", b"none"))})
        leases = [keys.name(names.lease_of(keys.encoded(key))) for key in lists]
        leased = ask_each(redis, "EXISTS", leases)
        seconds, microseconds = redis.time()
    except ResponseError as error:
        words = error_reply(error).text
        advice = "; section 12 of the protocol has the ACL" * isinstance(error, NoPermissionError)
        remark = f"it is not known which servers are alive, since Redis says: {words}{advice}"
        return dict.fromkeys(found, State("unknown")), remark
    now_ms = seconds * 1000 + microseconds // 1000
    held = zip(lists, leased, strict=True)
    return {key: state_of(values.get(key), now_ms, leased=bool(lease)) for key, lease in held}, ""


def in_process_lists(redis: Redis, queue: str = keys.QUEUE) -> list[str]:
    """Return the keys of the in-process lists that aren't empty, found by name as by `status`."""
    bare = f"{queue}:in-process"
    # SCAN's MATCH is a glob, and a queue's name may hold a glob's own characters.
    pattern = re.sub(r"([*?\[\]\\])", r"\\\1", bare) + "*"
    scan = redis.scan_iter(match=keys.encoded(pattern), count=1000, _type="LIST")
    found = {keys.name(key) for key in scan}
    return sorted(key for key in found if key == bare or key.startswith(f"{bare}:"))


def ask_each(redis: Redis, command: str, names: Iterable[str]) -> list[Any]:
    """Send the command for each key, all at once, and return the replies."""
    pipe: Any
    with redis.pipeline(transaction=False) as pipe:
        for each in names:
            pipe.execute_command(command, keys.encoded(each))
        replies: list[Any] = pipe.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply  # in Redis's own words; redis-py would put the command before them
    return replies


def requeue(redis: Redis, in_process: str, queue: str = keys.QUEUE) -> int:
    """Move all entries of an orphaned in-process list to the front of the queue, in one atomic step.

    They are claimed before all other jobs, the oldest first. Whether the list's server still runs is
    known only if it has a lease, with the feature `takeover`; otherwise its jobs may run twice.

    Args:
        redis: A client that returns bytes.
        in_process: The whole key of the list.
        queue: The queue's key.

    Returns:
        The number of entries that were moved; 0 if there is no such list.

    Raises:
        ProcessorInUse: A server holds the lease of the list. Nothing was moved.
    """
    lists = _lists(queue, in_process)
    moved = _script(redis, _RETURN_ENTRIES, [_key(in_process), _key(queue), _name(lists.lease)])
    if moved < 0:
        raise ProcessorInUse(f"a server holds the lease of {in_process}: its jobs would run twice")
    return moved


def unregister(redis: Redis, in_process: str, queue: str = keys.QUEUE) -> bool:
    """Have the servers of a queue forget an in-process list, so that none of them adopts from it.

    Do this when no server with the feature `takeover` uses the list any more, before one without it
    does.

    Args:
        redis: A client that returns bytes.
        in_process: The whole key of the list.
        queue: The queue's key.

    Returns:
        Whether the list was registered.

    Raises:
        ProcessorInUse: A server holds the lease of the list, or it has entries. Nothing was changed.
    """
    lists = _lists(queue, in_process)
    names = [_name(each) for each in (lists.processors, lists.lease, lists.in_process)]
    found = _script(redis, _UNREGISTER, names)
    if found < 0:
        raise ProcessorInUse(f"{in_process} has entries, or a server that holds its lease")
    return bool(found)


def dead_messages(redis: Redis, queue: str = keys.QUEUE) -> Iterator[DeadMessage]:
    """Yield the messages of the dead list, oldest first; they are read in pages of 100.

    Messages that are added meanwhile do no harm. If messages are removed meanwhile, others can be
    missed.
    """
    end = -1
    # Counted from the right, where the oldest is: what arrives at the left shifts nothing.
    while page := cast("list[bytes]", redis.lrange(_key(keys.dead(queue)), end - _PAGE + 1, end)):
        yield from (DeadMessage(message) for message in reversed(page))
        end -= _PAGE


def requeue_dead(redis: Redis, names: Collection[str] | None, queue: str = keys.QUEUE) -> int:
    """Move dead messages back to the queue, unchanged, behind the jobs that wait.

    Their attempts and their stored results are forgotten, so that a job that was given up may run
    again, and its new result is kept.

    Args:
        redis: A client that returns bytes.
        names: The names of the messages, each with all its copies; None means all.
        queue: The queue's key.

    Returns:
        The number of messages that were moved.
    """
    dead = _key(keys.dead(queue))
    if names is None:
        return sum(1 for _ in range(redis.llen(dead)) if _requeue_oldest(redis, dead, queue))
    chosen = [each.message for each in dead_messages(redis, queue) if each.name in names]
    return sum(
        _script(redis, _REQUEUE_DEAD, [dead, _key(queue), *_memories(queue, message)], message)
        for message in chosen
    )


def drop_dead(redis: Redis, names: Collection[str] | None, queue: str = keys.QUEUE) -> int:
    """Delete dead messages permanently.

    Args:
        redis: A client that returns bytes.
        names: The names of the messages, each with all its copies; None means all.
        queue: The queue's key.

    Returns:
        The number of messages that were deleted.
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
    """Return a name's exact bytes; redis-py accepts them although its annotations say `str`."""
    return cast("str", keys.encoded(name))


def _lists(queue: str, in_process: str) -> keys.Keys:
    return keys.Keys.of(queue, "", in_process)


def _name(key: bytes) -> str:
    """Return a key as it is; redis-py accepts bytes although its annotations say `str`."""
    return cast("str", key)


def _memories(queue: str, message: bytes) -> list[str]:
    """Return the keys that hold what is remembered of a message: its attempts and its result."""
    key = keys.encoded(queue)
    return [
        _name(keys.attempts(key, message)),
        _name(keys.result(key, keys.digest(message))),
    ]


def _requeue_oldest(redis: Redis, dead: str, queue: str) -> bool:
    message = cast("bytes | None", redis.lmove(dead, _key(queue), "RIGHT", "LEFT"))
    if message is not None:
        redis.delete(*_memories(queue, message))
    return message is not None


def _script(redis: Redis, script: str, names: list[str], *arguments: bytes) -> int:
    answer: Any = redis.eval(script, len(names), *names, *arguments)
    return int(answer)
