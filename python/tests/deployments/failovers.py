"""A storm of failovers on a cluster or on Sentinel: which jobs are lost, and how long nobody is served?

`python -m tests.deployments.failovers cluster --seconds 120` runs one, in the folder `python`; `make failovers`
runs both. Programs serve, clients of both colours call, and two plain clients push jobs. Of those of
one of them Redis has said by WAIT that the replica has them, too: none may be lost, whatever is killed.

With `--cut-off`, or by `make partitions`, the primary is cut off instead, with some of the others.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jobqueue import Client, ConnectionLost, JobTimeout, NotQueued, admin, aio
from redis.exceptions import RedisError

from tests.conftest import until
from tests.deployments.network import Namespace, Network, ThisMachine
from tests.deployments.nodes import WHOLE_S, Cluster, Node, Sentinels

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from redis import Redis

    from tests.deployments.network import Host

QUEUE = "{job-queue}"
SLOT = 6566
KEPT_EVERY_S = 0.05
STOP_S = 30.0
FIRST_WITHOUT_WAIT = 1_000_000_000
SERVERS = frozenset({"threads server", "asyncio server"})
CLIENTS = frozenset({"threads client", "asyncio client"})
CUT_OFF = {"clients": CLIENTS, "one-of-each": frozenset({"asyncio server", "threads client"})}


class Deployment(Protocol):
    """What the storm needs to know of a cluster or of sentinels."""

    nodes: list[Node]

    def url(self) -> str: ...  # noqa: D102
    def is_whole(self) -> bool: ...  # noqa: D102


@dataclass
class Account:
    """What became of the calls, and of the jobs that were pushed with WAIT."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    fault: str = "no fault"
    pause_s: dict[str, float] = field(default_factory=dict)  # the longest one, by the last fault
    failover_s: float = 0.0  # the slowest: from the fault until another node is the primary
    kept: set[int] = field(default_factory=set)  # on the replica, too
    unconfirmed: set[int] = field(default_factory=set)  # WAIT ended without the replica
    pushed: set[int] = field(default_factory=set)  # acknowledged by the primary, without WAIT
    timed_out: set[int] = field(default_factory=set)
    ran: set[int] = field(default_factory=set)
    faults: Counter[str] = field(default_factory=Counter)
    statuses: list[int] = field(default_factory=list)
    left: int = 0

    def begin(self, fault: str) -> None:
        """Note that a fault happens now."""
        self.fault = fault
        self.faults[fault] += 1

    @property
    def lost(self) -> int:
        """The number of jobs that Redis has kept and nobody has run."""
        return len(self.kept - self.ran)

    def __str__(self) -> str:
        calls = ", ".join(f"{number} {name}" for name, number in sorted(self.outcomes.items()))
        faults = ", ".join(f"{number} {name}" for name, number in sorted(self.faults.items()))
        pauses = ", ".join(f"{longest:.1f} s ({fault})" for fault, longest in self.pause_s.items())
        return (
            f"calls: {calls}; {self.wrong} wrong; of those without an answer in time "
            f"{len(self.timed_out & self.ran)} ran\n"
            f"longest pause without an answer: {pauses}; slowest failover {self.failover_s:.1f} s\n"
            f"jobs on primary and replica (WAIT): {len(self.kept)}, lost {self.lost}; on the primary "
            f"only: {len(self.unconfirmed)}, lost {len(self.unconfirmed - self.ran)}; without WAIT: "
            f"{len(self.pushed)}, lost {len(self.pushed - self.ran)}\n"
            f"faults: {faults}; left on lists: {self.left}; servers ended with {self.statuses}"
        )


class Sides:
    """Two hosts of a network, one of which is cut off together with the primary.

    Args:
        network: Where the deployment is.
        cut_off: Those of SERVERS and CLIENTS that are on that host.
        adopted: Whether they stay there until a server of the other side takes them for dead.
    """

    def __init__(
        self, network: Network, cut_off: AbstractSet[str], *, adopted: bool = False
    ) -> None:
        self.adopted = adopted
        self.served = not cut_off >= SERVERS
        self._near, self._far = network.host(), network.host()
        self._network = network
        self._cut_off = cut_off

    def host(self, member: str) -> Namespace:
        """Where a member of the storm is."""
        return self._near if member in self._cut_off else self._far

    def cut(self, primary: Node) -> AbstractContextManager[None]:
        """Cut them off inside the `with` block."""
        assert isinstance(primary.host, Namespace)
        return self._network.cut(primary.host, self._near)


class Storm:
    """Servers, callers and pushers, for a deployment that is whole.

    Args:
        deployment: The cluster or the sentinels.
        primary: Returns the node that has the queue.
        folder: For what the servers note and log.
        rate: Calls per second.
        timeout_s: Seconds that each call waits for its answer.
        sides: The hosts of servers and callers. None: this machine.
    """

    def __init__(
        self,
        deployment: Deployment,
        primary: Callable[[], Node],
        folder: Path,
        rate: int,
        timeout_s: float,
        sides: Sides | None = None,
    ) -> None:
        self._url = deployment.url()
        self._primary = primary
        self._pause_s = 2 / rate  # of each of two callers
        self._folder = folder
        self._timeout_s = timeout_s
        self._sides = sides
        self._over = threading.Event()
        self._served_at = time.monotonic()
        self.account = Account()

    def run(self, faults: Callable[[Account], None]) -> Account:
        """Begin, have the faults happen, wait until all that Redis has is done, and end."""
        programs = [self._program(kind) for kind in ("threads", "asyncio")]
        workers = [
            self._host("threads client").thread(self._call),
            self._host("asyncio client").thread(self._aio_call),
            threading.Thread(target=self._push, args=(self._push_and_wait, 0)),
            threading.Thread(target=self._push, args=(self._push_only, FIRST_WITHOUT_WAIT)),
        ]
        for worker in workers:
            worker.start()
        try:
            until(lambda: self.account.outcomes["answered"] > 10, "answers")
            faults(self.account)
            answered = self.account.outcomes["answered"]
            until(lambda: self.account.outcomes["answered"] > answered + 10, "answers again")
        finally:
            self._over.set()
            for worker in workers:
                worker.join()
            try:
                until(lambda: self._left() == 0, "empty lists", within_s=WHOLE_S)
            finally:
                self.account.left = self._left() or 0
                self.account.statuses = [_ended(program) for program in programs]
        for notes in self._folder.glob("*.notes"):
            self.account.ran |= {int(line) for line in notes.read_text().splitlines()}
        return self.account

    def _host(self, member: str) -> Host:
        return self._sides.host(member) if self._sides else ThisMachine()

    def _program(self, kind: str) -> subprocess.Popen[bytes]:
        program = str(Path(__file__).with_name("noting.py"))
        arguments = [program, kind, QUEUE, str(self._folder / f"{kind}.notes")]
        with (self._folder / f"{kind}.log").open("ab") as log:
            return subprocess.Popen(
                self._host(f"{kind} server").command(sys.executable, *arguments),
                env=os.environ | {"REDIS_URL": self._url},
                stderr=log,
            )

    def _left(self) -> int | None:
        with suppress(RedisError):
            node = self._primary()
            lists = [QUEUE, *(f"{QUEUE}:in-process:{kind}" for kind in ("threads", "asyncio"))]
            left: int = sum(node.ask("LLEN", key) for key in [*lists, f"{QUEUE}:dead"])
            return left
        return None

    def _count(self, number: int, outcome: Any) -> None:
        account = self.account
        if isinstance(outcome, Exception):
            account.outcomes[type(outcome).__name__] += 1
            if isinstance(outcome, JobTimeout):
                account.timed_out.add(number)
            return
        account.outcomes["answered"] += 1
        account.wrong += outcome != number
        now = time.monotonic()
        longest = max(account.pause_s.get(account.fault, 0.0), now - self._served_at)
        account.pause_s[account.fault] = longest
        self._served_at = now

    def _call(self) -> None:
        with Client(self._url, queue=QUEUE) as client:
            jobs = []
            number = 0
            while not self._over.wait(self._pause_s):
                number -= 1
                job = client.run("note", number, timeout=self._timeout_s)
                job.add_done_callback(partial(self._settled, number))
                jobs.append(job)
            for job in jobs:
                with suppress(JobTimeout, ConnectionLost, NotQueued):
                    job.result(self._timeout_s + 10)

    def _settled(self, number: int, job: Any) -> None:
        self._count(number, job.exception() or job.result())

    def _aio_call(self) -> None:
        async def one(client: aio.Client, number: int) -> None:
            try:
                job = await client.run("note", number, timeout=self._timeout_s)
                self._count(number, await job)
            except (JobTimeout, ConnectionLost, NotQueued) as error:
                self._count(number, error)

        async def all_of_them() -> None:
            number = -1_000_000_000
            async with aio.Client(self._url, queue=QUEUE) as client, asyncio.TaskGroup() as calls:
                while not self._over.is_set():
                    number -= 1
                    calls.create_task(one(client, number))
                    await asyncio.sleep(self._pause_s)

        asyncio.run(all_of_them())

    def _push(self, push: Callable[[Redis, int], None], number: int) -> None:
        while not self._over.wait(KEPT_EVERY_S):
            try:
                with self._primary().client() as primary:
                    while not self._over.wait(KEPT_EVERY_S):
                        number += 1
                        push(primary, number)
            except (RedisError, AssertionError):
                continue

    def _push_and_wait(self, primary: Redis, number: int) -> None:
        primary.lpush(QUEUE, _job(number))
        self.account.unconfirmed.add(number)
        if primary.wait(1, 500):
            self.account.unconfirmed.discard(number)
            self.account.kept.add(number)

    def _push_only(self, primary: Redis, number: int) -> None:
        primary.lpush(QUEUE, _job(number))
        self.account.pushed.add(number)


def _job(number: int) -> str:
    return json.dumps({"method": "note", "parameters": number, "channel": "c", "id": str(number)})


def kill_primary(deployment: Deployment, primary: Callable[[], Node], account: Account) -> None:
    """Kill the queue's primary; start it again when there is another one, and wait for all nodes."""
    dead = primary()
    account.begin("primary killed")
    dead.kill()
    _await_another(dead, primary, account)
    dead.start()
    until(deployment.is_whole, "the killed node as a replica", within_s=WHOLE_S)


def freeze_primary(deployment: Deployment, primary: Callable[[], Node], account: Account) -> None:
    """Have it stand still until there is another one, so that it misses its demotion."""
    silent = primary()
    account.begin("primary frozen")
    with silent.frozen():
        _await_another(silent, primary, account)
    until(deployment.is_whole, "the frozen node as a replica", within_s=WHOLE_S)


def cut_primary(
    sides: Sides, deployment: Deployment, primary: Callable[[], Node], account: Account
) -> None:
    """Cut it off, with all who are on its side, until there is another one that serves the others."""
    alone = primary()
    account.begin("primary cut off")
    with sides.cut(alone):
        _await_another(alone, primary, account)
        if sides.served:
            until(lambda: _has_claims(primary()), "a server that has found it", within_s=WHOLE_S)
        if sides.adopted:
            until(lambda: _somebody_is_gone(primary()), "a mark of the list", within_s=WHOLE_S)
    until(deployment.is_whole, "the node that was cut off as a replica", within_s=WHOLE_S)


def _has_claims(node: Node) -> bool:
    return b"cmd=blmove" in node.ask("CLIENT", "LIST")  # a client that is in WAIT is blocked, too


def _somebody_is_gone(node: Node) -> bool:
    with node.client() as redis:
        states = admin.status(redis, QUEUE).states
    return any(state.seconds is not None for state in states.values())


def _await_another(old: Node, primary: Callable[[], Node], account: Account) -> None:
    began = time.monotonic()
    until(lambda: primary() is not old, "another primary", within_s=WHOLE_S)
    account.failover_s = max(account.failover_s, time.monotonic() - began)


def move_slot(cluster: Cluster, account: Account) -> None:
    """Move the queue's slot to another primary, key by key, while jobs run."""
    source = cluster.primary(SLOT)
    target = next(
        node for node in cluster.nodes if node is not source and node.ask("ROLE")[0] == b"master"
    )
    account.begin("slot moved")
    cluster.begin_moving(SLOT, source, target)
    cluster.move_keys(SLOT, source, target)
    cluster.end_moving(SLOT, source, target)
    until(cluster.is_whole, "a cluster that agrees", within_s=WHOLE_S)


def storm_on(
    deployment: Cluster | Sentinels,
    folder: Path,
    *,
    rounds: int,
    every_s: float,
    rate: int,
    timeout_s: float = 30,
    sides: Sides | None = None,
) -> Account:
    """Run one: the primary is killed, frozen or cut off in each round; before, a cluster's slot moves.

    Args:
        deployment: The cluster or the sentinels.
        folder: For what the servers note and log.
        rounds: The number of faults of the primary.
        every_s: Seconds without a fault in each round.
        rate: Calls per second.
        timeout_s: Seconds that each call waits for its answer.
        sides: Who is cut off together with the primary. None: it is killed and frozen in turns.
    """
    kinds: list[Any] = [partial(cut_primary, sides)] if sides else [kill_primary, freeze_primary]

    def primary() -> Node:
        return deployment.primary(SLOT) if isinstance(deployment, Cluster) else deployment.primary()

    def faults(account: Account) -> None:
        pause = threading.Event()
        for _, fault in zip(range(rounds), itertools.cycle(kinds), strict=False):
            pause.wait(every_s / 2)
            if isinstance(deployment, Cluster):
                move_slot(deployment, account)
            pause.wait(every_s / 2)
            fault(deployment, primary, account)

    return Storm(deployment, primary, folder, rate, timeout_s, sides).run(faults)


def _ended(program: subprocess.Popen[bytes]) -> int:
    program.terminate()
    try:
        return program.wait(STOP_S)
    except subprocess.TimeoutExpired:
        program.kill()
        return program.wait()


def main() -> None:
    """Run a storm, and say what became of its jobs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["cluster", "sentinel"])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument(
        "--every", type=float, default=20, help="seconds between two faults of the primary"
    )
    parser.add_argument("--rate", type=int, default=200, help="calls per second")
    parser.add_argument(
        "--cut-off", choices=CUT_OFF, help="cut the primary off with these (needs root)"
    )
    options = parser.parse_args()
    if options.cut_off and (missing := Network.missing()):
        parser.error(missing)
    rounds = max(1, int(options.seconds / options.every))
    make = {"cluster": Cluster, "sentinel": Sentinels}[options.kind]
    with ExitStack() as until_the_end:
        folder = Path(until_the_end.enter_context(tempfile.TemporaryDirectory()))
        network = until_the_end.enter_context(closing(Network())) if options.cut_off else None
        deployment = until_the_end.enter_context(make(folder, network=network))
        sides = Sides(network, CUT_OFF[options.cut_off]) if network else None
        account = storm_on(
            deployment, folder, rounds=rounds, every_s=options.every, rate=options.rate, sides=sides
        )
    print(f"{options.kind}: {account}")  # noqa: T201
    bad = account.lost or account.wrong or account.left or any(account.statuses)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
