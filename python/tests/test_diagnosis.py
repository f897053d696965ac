"""How replies are judged that no Redis of a test gives, or not easily."""

from __future__ import annotations

from typing import Any

import pytest
from jobqueue import diagnosis
from jobqueue.diagnosis import IDLE_SECONDS, MIB, WITH_TAKEOVER
from jobqueue.protocol.leases import State

JOB = b'{"method":"echo","channel":"c","id":"7"}'
INFO = {"role": "master", "connected_slaves": 1}
VALKEY = {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.1.2"}
FULL = {"maxmemory_policy": "noeviction", "maxmemory": 10 * MIB, "used_memory": 10 * MIB}
WHOLE = {"cluster_state": "ok", "cluster_slots_fail": "0"}
ONE: list[tuple[Any, str, str]] = [
    (diagnosis.version({"redis_version": "5.0.14"}), "mend", "upgrade to 6.2"),
    (diagnosis.version({"redis_version": "6.2.14"}), "ok", "redis 6.2.14"),
    (diagnosis.version({"redis_version": "10.1.0"}), "note", "has not been run on redis 10.1.0"),
    (diagnosis.version(VALKEY), "ok", "valkey 9.1.2"),
    (diagnosis.node(), "mend", "redis+cluster://"),
    (diagnosis.cluster(WHOLE, 7), "ok", "slot 7 of this queue too"),
    (diagnosis.cluster(WHOLE | {"cluster_state": "fail"}, 7), "mend", "state is fail"),
    (diagnosis.cluster(WHOLE | {"cluster_slots_fail": "3"}, 7), "mend", "3 slots are not served"),
    (diagnosis.coverage("yes"), "note", "unless cluster-require-full-coverage is no"),
    (diagnosis.coverage("no"), "ok", "while nodes of other queues are away"),
    (diagnosis.partitions("0"), "note", "unless min-replicas-to-write is 1"),
    (diagnosis.partitions("1"), "ok", "soon refuses jobs"),
    (diagnosis.replicas({"role": "slave"}), "mend", "connect to the primary"),
    (diagnosis.replicas({"role": "master"}), "note", "there is no replica"),
    (diagnosis.replicas(INFO | {"slave0": {"state": "online", "lag": 1}}), "ok", "1 replicas are"),
    (diagnosis.replicas(INFO | {"slave0": {"state": "online", "lag": 11}}), "mend", "1 of 1"),
    (diagnosis.replicas(INFO | {"slave0": {"state": "wait_bgsave", "lag": 0}}), "mend", "1 of 1"),
    (diagnosis.persistence({"aof_enabled": 0}), "mend", "set appendonly to yes"),
    (diagnosis.persistence({"aof_enabled": 1, "aof_last_write_status": "err"}), "mend", "disk"),
    (diagnosis.persistence({"aof_enabled": 1}), "ok", "writes an append-only file"),
    (diagnosis.appendfsync("no"), "mend", "set appendfsync to everysec or always"),
    (diagnosis.appendfsync("everysec"), "note", "up to a second"),
    (diagnosis.appendfsync("always"), "ok", "before Redis replies"),
    (diagnosis.idle_timeout("30"), "mend", "idle for 30 s"),
    (diagnosis.idle_timeout("0"), "ok", "keeps idle connections"),
    (diagnosis.buffers("normal 0 0 0 slave 1 1 1 pubsub 0 0 0"), "ok", "results may wait"),
    (diagnosis.buffers("pubsub 4194304 1048576 5"), "mend", "more than 4 MiB"),
    (diagnosis.waiting_jobs(None, None, 0), "ok", "no job waits"),
    (diagnosis.waiting_jobs(JOB, None, 0), "ok", "0 jobs wait"),
    (
        diagnosis.waiting_jobs(JOB, JOB, 2),
        "mend",
        "oldest of 2 waiting jobs, channel=c id=7, for 1 s",
    ),
    (diagnosis.waiting_jobs(b"{", b"{", 1), "mend", "which is not a valid job"),
    (diagnosis.dead_messages(2), "mend", "2 messages are dead"),
    (diagnosis.dead_messages(0), "ok", "no message is dead"),
]


@pytest.mark.parametrize("verdict,level,words", ONE)
def test_a_reply_is_judged(verdict: Any, level: str, words: str) -> None:
    """With a sentence that says what to change, or what is so."""
    found, sentence = verdict

    assert found == level
    assert words in sentence


def test_a_cluster_is_not_judged_as_a_primary_with_sentinels() -> None:
    """Its primaries stop by themselves when they are cut off."""
    assert diagnosis.may_be_cut_off(INFO)
    assert not diagnosis.may_be_cut_off(INFO | {"cluster_enabled": 1})
    assert not diagnosis.may_be_cut_off(INFO | {"connected_slaves": 0})


@pytest.mark.parametrize(
    "changed, levels",
    [
        ({}, ["mend"]),
        ({"used_memory": 9 * MIB}, ["ok"]),
        ({"maxmemory": 0}, ["ok"]),
        ({"maxmemory_policy": "allkeys-lru"}, ["mend", "mend"]),
        ({"maxmemory_policy": "allkeys-lru", "used_memory": MIB}, ["mend"]),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 0}, ["note"]),
    ],
)
def test_a_full_memory_and_a_policy_that_evicts_are_two_matters(
    changed: dict[str, Any], levels: list[str]
) -> None:
    """Each has its sentence, and each is worse with a limit of memory."""
    assert [level for level, _ in diagnosis.memory(FULL | changed)] == levels


@pytest.mark.parametrize(
    "refused, levels",
    [
        ({"client": [], "server": [], WITH_TAKEOVER: []}, ["ok", "ok", "ok"]),
        ({"client": [], "server": ["no"], WITH_TAKEOVER: ["no"]}, ["ok", "note", "note"]),
        ({"client": ["no"], "server": [], WITH_TAKEOVER: []}, ["note", "ok", "ok"]),
        ({"client": ["no"], "server": [], WITH_TAKEOVER: ["no"]}, ["mend", "ok", "mend"]),
        ({"server": [], WITH_TAKEOVER: ["no"]}, ["ok", "mend"]),
        ({"client": ["no"]}, ["mend"]),
    ],
)
def test_a_user_is_for_one_role(refused: dict[str, list[str]], levels: list[str]) -> None:
    """What it may not do in another role is only a note, if it may do all in one that was asked about."""
    assert [level for level, _ in diagnosis.permissions("someone", refused)] == levels


@pytest.mark.parametrize(
    "state, idle, found",
    [
        (State("alive"), 10 * IDLE_SECONDS, [("ok", "of all 1 lists with jobs are alive")]),
        (State("lapsed", 0), IDLE_SECONDS, [("mend", "the server of web-7 is gone")]),
        (State("lapsed", IDLE_SECONDS), 0, [("mend", "for 60 s no other")]),
        (State("lapsed", 0), IDLE_SECONDS - 1, []),
        (State("emptied", 10 * IDLE_SECONDS), IDLE_SECONDS - 1, []),
        (State("emptied"), IDLE_SECONDS, [("mend", "the server of web-7 is gone")]),
        (State("unknown"), IDLE_SECONDS, [("mend", "no server has looked at web-7 for 60 s")]),
    ],
)
def test_a_list_is_left_behind_when_nobody_looks_at_it(
    state: State, idle: int, found: list[tuple[str, str]]
) -> None:
    """A lease tells that a server is alive, and a mark for how long it isn't."""
    verdicts = list(diagnosis.in_process_lists({"web-7": state}, {"web-7": idle}))

    assert [level for level, _ in verdicts] == [level for level, _ in found]
    assert all(words in said for (_, said), (_, words) in zip(verdicts, found, strict=True))


def test_lists_without_jobs_are_no_matter() -> None:
    """They are the lists of servers that wait, or that ended well."""
    assert list(diagnosis.in_process_lists({"web-7": State("lapsed")}, {})) == [
        ("ok", "no server has claimed jobs")
    ]
