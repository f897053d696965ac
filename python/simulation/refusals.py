"""What a Redis answers that refuses a command, and when it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.protocol.commands import ErrorReply

from simulation.store import GROWS, READS

if TYPE_CHECKING:
    from jobqueue.protocol.commands import Command

    from simulation.redis_process import RedisProcess

READONLY = ErrorReply("READONLY", "READONLY You can't write against a read only replica.")
OOM = ErrorReply("OOM", "OOM command not allowed when used memory > 'maxmemory'.")
LOADING = ErrorReply("LOADING", "LOADING Redis is loading the dataset in memory")
UNBLOCKED = ErrorReply("UNBLOCKED", "UNBLOCKED force unblock from blocking operation")
ABORTED = ErrorReply("EXECABORT", "EXECABORT Transaction discarded because of previous errors.")
NO_MULTI = ErrorReply("ERR", "ERR EXEC without MULTI")
NO_COMMAND = ErrorReply("NOPERM", "NOPERM User has no permissions to run the 'publish' command")
NO_CHANNEL = ErrorReply("NOPERM", "NOPERM No permissions to access a channel")
SUBSCRIBED = ErrorReply("ERR", "ERR Can't execute a command that isn't about subscriptions")
NEVER_WRITES = {b"EVAL"}  # by itself: what a script calls may be refused
ON_CHANNELS = {b"SUBSCRIBE", b"UNSUBSCRIBE"}
WITHOUT_DATA = {b"MULTI", b"EXEC", b"PING", b"PUBLISH", *ON_CHANNELS}


def refusal_of(redis: RedisProcess, command: Command, *, queues: bool = False) -> ErrorReply | None:
    """Return why a Redis refuses a command, in the order in which it checks; None if it doesn't.

    Args:
        redis: The Redis.
        command: What it is to execute.
        queues: Whether it is to queue it, for EXEC.
    """
    name = command[0]
    if name == b"SUBSCRIBE" and redis.refuses_subscriptions:
        return NO_CHANNEL
    if name == b"PUBLISH" and redis.forbids_publish:
        return NO_COMMAND
    if name == b"PUBLISH" and b"forbidden" in command[1]:
        return NO_CHANNEL
    if redis.full and (name in GROWS or (queues and redis.saves_memory)):
        return OOM
    if redis.replica_of is not None and name not in READS | WITHOUT_DATA | NEVER_WRITES:
        return READONLY
    return LOADING if redis.loading and name not in WITHOUT_DATA else None
