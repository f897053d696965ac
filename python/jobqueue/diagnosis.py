"""What the Redis of a queue says about itself, judged: what should be changed there, and what should be known.

Pure: `jobqueue.doctor` asks. Each function judges the reply to one question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from jobqueue.protocol import keys
from jobqueue.protocol.messages import Dead, decide

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobqueue.protocol.leases import State

Level = Literal["ok", "note", "mend", "unknown"]
Verdict = tuple[Level, str]  # with a sentence
Facts = dict[str, Any]  # of INFO

MIB = 1_048_576
IDLE_SECONDS = 60  # servers read their lists every 5 seconds, unless their handlers take longer
CLAIM_SECONDS = 1.0  # after which the oldest job should have been claimed
TESTED = {"redis": ("6.2", "7.0", "8.0"), "valkey": ("8.1", "9.1")}  # by the conformance suite
WITH_TAKEOVER = "server with takeover"  # as servers start by default


def version(info: Facts) -> Verdict:
    """Judge which server it is."""
    name = str(info.get("server_name", "redis"))
    full = str(info.get(f"{name}_version", info["redis_version"]))
    major, minor = (int(number) for number in full.split(".")[:2])
    if name == "redis" and (major, minor) < (6, 2):
        return "mend", f"redis {full} has no BLMOVE: upgrade to 6.2 or newer"
    if f"{major}.{minor}" in TESTED.get(name, ()):
        return "ok", f"{name} {full} is of a version on which the conformance suite has been run"
    tested = ", ".join(f"{name} {' '.join(versions)}" for name, versions in TESTED.items())
    return "note", f"the conformance suite has not been run on {name} {full}, but on {tested}"


def node() -> Verdict:
    """Judge a cluster of which one node was asked, as if it were a Redis of its own."""
    return "mend", "this is a node of a cluster: use a URL that begins with redis+cluster://"


def cluster(state: Mapping[str, str], slot: int) -> Verdict:
    """Judge whether a cluster, of which this is CLUSTER INFO, serves the queue's slot."""
    if state["cluster_state"] != "ok" or int(state["cluster_slots_fail"]):
        return "mend", (
            f"the cluster's state is {state['cluster_state']}, and {state['cluster_slots_fail']} slots "
            "are not served: see CLUSTER NODES for the nodes that failed, and start them"
        )
    return "ok", f"all slots of the cluster are served, slot {slot} of this queue too"


def coverage(required: str) -> Verdict:
    """Judge whether a queue of a cluster waits for nodes that it doesn't need."""
    if required == "yes":
        return "note", (
            "while one node of the cluster is away or fails over, the others refuse the jobs of their "
            "queues, too, unless cluster-require-full-coverage is no"
        )
    return "ok", "a queue of the cluster is served while nodes of other queues are away"


def replicas(info: Facts) -> Verdict:
    """Judge whether another Redis has the data, too."""
    if info.get("role") != "master":
        return "mend", (
            "this is a replica, which refuses jobs: connect to the primary, for example with a URL that "
            "begins with redis+sentinel://"
        )
    connected = [info[f"slave{number}"] for number in range(int(info.get("connected_slaves", 0)))]
    behind = [each for each in connected if each["state"] != "online" or int(each["lag"]) > 10]
    if behind:
        return "mend", (
            f"{len(behind)} of {len(connected)} replicas are not up to date: see INFO replication, and "
            "the log of the replica"
        )
    if connected:
        return "ok", f"{len(connected)} replicas are up to date"
    return "note", "there is no replica: nobody takes over if this host fails"


def may_be_cut_off(info: Facts) -> bool:
    """Tell whether it has replicas, and goes on without them: a primary of a cluster stops by itself."""
    return bool(int(info.get("connected_slaves", 0))) and not info.get("cluster_enabled")


def partitions(min_replicas_to_write: str) -> Verdict:
    """Judge whether a primary that its replicas don't hear goes on accepting jobs."""
    if int(min_replicas_to_write):
        return "ok", "a primary that is cut off from its replicas soon refuses jobs"
    return "note", (
        "a primary that is cut off from its replicas goes on accepting jobs, which are lost if "
        "another one takes over, unless min-replicas-to-write is 1 or more"
    )


def memory(info: Facts) -> Iterator[Verdict]:
    """Judge whether Redis would delete or refuse jobs when its memory is full."""
    policy, limit, used = info["maxmemory_policy"], int(info["maxmemory"]), int(info["used_memory"])
    if policy != "noeviction":
        when = "when its memory is full" if limit else "as soon as it has a limit of memory"
        yield (
            ("mend" if limit else "note"),
            (
                f"with the policy {policy} Redis deletes whole queues {when}: set maxmemory-policy to "
                "noeviction"
            ),
        )
    if limit and used > 0.9 * limit:
        yield (
            "mend",
            (
                f"Redis uses {100 * used // limit} % of its memory, and refuses jobs when it is full: raise "
                "maxmemory, or find what takes it with redis-cli --memkeys"
            ),
        )
    elif policy == "noeviction":
        limited = f"with a limit of {limit // MIB} MiB" if limit else "without a limit"
        yield "ok", f"Redis deletes nothing when its memory is full, {limited}"


def persistence(info: Facts) -> Verdict:
    """Judge what a crash of Redis costs."""
    if not int(info["aof_enabled"]):
        return "mend", (
            "a crash of Redis loses the jobs that were pushed since its last snapshot: set appendonly "
            "to yes"
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        return "mend", (
            "Redis can't write its append-only file: see its log, and whether its disk is full"
        )
    return "ok", "Redis writes an append-only file"


def appendfsync(value: str) -> Verdict:
    """Judge what a power failure costs, given an append-only file."""
    if value == "no":
        return "mend", (
            "a power failure loses the jobs that the system hasn't written yet, of half a minute or "
            "more: set appendfsync to everysec or always"
        )
    if value == "everysec":
        return "note", (
            "a power failure loses the jobs of up to a second (appendfsync everysec, not always)"
        )
    return "ok", "the append-only file is on disk before Redis replies"


def idle_timeout(value: str) -> Verdict:
    """Judge whether Redis ends connections that are in use."""
    if int(value):
        return "mend", (
            f"Redis ends connections that were idle for {value} s, and servers that run several "
            "handlers then connect again for nothing: set timeout to 0"
        )
    return "ok", "Redis keeps idle connections"


def buffers(value: str) -> Verdict:
    """Judge how long a client may be busy while results arrive."""
    words = value.split()
    hard, soft, seconds = (int(word) for word in words[words.index("pubsub") + 1 :][:3])
    if 0 < hard < 32 * MIB or 0 < soft < 8 * MIB:
        return "mend", (
            f"Redis cuts a client off if more than {hard / MIB:g} MiB of results wait for it, or "
            f"{soft / MIB:g} MiB for {seconds} s: set client-output-buffer-limit to "
            "'pubsub 32mb 8mb 60' or more"
        )
    return "ok", "results may wait for clients that are busy for a moment"


def permissions(user: str, refused: Mapping[str, list[str]]) -> Iterator[Verdict]:
    """Judge what a user may do, given the refusals that each role would get of those that were asked about."""
    as_client = not refused.get("client", ["not asked"])
    as_server = not any(refused.get(name, ["not asked"]) for name in ("server", WITH_TAKEOVER))
    for name, reasons in refused.items():
        if reasons:
            otherwise = ", or start it with --no-takeover" * (name == WITH_TAKEOVER)
            yield (
                ("note" if as_client or as_server else "mend"),
                (
                    f"the user {user} may not do what a {name} needs; section 12 of the protocol has the "
                    f"ACL{otherwise}; Redis says: {'; '.join(reasons)}"
                ),
            )
        else:
            yield "ok", f"the user {user} may do what a {name} needs"


def in_process_lists(states: Mapping[str, State], idles: Mapping[str, int]) -> Iterator[Verdict]:
    """Judge whether lists have been left behind by servers that are gone.

    A server that is alive may be busy for as long as it likes: its lease tells.

    Args:
        states: The state of each list's server.
        idles: For how many seconds nobody has accessed each list that has jobs.
    """
    for name, idle in idles.items():
        if (sentence := _abandoned(name, states[name], idle)) is not None:
            yield "mend", sentence
    if not idles:
        yield "ok", "no server has claimed jobs"
    elif all(states[name].name == "alive" for name in idles):
        yield "ok", f"the servers of all {len(idles)} lists with jobs are alive"


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


def waiting_jobs(oldest: bytes | None, later: bytes | None, waiting: int) -> Verdict:
    """Judge whether somebody claims the oldest job.

    Args:
        oldest: The oldest job, if there is one.
        later: The oldest job `CLAIM_SECONDS` later.
        waiting: How many jobs wait then.
    """
    if oldest is None:
        return "ok", "no job waits"
    if later != oldest:
        return "ok", f"{waiting} jobs wait, and the oldest are being claimed"
    return "mend", (
        f"nobody has claimed the oldest of {waiting} waiting jobs, {_described(oldest)}, for "
        f"{CLAIM_SECONDS:g} s: start a server, or more of them if those that run are busy"
    )


def _described(message: bytes) -> str:
    outcome = decide(message, ())
    if isinstance(outcome, Dead):
        return "which is not a valid job"
    return f"channel={keys.text(outcome.channel)} id={outcome.id}"


def dead_messages(dead: int) -> Verdict:
    """Judge whether there are messages that no server could answer."""
    if dead:
        return "mend", f"{dead} messages are dead: jobqueue dead list shows them, and why"
    return "ok", "no message is dead"
