"""What a kept result costs: `python keeping.py`, in the project's own environment.

The same jobs with and without `keep`, in turn, through one server and one client with 32 jobs in flight. It prints the
rates, the median of the pairs' ratios, and what Redis's memory grew by for each result beside the result itself.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections import deque
from statistics import median
from typing import TYPE_CHECKING, Any

import redis
from jobqueue import Client, Server
from private_redis import private_redis
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from jobqueue import Job

IN_FLIGHT = 32
KEEP_S = 600
BYTES = (10, 1_000, 10_000)


def main() -> None:
    """Measure all sizes, and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=3_000, metavar="N")
    parser.add_argument("--pairs", type=int, default=7, metavar="N")
    options = parser.parse_args()
    table = Table("a result of", "jobs/s", "kept, jobs/s", "ratio (of all pairs)", "memory more")
    with private_redis() as server:
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(server.url,), daemon=True
        )
        process.start()
        with Client(server.url) as client, redis.Redis.from_url(server.url) as connection:
            rate(client, 100, "x", None)  # all is connected, and warm
            for size in BYTES:
                table.add_row(*measured(client, connection, size, options.jobs, options.pairs))
        process.terminate()
        process.join()
    Console().print(table)


def serve(url: str) -> None:
    """Answer with what the job came with, until SIGTERM."""
    server = Server(url, processor="keeping", takeover=False)
    server.on("echo", lambda parameters: parameters)
    server.run()


def measured(
    client: Client, connection: redis.Redis, size: int, jobs: int, pairs: int
) -> tuple[str, ...]:
    """One line of the table."""
    value = "x" * size
    plain, kept, more = [], [], 0.0
    for _ in range(pairs):
        plain.append(rate(client, jobs, value, None))
        before: Any = connection.info("memory")
        kept.append(rate(client, jobs, value, KEEP_S))
        after: Any = connection.info("memory")
        more = (after["used_memory"] - before["used_memory"]) / jobs - size
        connection.flushdb()
    ratios = [with_keep / without for with_keep, without in zip(kept, plain, strict=True)]
    return (
        f"{size:,} bytes",
        f"{median(plain):,.0f}",
        f"{median(kept):,.0f}",
        f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        f"{more:.0f} bytes",
    )


def rate(client: Client, jobs: int, value: str, keep: int | None) -> float:
    """How many jobs have their results in a second."""
    started = time.perf_counter()
    flying: deque[Job] = deque()
    for _ in range(jobs):
        if len(flying) == IN_FLIGHT:
            flying.popleft().result()
        flying.append(client.run("echo", value, timeout=60, keep=keep))
    for job in flying:
        job.result()
    return jobs / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
