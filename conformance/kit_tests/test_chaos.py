"""The storm's account: what it reads, what it counts as lost, and that it notices a server that loses jobs."""

import json
import random
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from chaos import append_only_file, names, report, schedule, serving
from chaos.account import Disturbance, Evidence, Kill, Return, Run, settle
from chaos.calling import Caller, outcome
from chaos.programs import Program
from chaos.relays import Relays
from jobqueue_conformance.proxy import resp
from jobqueue_conformance.redis_servers.base import RedisServer

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


def test_a_server_may_have_a_new_name_in_each_life(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """The lists of all its lives are known, and its program is told the name of this life."""
    text = "import os; print(os.environ['JOBQUEUE_PROCESSOR'], os.environ['JOBQUEUE_IN_PROCESS'])"
    relays = Relays(redis_server.port)
    ticks = iter(range(1000))
    server = serving.Server(
        Program("new", (sys.executable, "-c", text), tmp_path, fresh=True),
        "storm",
        relays.make("new"),
        tmp_path,
        lambda: float(next(ticks)),
    )
    waiting = threading.Event()
    while server.lives < 3:
        server.look()
        waiting.wait(0.01)
    while not (tmp_path / "new.stdout").read_text().count("\n") > 1:
        waiting.wait(0.01)
    server.end()
    relays.end()

    assert server.lists == [f"storm:in-process:new-{life}" for life in (1, 2, 3)]
    assert "new-2 storm:in-process:new-2\n" in (tmp_path / "new.stdout").read_text()


def seen(**what: object) -> Evidence:
    """Job 1 of a client, which Redis accepted, and what is seen of it besides."""
    given: dict[str, object] = {"pushed": {1: "c"}, "accepted": Counter({1: 1}), **what}
    return Evidence(**given)  # type: ignore[arg-type]


RAN = [Run(1, "a", 10, 1.0)]
LOST = {
    "it is nowhere": seen(settled={1: "timeout"}),
    "its caller lost a connection": seen(settled={1: "lost"}),
    "it ran, and no result was sent": seen(settled={1: "timeout"}, runs=RAN),
    "another job's result was sent": seen(settled={1: "timeout"}, sent=frozenset({2})),
}
KEPT = {
    "its caller has the result": seen(settled={1: "result"}),
    "a result was sent": seen(settled={1: "timeout"}, sent=frozenset({1})),
    "it is on a list": seen(settled={1: "timeout"}, left={1: "storm"}),
    "it never reached Redis": seen(settled={1: "lost"}, accepted=Counter()),
}


@pytest.mark.parametrize("evidence", LOST.values(), ids=LOST)
def test_a_lost_job_is_told(evidence: Evidence) -> None:
    """A job that is nowhere, and of which no result was seen, is lost, and its history is shown."""
    account = settle(evidence)

    assert account.lost == [1]
    assert not account.good
    assert "job 1 is lost" in report.text(account)


@pytest.mark.parametrize("evidence", KEPT.values(), ids=KEPT)
def test_a_kept_job_is_not_lost(evidence: Evidence) -> None:
    """A job that was answered, is somewhere, or never came isn't lost."""
    assert settle(evidence).lost == []


STRANGE = {
    "never settled": seen(sent=frozenset({1})),
    "pushed 2 times": seen(settled={1: "result"}, accepted=Counter({1: 2})),
    "but Redis has it": seen(settled={1: "not-queued"}, sent=frozenset({1})),
    "never reached Redis": seen(settled={1: "result"}, accepted=Counter()),
    "settled by c as {}": seen(settled={1: "{}"}, sent=frozenset({1})),
    "is on storm:in-process:a": seen(settled={1: "timeout"}, left={1: "storm:in-process:a"}),
    "is on the dead list": seen(settled={1: "timeout"}, sent=frozenset({1}), dead=frozenset({1})),
    "it hangs": seen(settled={1: "result"}, troubles=["it hangs"]),
}


@pytest.mark.parametrize("words", STRANGE)
def test_what_must_not_be_is_told(words: str) -> None:
    """A hang, a second push, a false outcome: each has a sentence and makes the account bad."""
    account = settle(STRANGE[words])

    assert not account.good
    assert [words in fault for fault in account.faults] == [True]


def test_a_result_that_its_caller_did_not_get_is_counted() -> None:
    """The job ran and was answered, and its caller received something else: no job is lost, a result is."""
    heard = {1: "result", 2: "timeout", 3: "lost", 4: "lost", 5: "not-queued"}
    account = settle(
        Evidence(
            pushed=dict.fromkeys(heard, "c"),
            settled=heard,
            accepted=Counter([1, 2, 3]),
            sent=frozenset({1, 2, 3}),
        )
    )

    assert (account.results_lost, account.answered, account.never_arrived) == (2, 1, 2)
    assert account.good


GIVES_HANDLES = """
import json, sys
for line in sys.stdin:
    if "detached" in line:
        print(json.dumps({"seq": json.loads(line)["seq"], "handle": "h"}), flush=True)
"""
COLLECTS = """
import json, sys
for line in sys.stdin:
    if "collect" in line:
        seq = json.loads(line)["seq"]
        print(json.dumps({"seq": seq, "result": {"storm": seq}}), flush=True)
"""


def test_a_kept_result_that_is_lost_is_told() -> None:
    """Where results are kept, a caller that didn't get one makes the account bad, unless it can't know of its push."""
    heard = {1: "result", 2: "result", 3: "lost", 4: "unanswered", 5: "gone"}
    account = settle(
        Evidence(
            pushed=dict.fromkeys(heard, "c"),
            settled=heard,
            accepted=Counter(heard.keys()),
            sent=frozenset(heard),
            kept=True,
            collecting=frozenset({1}),
        )
    )

    assert [fault.split(" is lost")[0] for fault in account.faults] == ["the result of job 3"]
    assert (account.collected, account.unanswered) == ((1, 1), 1)
    assert "collected after a kill              1 of 1" in report.text(account)


def test_what_was_stored_is_timed_from_the_return_of_redis() -> None:
    """The time counts for what was stored and unsettled then, and not where another fault hit the client."""
    account = settle(
        Evidence(
            pushed={1: "c", 2: "c", 3: "c", 4: "d"},
            settled={1: "result", 2: "result", 3: "result", 4: "result"},
            accepted=Counter([1, 2, 3, 4]),
            settled_at={1: 4.0, 2: 6.5, 3: 7.0, 4: 9.0},
            returns=[Return(5.0, frozenset({1, 2, 4}))],
            disturbances=[Disturbance("d", 5.5, 8.0), Disturbance("c", 1.0, 4.5)],
        )
    )

    assert account.return_to_settled_s == 1.5
    assert account.good


@pytest.mark.parametrize("late, good", [([], False), ([(5.5, 0.2)], False), ([(5.5, 0.4)], True)])
def test_a_stored_result_that_comes_late_is_told(
    late: list[tuple[float, float]], *, good: bool
) -> None:
    """It has 1.5 s from the return of Redis, and the time for which the machine let nobody run meanwhile."""
    account = settle(
        Evidence(
            pushed={1: "c"},
            settled={1: "result"},
            accepted=Counter([1]),
            settled_at={1: 6.8},
            returns=[Return(5.0, frozenset({1}))],
            late=[(4.9, 9.0), *late, (6.9, 9.0)],
        )
    )

    assert account.good is good
    assert good or "the stored result of job 1 came 1.80 s after" in account.faults[0]


@pytest.mark.parametrize("how", ["timeout", "lost", "not-queued"])
def test_a_handle_that_collects_nothing_is_told(how: str) -> None:
    """What a killed client has a handle of is collected, as a result, or the account is bad."""
    account = settle(seen(settled={1: how}, sent=frozenset({1}), collecting=frozenset({1})))

    assert any(f"was collected by its handle as {how}" in fault for fault in account.faults)


def test_what_a_killed_client_waited_for_is_collected(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """Its heir collects by the handles that it gave; what had none is gone with it."""
    relays = Relays(redis_server.port)
    programs = [
        Program("c", (sys.executable, "-c", text), tmp_path) for text in (GIVES_HANDLES, COLLECTS)
    ]
    caller = Caller(programs[0], "storm", relays.make("c"), tmp_path, 0, 1, keep_s=60.0)
    waiting = threading.Event()
    while len(caller.pushed) < 6 or len(caller.handles) < 3:
        waiting.wait(0.01)

    caller.kill(programs[1])
    pushed, given = list(caller.pushed), dict(caller.handles)
    while not caller.collecting <= caller.settled.keys():
        waiting.wait(0.01)
    caller.stop_pushing()
    caller.close()
    caller.end()
    relays.end()

    assert caller.collecting == given.keys()
    assert {caller.settled[job] for job in given} == {"result"}
    assert all(caller.settled.get(job) in {"gone", None} for job in pushed if job not in given)


def test_second_runs_are_counted_and_timed_from_the_kill() -> None:
    """The time counts from the kill of the server that ran the job, and from the last connect of who runs it again."""
    account = settle(
        Evidence(
            pushed={},
            runs=[
                Run(1, "a", 20, 9.0),
                Run(1, "a", 10, 1.0),
                Run(2, "a", 10, 1.5),  # once
                Run(3, "b", 30, 1.0),
                Run(3, "b", 30, 8.0),  # again, without a kill
            ],
            kills=[Kill("a", 2.0), Kill("b", 20.0), Kill("b", 2.5)],
            connects={"a": [0.5, 8.25, 9.5], "b": [0.5]},
        )
    )

    assert account.run_twice == 2
    assert account.kill_to_rerun_s == 7.0
    assert account.connect_to_rerun_s == 0.75
    assert "longest from connect to re-run      0.75 s" in report.text(account)


@pytest.mark.parametrize(
    "said, how",
    [
        ({"result": {"ms": 5, "storm": 7}}, "result"),
        ({"timeout": True}, "timeout"),
        ({"error": {"code": "connection-lost", "message": ""}}, "lost"),
        ({"error": {"code": "not-queued", "message": ""}}, "not-queued"),
        ({"result": {"ms": 5, "storm": 8}}, '{"result": {"ms": 5, "storm": 8}}'),
        ({"error": {"code": "handler-error"}}, '{"error": {"code": "handler-error"}}'),
    ],
)
def test_an_outcome_is_that_of_its_job(said: dict[str, object], how: str) -> None:
    """Another job's result and an error are none."""
    assert outcome(7, said) == how


def socket_to(port: int) -> socket.socket:
    """A connection to this port."""
    return socket.create_connection(("127.0.0.1", port))


def test_a_door_refuses_and_sees(redis_server: RedisServer) -> None:
    """A relay carries bytes, notes the job whose result passes, and refuses while it is closed for any reason."""
    relays = Relays(redis_server.port)
    relay = relays.make("a")
    address = {"host": "127.0.0.1", "port": relay.port}
    direct = redis_server.connect()
    with redis_server.connect() as through:
        through.connection_pool.connection_kwargs.update(address)
        through.lrem("storm", 0, '{"parameters": {"storm": 1}}')
        through.publish("c", '{"result": {"storm": 2}}')
        through.eval("return 1", 0, '["c", "{\\"result\\": {\\"storm\\":3}}"]')
        assert len(relay.upstream) == 1
        assert f"127.0.0.1:{relay.upstream[0]}" in {each["addr"] for each in direct.client_list()}

        relay.close("one")
        relay.close("other")
        relay.open("one")
        with pytest.raises(ConnectionRefusedError), socket_to(relay.port):
            pass
        relay.open("other")
        with socket_to(relay.port) as connected:
            connected.sendall(resp.command("PING"))
            assert connected.recv(100) == b"+PONG\r\n"
    relays.end()

    assert relay.sent == {2, 3}


def test_who_is_refused_before_it_connects_may_end(redis_server: RedisServer) -> None:
    """A refusal counts from the start of a program to its first connection, also one that began before."""
    relays = Relays(redis_server.port)
    relay = relays.make("a")
    refused = []
    for closed_before, closed_after in [(False, False), (True, False), (False, True)]:
        if closed_before:
            relay.close("early")
        relay.expect()
        relay.open("early")
        if closed_after:
            relay.close("late")
            relay.open("late")
        with socket_to(relay.port) as connected:
            connected.sendall(resp.command("PING"))
            assert connected.recv(100) == b"+PONG\r\n"
        relay.close("in its life")
        relay.open("in its life")
        refused.append(relay.refused)
    relays.end()

    assert refused == [False, True, True]


def test_a_server_that_ignores_a_stop_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    """A server that still runs when its time is over is a trouble, is killed, and is started again."""
    monkeypatch.setattr(serving, "ENDS_WITHIN_S", 0.5)
    text = "import signal; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    relays = Relays(redis_server.port)
    ticks = iter(range(1000))
    server = serving.Server(
        Program("deaf", (sys.executable, "-c", text), tmp_path),
        "storm",
        relays.make("deaf"),
        tmp_path,
        lambda: float(next(ticks)),
    )
    waiting = threading.Event()
    while not (tmp_path / "deaf.stdout").read_text():
        waiting.wait(0.01)

    server.terminate()
    server.look()
    server.look()
    server.end()
    relays.end()

    assert ["deaf still runs" in trouble for trouble in server.troubles] == [True]
    assert server.lives == 2


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
