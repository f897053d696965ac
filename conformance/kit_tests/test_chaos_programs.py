"""The storm's programs, and the relays by which they reach Redis."""

import itertools
import socket
import sys
import threading
from pathlib import Path

import pytest
from chaos import serving
from chaos.calling import Caller
from chaos.programs import Program
from chaos.relays import Relays
from jobqueue_conformance.proxy import resp
from jobqueue_conformance.redis_servers.base import RedisServer

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


def server_of(program: Program, relays: Relays) -> serving.Server:
    """A server of the storm, with a clock that goes on by a second each time it is asked."""
    seconds = map(float, itertools.count())
    return serving.Server(
        program, "storm", relays.make(program.name), program.folder, lambda: next(seconds)
    )


def test_a_server_may_have_a_new_name_in_each_life(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """The lists of all its lives are known, and its program is told the name of this life."""
    text = "import os; print(os.environ['JOBQUEUE_PROCESSOR'], os.environ['JOBQUEUE_IN_PROCESS'])"
    relays = Relays(redis_server.port)
    server = server_of(Program("new", (sys.executable, "-c", text), tmp_path, fresh=True), relays)
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


def test_a_server_that_ignores_a_stop_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    """A server that still runs when its time is over is a trouble, is killed, and is started again."""
    monkeypatch.setattr(serving, "ENDS_WITHIN_S", 0.5)
    text = "import signal; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    relays = Relays(redis_server.port)
    server = server_of(Program("deaf", (sys.executable, "-c", text), tmp_path), relays)
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


def socket_to(port: int) -> socket.socket:
    """A connection to this port."""
    return socket.create_connection(("127.0.0.1", port))


def ping(port: int) -> None:
    """Have Redis answer behind this port."""
    with socket_to(port) as connected:
        connected.sendall(resp.command("PING"))
        assert connected.recv(100) == b"+PONG\r\n"


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
        ping(relay.port)
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
        ping(relay.port)
        relay.close("in its life")
        relay.open("in its life")
        refused.append(relay.refused)
    relays.end()

    assert refused == [False, True, True]
