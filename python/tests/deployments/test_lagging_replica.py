"""A real Sentinel promotes a replica that lags: what it holds runs again, and servers get their leases anew."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from jobqueue import Server, aio
from redis.exceptions import RedisError

from tests.conftest import DEADLINE_S, Running, until
from tests.deployments.failovers import QUEUE
from tests.deployments.nodes import WHOLE_S
from tests.server.test_server import job

if TYPE_CHECKING:
    from tests.deployments.nodes import Node, Sentinels

pytestmark = pytest.mark.deployment

HELD, FORGOTTEN = range(10), range(10, 15)
REGISTRY = f"{QUEUE}:processors"


def test_what_a_lagging_replica_holds_runs_again(sentinels: Sentinels) -> None:
    """It was cut off before the jobs ran: each runs once more; both servers register again, and serve."""
    primary = sentinels.primary()
    (replica,) = (node for node in sentinels.nodes if node is not primary)
    started: list[int] = []
    may_run = threading.Event()

    def note(number: Any) -> None:
        started.append(number)
        assert may_run.wait(DEADLINE_S)

    async def note_at_once(number: Any) -> None:
        started.append(number)

    def serve(server: Server | aio.Server, handler: Any) -> Running:
        server.on("note", handler)
        return Running(server)

    settings: dict[str, Any] = {"queue": QUEUE, "block_timeout": 0.5, "lease_timeout": 2.0}
    known = serve(Server(sentinels.url(), processor="known", **settings), note)
    _push(primary, *HELD)
    until(lambda: started, "a job that runs")
    with primary.client() as client:
        client.set(f"{QUEUE}:written", "last")
        assert client.wait(1, int(DEADLINE_S * 1000)) == 1, "the replica hasn't it all"

    with replica.frozen():
        primary.ask("CLIENT", "KILL", "TYPE", "replica")
        unknown = serve(aio.Server(sentinels.url(), processor="unknown", **settings), note_at_once)
        until(lambda: primary.ask("HLEN", REGISTRY) == 2, "a server that only the primary knows")
        _push(primary, *FORGOTTEN)
        may_run.set()
        until(lambda: not _jobs(primary), "jobs that have run and are removed")
        assert Counter(started) == dict.fromkeys((*HELD, *FORGOTTEN), 1)
        primary.kill()

    until(lambda: _is_primary(replica), "a replica that is promoted", within_s=WHOLE_S)
    _push(replica, 15)
    until(lambda: not _jobs(replica), "jobs that have run again and are removed")
    names = until(lambda: _alive(replica, 2), "two servers with a registration and a lease")
    known.stop()
    unknown.stop()
    primary.start()
    until(sentinels.is_whole, "both nodes", within_s=WHOLE_S)

    assert names == {b"known", b"unknown"}
    runs = Counter(started)
    # The last job of a server may not have been confirmed to it: it answers that one again, and runs it no more.
    assert sum(runs[number] == 2 for number in HELD) >= len(HELD) - 2
    assert runs.keys() == {*HELD, *FORGOTTEN, 15}
    assert max(runs.values()) == 2
    assert [number for number in (*FORGOTTEN, 15) if runs[number] > 1] == []


def _is_primary(node: Node) -> bool:
    with suppress(RedisError):  # whoever is promoted ends all connections
        return bool(node.ask("ROLE")[0] == b"master")
    return False


def _push(node: Node, *numbers: int) -> None:
    for number in numbers:
        node.ask("LPUSH", QUEUE, job(str(number), "note", parameters=number))


def _jobs(node: Node) -> list[bytes]:
    return [key for key in node.ask("KEYS", f"{QUEUE}*") if node.ask("TYPE", key) == b"list"]


def _alive(node: Node, number: int) -> set[bytes]:
    """The names that are registered and have a lease, when they are so many."""
    lists = [
        key
        for key in node.ask("HKEYS", REGISTRY)
        if node.ask("EXISTS", f"{QUEUE}:lease:{key.decode()}")
    ]
    return {key.rpartition(b":")[2] for key in lists} if len(lists) == number else set()
