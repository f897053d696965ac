"""What an operator should know about the Redis of a queue before it hurts. It changes nothing there.

Each check asks for one thing, which `jobqueue.diagnosis` judges. One that Redis doesn't permit is
reported as not known, with the permission that it takes, and the others go on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from redis.exceptions import NoPermissionError, ResponseError

from jobqueue import admin, diagnosis
from jobqueue.diagnosis import CLAIM_SECONDS, WITH_TAKEOVER, Facts, Level, Verdict
from jobqueue.protocol import keys
from jobqueue.protocol.keys import Keys
from jobqueue.wire.lookup import slot_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from redis import Redis


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        check: What was checked.
        level: `mend` for what should be changed, `note` for what should be known, `ok`, or `unknown`.
        sentence: What is so, and for `mend` what to do.
    """

    check: str
    level: Level
    sentence: str


def examine(
    redis: Redis,
    queue: str = keys.QUEUE,
    *,
    role: Literal["client", "server"] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Finding]:
    """Yield what there is to know about a queue and its Redis.

    Args:
        redis: A client of redis-py that returns bytes, with the user who is to be examined.
        queue: The queue's key.
        role: What the user is for. None: a client or a server.
        sleep: Waits for so many seconds, while the oldest job should be claimed.
    """
    info = _Info(redis)
    checks: dict[str, Callable[[], Iterable[Verdict]]] = {
        "version": lambda: [diagnosis.version(info())],
        "cluster": lambda: _cluster(info(), redis, queue),
        "coverage": lambda: _coverage(info(), redis),
        "replicas": lambda: [diagnosis.replicas(info())],
        "partitions": lambda: _partitions(info(), redis),
        "memory": lambda: diagnosis.memory(info()),
        "persistence": lambda: [diagnosis.persistence(info())],
        "appendfsync": lambda: [diagnosis.appendfsync(_setting(redis, "appendfsync"))],
        "timeout": lambda: [diagnosis.idle_timeout(_setting(redis, "timeout"))],
        "buffers": lambda: [diagnosis.buffers(_setting(redis, "client-output-buffer-limit"))],
        "permissions": lambda: _permissions(redis, queue, role),
        "in-process lists": lambda: _in_process_lists(redis, queue),
        "waiting jobs": lambda: [_waiting_jobs(redis, queue, sleep)],
        "dead messages": lambda: [_dead_messages(redis, queue)],
    }
    for name, check in checks.items():
        try:
            for level, sentence in check():
                yield Finding(name, level, sentence)
        except NoPermissionError as error:
            yield Finding(name, "unknown", f"not known, since the user lacks a permission: {error}")
        except ResponseError as error:
            yield Finding(name, "unknown", f"not known, since Redis refuses the question: {error}")


class _Info:
    """INFO, asked once."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._facts: Facts | None = None

    def __call__(self) -> Facts:
        if self._facts is None:
            self._facts = self._redis.info()
        return self._facts


def _cluster(info: Facts, redis: Redis, queue: str) -> Iterator[Verdict]:
    if not info.get("cluster_enabled"):
        return
    if "lookup" not in redis.connection_pool.connection_kwargs:
        yield diagnosis.node()
    try:
        slot = slot_of(Keys.of(queue, ""))
    except ValueError as error:
        yield "mend", str(error)
    else:
        yield diagnosis.cluster(_pairs(_ask(redis, "CLUSTER", "INFO")), slot)


def _coverage(info: Facts, redis: Redis) -> Iterator[Verdict]:
    if info.get("cluster_enabled"):
        yield diagnosis.coverage(_setting(redis, "cluster-require-full-coverage"))


def _partitions(info: Facts, redis: Redis) -> Iterator[Verdict]:
    if diagnosis.may_be_cut_off(info):
        yield diagnosis.partitions(_setting(redis, "min-replicas-to-write"))


def _permissions(
    redis: Redis, queue: str, role: Literal["client", "server"] | None
) -> Iterable[Verdict]:
    """Ask by ACL DRYRUN; nothing is executed."""
    user = keys.text(_ask(redis, "ACL", "WHOAMI"))
    refused: dict[str, list[str]] = {}
    for name, commands in _commands(queue).items():
        if role is None or name.startswith(role):
            replies = [_ask(redis, "ACL", "DRYRUN", user, *each) for each in commands]
            refused[name] = [keys.text(reply) for reply in replies if keys.text(reply) != "OK"]
    return diagnosis.permissions(user, refused)


def _commands(queue: str) -> dict[str, list[tuple[str, ...]]]:
    """Return what each role sends, as section 12 of the protocol permits it.

    Scripts are asked about by the commands in them.
    """
    lists = keys.Keys.of(queue, "doctor")
    own, dead = keys.name(lists.in_process), keys.dead(queue)
    lease, registry = keys.name(lists.lease), keys.name(lists.processors)
    channel, count = keys.results(queue, "doctor"), keys.name(keys.attempts(lists.queue, b"{}"))
    return {
        "client": [("LPUSH", queue, "{}"), ("SUBSCRIBE", channel)],
        "server": [
            ("LRANGE", own, "0", "-1"),
            ("BLMOVE", queue, own, "RIGHT", "LEFT", "1"),
            ("LMOVE", queue, own, "RIGHT", "LEFT"),
            ("LREM", own, "-1", "{}"),
            ("LPUSH", dead, "{}"),
            ("PUBLISH", channel, "{}"),
            ("MULTI",),
            ("EXEC",),
        ],
        WITH_TAKEOVER: [
            ("EVAL", "return 1", "1", lease),
            ("SET", lease, "token", "NX", "PX", "1"),
            ("GET", lease),
            ("DEL", lease),
            ("EXISTS", lease),
            ("PEXPIRE", lease, "1"),
            ("PTTL", lease),
            ("HSET", registry, own, "0"),
            ("HGET", registry, own),
            ("HDEL", registry, own),
            ("HSCAN", registry, "0"),
            ("LLEN", own),
            ("TIME",),
            ("INCR", count),
            ("EXPIRE", count, "1"),
        ],
    }


def _in_process_lists(redis: Redis, queue: str) -> Iterator[Verdict]:
    """Ask for how long no list was accessed.

    To count the entries would be an access, after which nobody could see how long there was none.
    """
    states, remark = admin.list_states(redis, queue)
    if remark:
        yield "unknown", remark
    asked = zip(states, admin.ask_each(redis, "OBJECT IDLETIME", states), strict=True)
    idles = {name: int(idle) for name, idle in asked if idle is not None}  # the others are empty
    yield from diagnosis.in_process_lists(states, idles)


def _waiting_jobs(redis: Redis, queue: str, sleep: Callable[[float], None]) -> Verdict:
    name: Any = keys.encoded(queue)
    oldest: Any = redis.lindex(name, -1)
    if oldest is None:
        return diagnosis.waiting_jobs(None, None, 0)
    sleep(CLAIM_SECONDS)
    waiting = redis.llen(name)
    later: Any = redis.lindex(name, -1)
    return diagnosis.waiting_jobs(oldest, later, waiting)


def _dead_messages(redis: Redis, queue: str) -> Verdict:
    name: Any = keys.encoded(keys.dead(queue))
    return diagnosis.dead_messages(redis.llen(name))


def _ask(redis: Any, *command: object) -> Any:
    return redis.execute_command(*command)


def _setting(redis: Redis, name: str) -> str:
    pairs = _ask(redis, "CONFIG", "GET", name)
    values = list(pairs.values()) if isinstance(pairs, dict) else pairs[1:2]
    if not values:
        raise ResponseError(f"it has no setting {name}")
    return keys.text(values[0])


def _pairs(text: bytes | str) -> Mapping[str, str]:
    lines = keys.text(text).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
