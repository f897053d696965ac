"""A storm of failovers on a cluster or on Sentinel: which jobs are lost, and how long nobody is served?

`python -m tests.deployments.failovers cluster --seconds 120` runs one, in the folder `python`; `make failovers`
runs both. Programs serve, clients of both colours call, and a plain client pushes jobs of which
Redis has said by WAIT that the replica has them, too: none of these may be lost, whatever is killed.
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
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jobqueue import Client, ConnectionLost, JobTimeout, NotQueued, aio
from redis import Redis
from redis.exceptions import RedisError

from tests.conftest import until
from tests.deployments.nodes import ONCE, Cluster, Node, Sentinels

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUE = "{job-queue}"
SLOT = 6566
KEPT_EVERY_S = 0.05
STOP_S = 30.0


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
    unconfirmed: set[int] = field(default_factory=set)  # acknowledged by the primary alone
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
            f"only: {len(self.unconfirmed)}, lost {len(self.unconfirmed - self.ran)}\n"
            f"faults: {faults}; left on lists: {self.left}; servers ended with {self.statuses}"
        )


class Storm:
    """Servers, callers and a pusher, for a deployment that is whole.

    Args:
        deployment: The cluster or the sentinels.
        primary: Returns the node that has the queue.
        folder: For what the servers note and log.
        rate: Calls per second.
    """

    def __init__(
        self, deployment: Deployment, primary: Callable[[], Node], folder: Path, rate: int
    ) -> None:
        self._url = deployment.url()
        self._primary = primary
        self._pause_s = 2 / rate  # of each of two callers
        self._folder = folder
        self._over = threading.Event()
        self._served_at = time.monotonic()
        self.account = Account()

    def run(self, faults: Callable[[Account], None]) -> Account:
        """Begin, have the faults happen, wait until all that Redis has is done, and end."""
        programs = [self._program(kind) for kind in ("threads", "asyncio")]
        workers = [
            threading.Thread(target=work) for work in (self._call, self._aio_call, self._push)
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
                until(lambda: self._left() == 0, "empty lists")
            finally:
                self.account.left = self._left() or 0
                self.account.statuses = [_ended(program) for program in programs]
        for notes in self._folder.glob("*.notes"):
            self.account.ran |= {int(line) for line in notes.read_text().splitlines()}
        return self.account

    def _program(self, kind: str) -> subprocess.Popen[bytes]:
        program = str(Path(__file__).with_name("noting.py"))
        with (self._folder / f"{kind}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, program, kind, QUEUE, str(self._folder / f"{kind}.notes")],
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
                job = client.run("note", number, timeout=30)
                job.add_done_callback(partial(self._settled, number))
                jobs.append(job)
            for job in jobs:
                with suppress(JobTimeout, ConnectionLost, NotQueued):
                    job.result(40)

    def _settled(self, number: int, job: Any) -> None:
        self._count(number, job.exception() or job.result())

    def _aio_call(self) -> None:
        async def one(client: aio.Client, number: int) -> None:
            try:
                self._count(number, await (await client.run("note", number, timeout=30)))
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

    def _push(self) -> None:
        number = 0
        while not self._over.wait(KEPT_EVERY_S):
            try:
                number = self._push_to(self._primary(), number)
            except (RedisError, AssertionError):
                continue

    def _push_to(self, node: Node, number: int) -> int:
        with Redis(port=node.port, protocol=2, retry=ONCE, socket_timeout=2) as primary:
            while not self._over.wait(KEPT_EVERY_S):
                number += 1
                job = {"method": "note", "parameters": number, "channel": "c", "id": str(number)}
                primary.lpush(QUEUE, json.dumps(job))
                self.account.unconfirmed.add(number)
                if primary.execute_command("WAIT", 1, 500):
                    self.account.unconfirmed.discard(number)
                    self.account.kept.add(number)
        return number


def kill_primary(deployment: Deployment, primary: Callable[[], Node], account: Account) -> None:
    """Kill the queue's primary; start it again when there is another one, and wait for all nodes."""
    dead = primary()
    account.begin("primary killed")
    dead.kill()
    _await_another(dead, primary, account)
    dead.start()
    until(deployment.is_whole, "the killed node as a replica")


def freeze_primary(deployment: Deployment, primary: Callable[[], Node], account: Account) -> None:
    """Have it stand still until there is another one: as behind a partition, it misses its demotion."""
    silent = primary()
    account.begin("primary frozen")
    with silent.frozen():
        _await_another(silent, primary, account)
    until(deployment.is_whole, "the frozen node as a replica")


def _await_another(old: Node, primary: Callable[[], Node], account: Account) -> None:
    began = time.monotonic()
    until(lambda: primary() is not old, "another primary")
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
    until(cluster.is_whole, "a cluster that agrees")


def storm_on(
    deployment: Cluster | Sentinels, folder: Path, *, rounds: int, every_s: float, rate: int
) -> Account:
    """Run one: the primary is killed or frozen in each round; before, a cluster's slot moves.

    Args:
        deployment: The cluster or the sentinels.
        folder: For what the servers note and log.
        rounds: The number of faults of the primary.
        every_s: Seconds without a fault in each round.
        rate: Calls per second.
    """

    def primary() -> Node:
        return deployment.primary(SLOT) if isinstance(deployment, Cluster) else deployment.primary()

    def faults(account: Account) -> None:
        pause = threading.Event()
        for _, fault in zip(
            range(rounds), itertools.cycle((kill_primary, freeze_primary)), strict=False
        ):
            pause.wait(every_s / 2)
            if isinstance(deployment, Cluster):
                move_slot(deployment, account)
            pause.wait(every_s / 2)
            fault(deployment, primary, account)

    return Storm(deployment, primary, folder, rate).run(faults)


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
    options = parser.parse_args()
    rounds = max(1, int(options.seconds / options.every))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        deployment: Cluster | Sentinels = (Cluster if options.kind == "cluster" else Sentinels)(
            folder
        )
        with deployment:
            account = storm_on(
                deployment, folder, rounds=rounds, every_s=options.every, rate=options.rate
            )
    print(f"{options.kind}: {account}")  # noqa: T201
    bad = account.lost or account.wrong or account.left or any(account.statuses)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
