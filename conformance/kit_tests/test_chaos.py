"""The storm: the faults that it draws, what it reads in Redis's file, and that it catches a server that loses jobs."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from chaos import append_only_file, names, schedule
from jobqueue_conformance.proxy import resp

WRITTEN = b"".join(
    [
        resp.command("SELECT", "0"),
        b"#TS:1700000000\r\n",
        resp.command("LPUSH", "storm", "one", "two"),
        resp.command("MULTI"),
        resp.command("LPUSH", "storm:dead", "three"),
        resp.command("RPUSH", "storm", "four"),
        resp.command("EXEC"),
        resp.command("LPUSH", "storm", "line\r\n*1\r\n"),
    ]
)
LOSES = """
import json, os, signal, sys, time
import redis

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
queue, mine = os.environ["JOBQUEUE_QUEUE"], os.environ["JOBQUEUE_IN_PROCESS"]
server = redis.Redis.from_url(os.environ["REDIS_URL"])
while True:
    message = server.blmove(queue, mine, 1, "RIGHT", "LEFT")
    if message is not None:
        job = json.loads(message)
        server.lrem(mine, -1, message)
        time.sleep(job["parameters"]["ms"] / 1000)
        server.publish(job["channel"], json.dumps({"id": job["id"], "result": job["parameters"]}))
"""


def test_pushes_are_read_from_the_file() -> None:
    """Every value of each LPUSH onto the queue is a push, and nothing else is one."""
    assert append_only_file.pushed(WRITTEN, b"storm") == [b"one", b"two", b"line\r\n*1\r\n"]


@pytest.mark.parametrize("cut", range(1, 40))
def test_what_a_kill_cut_off_is_no_push(cut: int) -> None:
    """A command that isn't whole was never executed."""
    assert append_only_file.pushed(WRITTEN[:-cut], b"storm") == [b"one", b"two"]


def draw(seed: int, seconds: float = 600.0) -> list[schedule.Fault]:
    """The faults of a long storm."""
    return schedule.draw(random.Random(seed), seconds, ["a", "b"], ["c"])  # noqa: S311 - no secret


def test_the_seed_decides_the_faults() -> None:
    """One seed gives the same faults each time, another one others."""
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_every_kind_strikes_whom_it_may() -> None:
    """All kinds occur in a long storm; only servers are killed, and only Redis is paused."""
    targets: dict[str, set[str]] = {}
    for fault in draw(3):
        targets.setdefault(fault.kind, set()).add(fault.target)

    assert set(targets) == set(schedule.KINDS)
    assert targets["kill"] == targets["term"] == targets["freeze"] == {"a", "b"}
    assert targets["refuse"] == targets["cut"] == targets["cut-one"] == {"a", "b", "c"}
    assert targets["pause"] == targets["restart"] == targets["outage"] == {"redis"}


@pytest.mark.parametrize("seed", range(20))
def test_faults_of_one_target_do_not_overlap(seed: int) -> None:
    """Each fault has ended before the next one of its target begins, and before the storm ends."""
    free_from_s: dict[str, float] = {}
    for fault in draw(seed, 60.0):
        assert free_from_s.get(fault.target, 0.0) <= fault.at_s
        if fault.kind in schedule.ASK_REDIS:
            assert free_from_s.get(schedule.REDIS, 0.0) <= fault.at_s
        free_from_s[fault.target] = fault.at_s + fault.lasts_s
        assert free_from_s[fault.target] < 60.0


def test_servers_of_a_fleet_are_killed_soon_after_each_start() -> None:
    """Each life lasts from 10 to 30 s, and each server has one after another until the end."""
    chance = random.Random(1)  # noqa: S311 - no secret
    faults = schedule.replacements(chance, 300.0, ["a", "b"])

    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
    for server in ("a", "b"):
        mine = [fault for fault in faults if fault.target == server]
        starts = [0.0, *(fault.at_s + fault.lasts_s for fault in mine)]
        lives = [fault.at_s - start for fault, start in zip(mine, starts, strict=False)]
        assert all(10 <= life <= 30 for life in lives)
        assert starts[-1] > 300 - 31


def test_a_name_is_left_if_no_server_that_runs_has_it() -> None:
    """A name of the living may be registered, or not; any other one is left."""
    assert names.left(["b", "a", "c"], ["b", "d"]) == ["a", "c"]
    assert names.left([], ["a"]) == []


def storm(tmp_path: Path, *words: str) -> tuple[int, dict[str, object], str]:
    """A storm of kills: its status, its account, and what it says besides."""
    command = [sys.executable, "-m", "chaos", "--fault=kill", "--redis=embedded", "--seed=1"]
    ended = subprocess.run(
        [*command, "--json", f"--logs={tmp_path / 'logs'}", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, json.loads(ended.stdout), ended.stderr


def test_a_server_that_removes_before_it_publishes_is_caught(tmp_path: Path) -> None:
    """A job that is removed, and whose server is killed before it publishes, is lost, which the exit status shows."""
    (tmp_path / "server.py").write_text(LOSES)
    (tmp_path / "impl.toml").write_text(
        'name = "loses"\nspec = "1.0"\n[server]\ncommand = ["{python}", "server.py"]\n'
    )

    seeds = iter(range(1, 5))
    account: dict[str, object] = {"lost": []}
    while not account[
        "lost"
    ]:  # on a slow machine the kills of a storm may all come while it starts
        seed = f"--seed={next(seeds)}"
        status, account, said = storm(
            tmp_path, f"--server={tmp_path}", "--client=python", "--seconds=6", seed
        )

    assert status == 1
    assert seed in said
    assert str(tmp_path / "logs") in said


def test_the_reference_survives_a_storm_of_kills(tmp_path: Path) -> None:
    """None of five shapes of servers loses a job when they are killed, and the exit status is 0."""
    status, account, said = storm(tmp_path, "--seconds=4")

    assert (status, account["lost"], account["faults"]) == (0, [], []), said
    assert account["accepted"]
