"""What `jobqueue doctor` finds, on a real Redis that is set up wrong in one way at a time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import Client, admin, diagnosis, doctor
from jobqueue.diagnosis import CLAIM_SECONDS, MIB
from jobqueue.doctor import Finding, examine
from redis import Redis
from redis.exceptions import ResponseError

from tests.conftest import until
from tests.server.test_server import Serve, echo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUEUE = "job-queue"
JOB = b'{"method":"echo","channel":"c","id":"7"}'
STATUS = "+llen +scan +type +hscan +exists +time +ping +select"
ALL = f"+info +config|get +acl|whoami +acl|dryrun +object|idletime +lindex {STATUS}"


def found(redis: Redis, check: str, **options: Any) -> list[Finding]:
    """What one check finds; nobody waits for it."""
    options.setdefault("sleep", lambda _: None)
    return [each for each in examine(redis, QUEUE, **options) if each.check == check]


def levels(redis: Redis, **options: Any) -> dict[str, str]:
    """The last level of each check."""
    options.setdefault("sleep", lambda _: None)
    return {each.check: each.level for each in examine(redis, QUEUE, **options)}


@pytest.fixture
def config(redis: Redis) -> Iterator[Callable[[str, object], None]]:
    """Changes settings of Redis, which are restored after the test."""
    before: dict[str, str] = {}

    def change(name: str, value: object) -> None:
        before.setdefault(name, str(redis.config_get(name)[name]))
        redis.config_set(name, str(value))

    yield change
    for name, value in before.items():
        redis.config_set(name, value)


def test_a_sound_redis_has_nothing_to_mend(redis: Redis) -> None:
    """Every check says something, and the only note is that there is no replica."""
    assert levels(redis) == {
        "version": "ok",
        "replicas": "note",
        "memory": "ok",
        "persistence": "ok",
        "appendfsync": "ok",
        "timeout": "ok",
        "buffers": "ok",
        "permissions": "ok",
        "in-process lists": "ok",
        "waiting jobs": "ok",
        "dead messages": "ok",
    }


SETTINGS: list[tuple[str, dict[str, object], str, str]] = [
    ("memory", {"maxmemory-policy": "allkeys-lru"}, "note", "set maxmemory-policy to noeviction"),
    (
        "memory",
        {"maxmemory-policy": "volatile-ttl", "maxmemory": 10**9},
        "mend",
        "deletes whole queues when its memory is full: set maxmemory-policy to noeviction",
    ),
    ("memory", {"maxmemory": 1_000}, "mend", "raise maxmemory"),
    ("persistence", {"appendonly": "no"}, "mend", "set appendonly to yes"),
    ("appendfsync", {"appendfsync": "everysec"}, "note", "up to a second"),
    ("appendfsync", {"appendfsync": "no"}, "mend", "set appendfsync to everysec or always"),
    ("timeout", {"timeout": 30}, "mend", "idle for 30 s.*set timeout to 0"),
    (
        "buffers",
        {"client-output-buffer-limit": "pubsub 4194304 1048576 5"},
        "mend",
        "more than 4 MiB.*1 MiB for 5 s: set client-output-buffer-limit",
    ),
    (
        "buffers",
        {"client-output-buffer-limit": f"pubsub {32 * MIB} {8 * MIB - 1} 60"},
        "mend",
        "set client-output-buffer-limit",
    ),
]


@pytest.mark.parametrize("check,settings,level,sentence", SETTINGS)
def test_a_setting_is_judged(
    redis: Redis, config: Any, check: str, settings: dict[str, object], level: str, sentence: str
) -> None:
    """Each that costs jobs or connections, with what to set instead."""
    for name, value in settings.items():
        config(name, value)

    (finding,) = [each for each in found(redis, check) if each.level != "ok"]

    assert finding.level == level
    assert re.search(sentence, finding.sentence), finding.sentence


def test_a_list_that_no_server_looks_at_is_found(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check doesn't look at it itself, so it finds it again."""
    redis.lpush("job-queue:in-process:web-7", JOB)
    assert found(redis, "in-process lists") == []
    monkeypatch.setattr(diagnosis, "IDLE_SECONDS", 1)

    (first,) = until(lambda: found(redis, "in-process lists"), "a list that nobody has looked at")
    (second,) = found(redis, "in-process lists")

    assert (first.level, second.level) == ("mend", "mend")
    assert "jobqueue requeue --in-process job-queue:in-process:web-7" in first.sentence


@pytest.mark.parametrize("value", ["0", "1", "-1"])
def test_the_lease_tells_which_list_is_abandoned(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """One that is alive may be busy for as long as it likes, and an empty list is no matter."""
    monkeypatch.setattr(diagnosis, "IDLE_SECONDS", 0)  # every list has been idle for long enough
    alive, gone, empty = (f"job-queue:in-process:{name}" for name in ("alive", "gone", "empty"))
    redis.hset("job-queue:processors", mapping={alive: value, empty: value})
    redis.set(f"job-queue:lease:{alive}", "token")
    redis.set("job-queue:text", "no list")
    redis.hset("job-queue:processors", "job-queue:text", "1")
    assert [each.sentence for each in found(redis, "in-process lists")] == [
        "no server has claimed jobs"
    ]
    redis.lpush(alive, JOB)
    (well,) = found(redis, "in-process lists")

    redis.hset("job-queue:processors", gone, value)
    redis.lpush(gone, JOB)
    (finding,) = found(redis, "in-process lists")

    assert (well.level, finding.level) == ("ok", "mend")
    assert f"the server of {gone} is gone" in finding.sentence
    assert f"jobqueue requeue --in-process {gone}" in finding.sentence


def test_a_mark_counts_where_somebody_looked_at_the_list(redis: Redis) -> None:
    """Reading the list hides how long it was idle, but not for how long its server is gone."""
    old, fresh = "job-queue:in-process:old", "job-queue:in-process:fresh"
    now = redis.time()[0] * 1000
    redis.hset("job-queue:processors", mapping={old: now - 3_600_000, fresh: "0"})
    redis.lpush(old, JOB)
    redis.lpush(fresh, JOB)

    (finding,) = found(redis, "in-process lists")

    assert finding.level == "mend"
    assert f"the server of {old} is gone" in finding.sentence


def test_without_permission_for_the_leases_idle_time_tells(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check says what it can't know, and judges the list by what it may see."""
    monkeypatch.setattr(diagnosis, "IDLE_SECONDS", 0)
    redis.lpush("job-queue:in-process:web-7", JOB)

    with user(redis, redis_url, "old", f"~job-queue ~job-queue:* {ALL} -hscan") as someone:
        remark, finding = found(someone, "in-process lists")

    assert (remark.level, finding.level) == ("unknown", "mend")
    assert "'hscan'" in remark.sentence
    assert finding.sentence.startswith("no server has looked at job-queue:in-process:web-7")


def test_a_job_that_nobody_claims_is_found(redis: Redis) -> None:
    """It is still the oldest after a second; a job that is claimed meanwhile is none."""
    redis.lpush(QUEUE, JOB, "another")
    waits: list[float] = []

    (finding,) = found(redis, "waiting jobs", sleep=waits.append)
    (claimed,) = found(redis, "waiting jobs", sleep=lambda _: redis.rpop(QUEUE))

    assert (finding.level, waits) == ("mend", [CLAIM_SECONDS])
    assert "the oldest of 2 waiting jobs, channel=c id=7" in finding.sentence
    assert claimed.level == "ok"


@pytest.mark.parametrize("kind", ["threads"], indirect=True)
def test_a_queue_that_is_served_is_in_order(serve: Serve, redis: Redis, client: Client) -> None:
    """A server that looks and claims leaves nothing to find."""
    serve({"echo": echo})
    assert client.run("echo", 1).result(20) == 1

    until(
        lambda: [each.name for each in admin.list_states(redis)[0].values()] == ["alive"],
        "a server that is alive",
    )
    assert found(redis, "waiting jobs")[0].level == "ok"
    assert not [each for each in found(redis, "in-process lists") if each.level != "ok"]


def test_dead_messages_are_counted(redis: Redis) -> None:
    """With the command that shows them."""
    redis.lpush("job-queue:dead", "a", "b")

    (finding,) = found(redis, "dead messages")

    assert (finding.level, finding.sentence[:18]) == ("mend", "2 messages are dea")


def user(redis: Redis, redis_url: str, name: str, rules: str) -> Redis:
    """A client with a user of its own."""
    ask: Any = redis.execute_command
    ask("ACL", "SETUSER", name, "reset", "on", ">secret", *rules.split())
    return Redis.from_url(redis_url, username=name, password="secret", protocol=2)


CLIENT = f"~job-queue ~job-queue:* &job-queue:results:* +lpush +subscribe {ALL}"
OLDER = f"{CLIENT} +blmove +lmove +lrem +lrange +publish +multi +exec"
SERVER = (
    f"{OLDER} +eval +set +get +del +exists +pexpire +pttl +hset +hget +hdel +hscan +llen +time "
    "+incr +expire"
)
RIGHTS: list[tuple[str, str | None, list[str], str]] = [
    (SERVER, None, ["ok", "ok", "ok"], ""),
    (SERVER, "server", ["ok", "ok"], ""),
    (OLDER, None, ["ok", "ok", "note"], "--no-takeover"),
    (OLDER, "server", ["ok", "mend"], "'hset'"),
    (SERVER.replace(" +pexpire", ""), "server", ["ok", "mend"], "'pexpire'"),
    (SERVER.replace(" +incr", ""), "server", ["ok", "mend"], "'incr'"),
    (CLIENT, None, ["ok", "note", "note"], "'eval'"),
    (CLIENT, "client", ["ok"], ""),
    (CLIENT, "server", ["mend", "mend"], "'eval'"),
    (SERVER.replace("&job-queue:results:*", "&other"), None, ["mend", "mend", "ok"], ""),
    (SERVER.replace("~job-queue:*", ""), "server", ["mend", "mend"], "key"),
    (f"~* &* {ALL}", None, ["mend", "mend", "mend"], "section 12"),
]


@pytest.mark.parametrize("rules,role,expected,said", RIGHTS)
def test_what_the_user_may_do_is_found(
    redis: Redis, redis_url: str, rules: str, role: Any, expected: list[str], said: str
) -> None:
    """For a client, for a server, or for either; and nothing is executed."""
    with user(redis, redis_url, "someone", rules) as someone:
        findings = found(someone, "permissions", role=role)

    assert [each.level for each in findings] == expected
    assert said in findings[-1].sentence
    assert redis.dbsize() == 0


def test_what_may_not_be_asked_is_unknown(redis: Redis, redis_url: str) -> None:
    """The user of `jobqueue status` learns what it may, and for the rest which permission it takes."""
    with user(
        redis,
        redis_url,
        "jobqueue-status",
        f"~job-queue ~job-queue:* {STATUS}",
    ) as status:
        redis.lpush("job-queue:dead", "x")
        findings = list(examine(status, QUEUE))

    known = {each.check: each.level for each in findings if each.level != "unknown"}
    unknown = {each.check: each.sentence for each in findings if each.level == "unknown"}
    assert known == {"in-process lists": "ok", "dead messages": "mend"}
    assert set(unknown) == set(levels(redis)) - set(known) | {"cluster", "coverage", "partitions"}
    assert "'config|get'" in unknown["timeout"]


def test_everything_is_known_with_the_permissions_of_the_readme(
    redis: Redis, redis_url: str
) -> None:
    """README, Inspect and repair: no other one is needed."""
    redis.lpush(QUEUE, JOB)
    redis.lpush("job-queue:in-process:web-7", JOB)
    with user(redis, redis_url, "doctor", f"~job-queue ~job-queue:* {ALL}") as someone:
        assert "unknown" not in levels(someone).values()


def test_nothing_is_changed(redis: Redis, redis_url: str) -> None:
    """A user that may only read is refused no command but by ACL; the data are the same after it."""
    redis.lpush(QUEUE, JOB)
    redis.lpush("job-queue:in-process:web-7", JOB)
    redis.lpush("job-queue:dead", JOB)
    before = int(redis.info("persistence")["rdb_changes_since_last_save"])

    with user(redis, redis_url, "reader", "~* &* +@all -@write") as reader:
        list(examine(reader, QUEUE, sleep=lambda _: None))

    assert int(redis.info("persistence")["rdb_changes_since_last_save"]) == before


def test_a_provider_that_has_no_config_is_no_failure(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some rename CONFIG away, which is no question of permissions."""

    def gone(_: Any, name: str) -> str:
        raise ResponseError(f"unknown command 'CONFIG', with args beginning with: 'GET' '{name}'")

    monkeypatch.setattr(doctor, "_setting", gone)

    known = levels(redis)

    assert [known[name] for name in ("appendfsync", "timeout", "buffers")] == ["unknown"] * 3
    assert known["dead messages"] == "ok"


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_the_command_says_it_and_ends_with_a_status(
    redis: Redis, redis_url: str, arguments: list[str]
) -> None:
    """1 if something should be changed, 0 otherwise, 4 without Redis."""

    def run(url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobqueue", "doctor", *arguments],
            env=os.environ | {"REDIS_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )

    well = run(redis_url)
    redis.lpush("job-queue:dead", "x")
    ill, away = run(redis_url), run("redis://localhost:1")

    assert (well.returncode, ill.returncode, away.returncode) == (0, 1, 4), ill.stderr
    assert away.stderr.count("\n") == 1
    if arguments:
        dead = json.loads(ill.stdout)[-1]
        assert (dead["check"], dead["level"]) == ("dead messages", "mend")
    else:
        assert "mend\tdead messages\t1 messages are dead" in ill.stdout
