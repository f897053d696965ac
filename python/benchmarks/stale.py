"""How fast a server answers jobs that have expired: `python stale.py`, in the project's own environment.

The queue is full when a server starts with `prefetch=10`: of stale jobs, as after an outage, and in turn of jobs that
run. It prints, for both halves, how many are answered in a second between the first answer and the last, the CPU time
that each costs the server, and the median of the pairs' ratios, which a busy machine changes less. It fails where a
stale job runs, or a job has no answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import hiredis
import processes
import redis
from jobqueue import Server, aio
from private_redis import private_redis
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUEUE, CHANNEL = "stale", "stale:results"
PREFETCH = 10
BATCH = 1_000
LONGEST_S = 60.0  # without an answer


class Measured(NamedTuple):
    """What a server did with a full queue."""

    jobs_per_s: float
    cpu_us: float  # of the server, for each job


class Wrong(Exception):
    """A job is answered otherwise than it has to be, or not at all."""


def threads(url: str) -> None:
    """Serve until SIGTERM."""
    server = Server(url, queue=QUEUE, processor="threads", prefetch=PREFETCH)
    server.on("echo", lambda parameters: parameters)
    server.run()


def event_loop(url: str) -> None:
    """Do the same for asyncio."""

    async def echo(parameters: object) -> object:
        return parameters

    server = aio.Server(url, queue=QUEUE, processor="asyncio", prefetch=PREFETCH)
    server.on("echo", echo)
    asyncio.run(server.run())


HALVES: dict[str, Callable[[str], None]] = {"threads": threads, "asyncio": event_loop}


def main() -> int:
    """Measure both halves in turn, and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=10_000, metavar="N")
    parser.add_argument("--pairs", type=int, default=7, metavar="N")
    options = parser.parse_args()
    pairs: dict[str, list[tuple[Measured, Measured]]] = {half: [] for half in HALVES}
    console = Console()
    with private_redis() as server, redis.Redis.from_url(server.url) as connection:
        try:
            for _ in range(options.pairs):
                for half, serve in HALVES.items():
                    one, other = (
                        measured(connection, serve, server.url, options.jobs, stale=stale)
                        for stale in (True, False)
                    )
                    pairs[half].append((one, other))
        except Wrong as wrong:
            console.print(f"{half}: {wrong}")
            return 1
    table = Table(
        *("half", "stale jobs/s", "of all runs", "CPU of each"),
        *("jobs that run/s", "CPU of each", "ratio of the rates (of all pairs)"),
    )
    for half, both in pairs.items():
        stale = [one.jobs_per_s for one, _ in both]
        ratios = [one.jobs_per_s / other.jobs_per_s for one, other in both]
        table.add_row(
            half,
            f"{median(stale):,.0f}",
            f"{min(stale):,.0f} to {max(stale):,.0f}",
            f"{median(one.cpu_us for one, _ in both):.0f} µs",
            f"{median(other.jobs_per_s for _, other in both):,.0f}",
            f"{median(other.cpu_us for _, other in both):.0f} µs",
            f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    console.print(table)
    return 0


def measured(
    connection: redis.Redis, serve: Callable[[str], None], url: str, jobs: int, *, stale: bool
) -> Measured:
    """How fast the jobs of a full queue are answered.

    Raises:
        Wrong: one of them isn't answered as it has to be.
    """
    connection.flushdb()
    for first in range(0, jobs, BATCH):
        numbers = range(first, min(jobs, first + BATCH))
        connection.lpush(QUEUE, *(job(number, stale=stale) for number in numbers))
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(url,), daemon=True)
    port = connection.connection_pool.connection_kwargs["port"]
    with socket.create_connection(("127.0.0.1", port), LONGEST_S) as listener:
        listener.sendall(f"SUBSCRIBE {CHANNEL}\r\n".encode())
        arriving = arrivals(listener)
        next(arriving)
        process.start()
        published: list[Any] = []
        try:
            published += next(arriving)
            before, began_s = len(published), time.perf_counter()
            spent_s = processes.cpu_s(process.pid or 0)
            while len(published) < jobs:
                published += next(arriving)
            took_s = time.perf_counter() - began_s
            spent_s = processes.cpu_s(process.pid or 0) - spent_s
        except TimeoutError:
            raise Wrong(f"{jobs - len(published):,} of {jobs:,} jobs have no answer") from None
        finally:
            process.terminate()
            process.join()
    judge([json.loads(message) for _, _, message in published], stale=stale)
    answered = jobs - before
    return Measured(answered / took_s, 1e6 * spent_s / answered)


def job(number: int, *, stale: bool) -> bytes:
    """A job, which has expired long ago if it is stale."""
    message = {"method": "echo", "parameters": [number], "channel": CHANNEL, "id": str(number)}
    return json.dumps(message | ({"expires_at_ms": 1} if stale else {})).encode()


def arrivals(listener: socket.socket) -> Iterator[list[Any]]:
    """What a subscription receives, as it arrives; it is read later, so that the server has a core."""
    reader = hiredis.Reader()
    while True:
        reader.feed(listener.recv(1 << 20))
        arrived = []
        while (message := reader.gets()) is not False:
            arrived.append(message)
        if arrived:
            yield arrived


def judge(answers: list[Any], *, stale: bool) -> None:
    """Raise `Wrong` where an answer is wrong, or a second one for its job."""
    for answer in answers:
        code = answer.get("error", {}).get("code")
        if code != ("expired" if stale else None):
            raise Wrong(f"a {'stale' if stale else 'fresh'} job was answered by {answer}")
    if len({answer["id"] for answer in answers}) < len(answers):
        raise Wrong("a job was answered twice")


if __name__ == "__main__":
    sys.exit(main())
