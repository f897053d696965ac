"""What an operator should know about the Redis of a queue before it hurts. It changes nothing there.

Each check asks for one thing and judges the reply. One that Redis doesn't permit is reported as not
known, with the permission that it takes, and the others go on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from redis.exceptions import NoPermissionError, ResponseError

from jobqueue import admin
from jobqueue.protocol import keys
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Dead, decide
from jobqueue.wire.lookup import slot_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from redis import Redis

    from jobqueue.protocol.leases import State

Level = Literal["ok", "note", "mend", "unknown"]
Facts = dict[str, Any]

MIB = 1_048_576
IDLE_SECONDS = 60  # servers read their lists every 5 seconds, unless their handlers take longer
CLAIM_SECONDS = 1.0  # after which the oldest job should have been claimed
TESTED = {"redis": ("6.2", "7.0", "8.0"), "valkey": ("8.1", "9.1")}  # by the conformance suite


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
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "version": lambda: version(info()),
        "cluster": lambda: cluster(info(), redis, queue),
        "coverage": lambda: coverage(info(), redis),
        "replicas": lambda: replicas(info()),
        "partitions": lambda: partitions(info(), redis),
        "memory": lambda: memory(info()),
        "persistence": lambda: persistence(info()),
        "appendfsync": lambda: appendfsync(_setting(redis, "appendfsync")),
        "timeout": lambda: idle_timeout(_setting(redis, "timeout")),
        "buffers": lambda: buffers(_setting(redis, "client-output-buffer-limit")),
        "permissions": lambda: permissions(redis, queue, role),
        "in-process lists": lambda: in_process_lists(redis, queue),
        "waiting jobs": lambda: waiting_jobs(redis, queue, sleep),
        "dead messages": lambda: dead_messages(redis, queue),
    }
    for name, check in checks.items():
        try:
            yield from check()
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


def version(info: Facts) -> Iterator[Finding]:
    """Judge which server it is."""
    name = str(info.get("server_name", "redis"))
    full = str(info.get(f"{name}_version", info["redis_version"]))
    major, minor = (int(number) for number in full.split(".")[:2])
    if name == "redis" and (major, minor) < (6, 2):
        sentence = f"redis {full} has no BLMOVE: upgrade to 6.2 or newer"
        yield Finding("version", "mend", sentence)
    elif f"{major}.{minor}" in TESTED.get(name, ()):
        sentence = f"{name} {full} is of a version on which the conformance suite has been run"
        yield Finding("version", "ok", sentence)
    else:
        tested = ", ".join(f"{name} {' '.join(versions)}" for name, versions in TESTED.items())
        sentence = f"the conformance suite has not been run on {name} {full}, but on {tested}"
        yield Finding("version", "note", sentence)


def cluster(info: Facts, redis: Redis, queue: str) -> Iterator[Finding]:
    """Judge whether a cluster serves the queue's keys."""
    if not info.get("cluster_enabled"):
        return
    if "lookup" not in redis.connection_pool.connection_kwargs:
        sentence = "this is a node of a cluster: use a URL that begins with redis+cluster://"
        yield Finding("cluster", "mend", sentence)
    try:
        slot = slot_of(Keys.of(queue, ""))
    except ValueError as error:
        yield Finding("cluster", "mend", str(error))
        return
    state = _pairs(_ask(redis, "CLUSTER", "INFO"))
    if state["cluster_state"] != "ok" or int(state["cluster_slots_fail"]):
        sentence = (
            f"the cluster's state is {state['cluster_state']}, and {state['cluster_slots_fail']} slots "
            "are not served: see CLUSTER NODES for the nodes that failed, and start them"
        )
        yield Finding("cluster", "mend", sentence)
    else:
        sentence = f"all slots of the cluster are served, slot {slot} of this queue too"
        yield Finding("cluster", "ok", sentence)


def coverage(info: Facts, redis: Redis) -> Iterator[Finding]:
    """Judge whether a queue of a cluster waits for nodes that it doesn't need."""
    if not info.get("cluster_enabled"):
        return
    if _setting(redis, "cluster-require-full-coverage") == "yes":
        sentence = (
            "while one node of the cluster is away or fails over, the others refuse the jobs of their "
            "queues, too, unless cluster-require-full-coverage is no"
        )
        yield Finding("coverage", "note", sentence)
    else:
        sentence = "a queue of the cluster is served while nodes of other queues are away"
        yield Finding("coverage", "ok", sentence)


def replicas(info: Facts) -> Iterator[Finding]:
    """Judge whether another Redis has the data, too."""
    if info.get("role") != "master":
        sentence = (
            "this is a replica, which refuses jobs: connect to the primary, for example with a URL that "
            "begins with redis+sentinel://"
        )
        yield Finding("replicas", "mend", sentence)
        return
    connected = [info[f"slave{number}"] for number in range(int(info.get("connected_slaves", 0)))]
    behind = [each for each in connected if each["state"] != "online" or int(each["lag"]) > 10]
    if behind:
        sentence = (
            f"{len(behind)} of {len(connected)} replicas are not up to date: see INFO replication, and "
            "the log of the replica"
        )
        yield Finding("replicas", "mend", sentence)
    elif connected:
        yield Finding("replicas", "ok", f"{len(connected)} replicas are up to date")
    else:
        yield Finding(
            "replicas", "note", "there is no replica: nobody takes over if this host fails"
        )


def partitions(info: Facts, redis: Redis) -> Iterator[Finding]:
    """Judge whether a primary that its replicas don't hear goes on accepting jobs."""
    if info.get("cluster_enabled") or not int(info.get("connected_slaves", 0)):
        return  # a primary of a cluster stops by itself
    if int(_setting(redis, "min-replicas-to-write")):
        sentence = "a primary that is cut off from its replicas soon refuses jobs"
        yield Finding("partitions", "ok", sentence)
    else:
        sentence = (
            "a primary that is cut off from its replicas goes on accepting jobs, which are lost if "
            "another one takes over, unless min-replicas-to-write is 1 or more"
        )
        yield Finding("partitions", "note", sentence)


def memory(info: Facts) -> Iterator[Finding]:
    """Judge whether Redis would delete or refuse jobs when its memory is full."""
    policy, limit, used = info["maxmemory_policy"], int(info["maxmemory"]), int(info["used_memory"])
    if policy != "noeviction":
        when = "when its memory is full" if limit else "as soon as it has a limit of memory"
        sentence = (
            f"with the policy {policy} Redis deletes whole queues {when}: set maxmemory-policy to "
            "noeviction"
        )
        yield Finding("memory", "mend" if limit else "note", sentence)
    if limit and used > 0.9 * limit:
        sentence = (
            f"Redis uses {100 * used // limit} % of its memory, and refuses jobs when it is full: raise "
            "maxmemory, or find what takes it with redis-cli --memkeys"
        )
        yield Finding("memory", "mend", sentence)
    elif policy == "noeviction":
        limited = f"with a limit of {limit // MIB} MiB" if limit else "without a limit"
        yield Finding("memory", "ok", f"Redis deletes nothing when its memory is full, {limited}")


def persistence(info: Facts) -> Iterator[Finding]:
    """Judge what a crash of Redis costs."""
    if not int(info["aof_enabled"]):
        sentence = (
            "a crash of Redis loses the jobs that were pushed since its last snapshot: set appendonly "
            "to yes"
        )
        yield Finding("persistence", "mend", sentence)
    elif info.get("aof_last_write_status", "ok") != "ok":
        sentence = (
            "Redis can't write its append-only file: see its log, and whether its disk is full"
        )
        yield Finding("persistence", "mend", sentence)
    else:
        yield Finding("persistence", "ok", "Redis writes an append-only file")


def appendfsync(value: str) -> Iterator[Finding]:
    """Judge what a power failure costs, given an append-only file."""
    if value == "no":
        sentence = (
            "a power failure loses the jobs that the system hasn't written yet, of half a minute or "
            "more: set appendfsync to everysec or always"
        )
        yield Finding("appendfsync", "mend", sentence)
    elif value == "everysec":
        sentence = (
            "a power failure loses the jobs of up to a second (appendfsync everysec, not always)"
        )
        yield Finding("appendfsync", "note", sentence)
    else:
        yield Finding("appendfsync", "ok", "the append-only file is on disk before Redis replies")


def idle_timeout(value: str) -> Iterator[Finding]:
    """Judge whether Redis ends connections that are in use."""
    if int(value):
        sentence = (
            f"Redis ends connections that were idle for {value} s, and servers that run several "
            "handlers then connect again for nothing: set timeout to 0"
        )
        yield Finding("timeout", "mend", sentence)
    else:
        yield Finding("timeout", "ok", "Redis keeps idle connections")


def buffers(value: str) -> Iterator[Finding]:
    """Judge how long a client may be busy while results arrive."""
    words = value.split()
    hard, soft, seconds = (int(word) for word in words[words.index("pubsub") + 1 :][:3])
    if 0 < hard < 32 * MIB or 0 < soft < 8 * MIB:
        sentence = (
            f"Redis cuts a client off if more than {hard / MIB:g} MiB of results wait for it, or "
            f"{soft / MIB:g} MiB for {seconds} s: set client-output-buffer-limit to "
            "'pubsub 32mb 8mb 60' or more"
        )
        yield Finding("buffers", "mend", sentence)
    else:
        yield Finding("buffers", "ok", "results may wait for clients that are busy for a moment")


WITH_TAKEOVER = "server with takeover"  # as servers start by default


def permissions(
    redis: Redis, queue: str, role: Literal["client", "server"] | None
) -> Iterator[Finding]:
    """Judge what the user may do, as ACL DRYRUN tells it; nothing is executed."""
    user = keys.text(_ask(redis, "ACL", "WHOAMI"))
    refused: dict[str, list[str]] = {}
    for name, commands in _commands(queue).items():
        if role is None or name.startswith(role):
            replies = [_ask(redis, "ACL", "DRYRUN", user, *each) for each in commands]
            refused[name] = [keys.text(reply) for reply in replies if keys.text(reply) != "OK"]
    as_client = not refused.get("client", ["not asked"])
    as_server = not any(refused.get(name, ["not asked"]) for name in ("server", WITH_TAKEOVER))
    for name, reasons in refused.items():
        if reasons:
            otherwise = ", or start it with --no-takeover" * (name == WITH_TAKEOVER)
            sentence = (
                f"the user {user} may not do what a {name} needs; section 12 of the protocol has the "
                f"ACL{otherwise}; Redis says: {'; '.join(reasons)}"
            )
            yield Finding("permissions", "note" if as_client or as_server else "mend", sentence)
        else:
            yield Finding("permissions", "ok", f"the user {user} may do what a {name} needs")


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


def in_process_lists(redis: Redis, queue: str) -> Iterator[Finding]:
    """Judge whether lists have been left behind by servers that are gone.

    To count the entries would be an access, after which nobody could see how long there was none.
    A server that is alive may be busy for as long as it likes: its lease tells.
    """
    states, remark = admin.list_states(redis, queue)
    if remark:
        yield Finding("in-process lists", "unknown", remark)
    asked = zip(states, admin.ask_each(redis, "OBJECT IDLETIME", states), strict=True)
    idles = {name: int(idle) for name, idle in asked if idle is not None}  # the others are empty
    for name, idle in idles.items():
        if (sentence := _abandoned(name, states[name], idle)) is not None:
            yield Finding("in-process lists", "mend", sentence)
    if not idles:
        yield Finding("in-process lists", "ok", "no server has claimed jobs")
    elif all(states[name].name == "alive" for name in idles):
        sentence = f"the servers of all {len(idles)} lists with jobs are alive"
        yield Finding("in-process lists", "ok", sentence)


def _abandoned(name: str, state: State, idle: int) -> str | None:
    """Tell what to do about a list with jobs, if it has waited for too long."""
    if state.name == "alive":
        return None
    # A mark tells more than an access, which may have been anybody's.
    seconds = idle if state.name != "lapsed" else max(idle, state.seconds or 0)
    if seconds < IDLE_SECONDS:
        return None
    requeue = f"run jobqueue requeue --in-process {name}"
    if state.name in {"lapsed", "emptied"}:
        return (
            f"the server of {name} is gone, and for {seconds} s no other has run all of its jobs: start "
            f"a server with takeover, or {requeue}"
        )
    return (
        f"no server has looked at {name} for {seconds} s, which has jobs: start its server, or if that "
        f"never comes back, {requeue}"
    )


def waiting_jobs(redis: Redis, queue: str, sleep: Callable[[float], None]) -> Iterator[Finding]:
    """Judge whether somebody claims the oldest job."""
    name: Any = keys.encoded(queue)
    oldest: Any = redis.lindex(name, -1)
    if oldest is None:
        yield Finding("waiting jobs", "ok", "no job waits")
        return
    sleep(CLAIM_SECONDS)
    waiting = redis.llen(name)
    if redis.lindex(name, -1) != oldest:
        yield Finding(
            "waiting jobs", "ok", f"{waiting} jobs wait, and the oldest are being claimed"
        )
        return
    sentence = (
        f"nobody has claimed the oldest of {waiting} waiting jobs, {_described(oldest)}, for "
        f"{CLAIM_SECONDS:g} s: start a server, or more of them if those that run are busy"
    )
    yield Finding("waiting jobs", "mend", sentence)


def dead_messages(redis: Redis, queue: str) -> Iterator[Finding]:
    """Judge whether there are messages that no server could answer."""
    name: Any = keys.encoded(keys.dead(queue))
    if dead := redis.llen(name):
        sentence = f"{dead} messages are dead: jobqueue dead list shows them, and why"
        yield Finding("dead messages", "mend", sentence)
    else:
        yield Finding("dead messages", "ok", "no message is dead")


def _described(message: bytes) -> str:
    outcome = decide(message, ())
    if isinstance(outcome, Dead):
        return "which is not a valid job"
    return f"channel={keys.text(outcome.channel)} id={outcome.id}"


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
