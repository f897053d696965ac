"""The measurements: each takes a contender, a shape and a Redis, and gives numbers.

A number's name carries its unit. Every step has a time limit, and what doesn't end by then is
ended; whatever goes wrong is a `ProcessFailed` that says what. Nothing here compares.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import processes
from contender import CONTENDERS, PYTHON, Contender
from processes import ProcessFailed

sys.path.insert(0, str(PYTHON))
import tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from private_redis import PrivateRedis, Spent

START_S = 20.0  # how long a server may take until its first job
POLL_S = 0.01
FEWEST = 20  # jobs that a measurement may stand on
SETTLE_S = 1.0

Values = dict[str, float]


class Shape(NamedTuple):
    """What is varied: everything but `jobs` and `seconds` names the measurement."""

    concurrency: int = 1
    prefetch: int = 1
    processes: int = 1
    in_flight: int = 1
    servers: int = 1
    results: int = 1
    waiting: int = 0
    payload_bytes: int = 10
    batch: int = 1
    jobs: int = 1_000
    seconds: float = 1.0

    def title(self) -> dict[str, int]:
        """What differs from the plainest shape."""
        plain = Shape()._asdict()
        varied = {name: value for name, value in self._asdict().items() if value != plain[name]}
        return {name: value for name, value in varied.items() if name not in ("jobs", "seconds")}


def drain(contender: Contender, shape: Shape, redis: PrivateRedis) -> Values:
    """How fast a server takes waiting jobs from the queue, and what that costs it and Redis.

    The time runs from its first job to its last, so that no start is in it. With `waiting`, that
    many jobs are still on the queue when the count is over.
    """
    redis.empty()
    _fill(contender, shape, redis, shape.jobs + shape.waiting)
    with _serving(contender, shape, redis) as server:
        server.wait_for(1, START_S)
        before = server.reading()
        server.wait_for(shape.jobs, 3 * shape.seconds, enough=FEWEST)
        after = server.reading()
    jobs = after.jobs - before.jobs
    if jobs < 1:
        raise ProcessFailed(f"all {after.jobs} jobs had run at the first look: too few to measure")
    per_100k = 100_000 / jobs
    return {
        "jobs_per_s": (after.jobs - 1) / (after.last - after.first),
        "server_cpu_s_per_100k": (after.cpu_s - before.cpu_s) * per_100k,
        "redis_cpu_s_per_100k": (after.redis.cpu_s - before.redis.cpu_s) * per_100k,
        "redis_commands_per_job": (after.redis.commands - before.redis.commands) / jobs,
        "redis_bytes_per_job": (after.redis.net_bytes - before.redis.net_bytes) / jobs,
    }


def round_trip(contender: Contender, shape: Shape, redis: PrivateRedis) -> Values:
    """How long a caller waits for its results, with so many of its calls in flight."""
    redis.empty()
    options = _options(shape, redis, "--count", str(shape.jobs), "--seconds", str(shape.seconds))
    with _serving(contender, shape, redis) as server:
        if shape.servers > 1:
            server.wait_until_blocked(shape.servers)
        got = processes.answer(
            contender.command("call", *options), START_S + 10 + 2 * shape.seconds
        )
        server.require_alive()
    return _latencies(got)


def _latencies(got: dict[str, Any]) -> Values:
    latencies_ms = [latency * 1000 for latency in got["latencies"]]
    if len(latencies_ms) < 2:
        raise ProcessFailed(f"{got['lost']} results lost, none came: {got['because']}")
    thousandths = quantiles(latencies_ms, n=1000, method="inclusive")
    spent: Values = {}
    if "cpu_s" in got:  # a client of Node.js doesn't tell
        spent["client_cpu_us"] = 1_000_000 * got["cpu_s"] / len(latencies_ms)
    return spent | {
        "p50_ms": median(latencies_ms),
        "p99_ms": thousandths[989],
        "p99_9_ms": thousandths[998],
        "replies_per_s": len(latencies_ms) / got["seconds"],
        "calls": len(latencies_ms) + got["lost"],
        "lost": got["lost"],
    }


def enqueue(contender: Contender, shape: Shape, redis: PrivateRedis) -> Values:
    """How fast a client queues jobs, one by one or many at once, with no server about."""
    redis.empty()
    role = "push_many" if shape.batch > 1 else "push"
    options = _options(shape, redis, "--count", str(shape.jobs))
    got = processes.answer(contender.command(role, *options), START_S + 10 * shape.seconds)
    return {"jobs_per_s": shape.jobs / got["seconds"]}


def idle(contender: Contender, shape: Shape, redis: PrivateRedis) -> Values:
    """What a server costs that has run one job and waits for the next."""
    redis.empty()
    _fill(contender, shape, redis, 1)
    with _serving(contender, shape, redis) as server:
        server.wait_for(1, START_S)
        time.sleep(SETTLE_S)
        began, before = time.monotonic(), server.reading()
        time.sleep(shape.seconds)
        after, seconds = server.reading(), time.monotonic() - began
        return {
            "cpu_percent": 100 * (after.cpu_s - before.cpu_s) / seconds,
            "redis_cpu_percent": 100 * (after.redis.cpu_s - before.redis.cpu_s) / seconds,
            "memory_mib": server.memory_mib(),
        }


def endurance(contender: Contender, shape: Shape, redis: PrivateRedis) -> Values:
    """How much a server's memory grows while it runs very many jobs."""
    redis.empty()
    _fill(contender, shape, redis, shape.jobs)
    with _serving(contender, shape, redis) as server:
        server.wait_for(shape.jobs // 10, START_S + shape.seconds)
        early_mib = server.memory_mib()
        server.wait_for(shape.jobs, shape.seconds)
        late_mib = server.memory_mib()
    return {"memory_mib": late_mib, "grown_mib": late_mib - early_mib}


MEASURES: dict[str, Callable[[Contender, Shape, PrivateRedis], Values]] = {
    "drain": drain,
    "round-trip": round_trip,
    "enqueue": enqueue,
    "idle": idle,
    "endurance": endurance,
    "loss": round_trip,
}


class Reading(NamedTuple):
    """What the servers and Redis have done and spent until one moment."""

    jobs: int
    first: float
    last: float
    cpu_s: float
    redis: Spent


class Servers:
    """The processes that serve, and what is to be read of them from outside."""

    def __init__(self, started: list[Any], path: Path, redis: PrivateRedis, said: IO[str]) -> None:
        self._processes = started
        self._path = path
        self._redis = redis
        self._said = said

    def wait_for(self, jobs: int, longest_s: float, enough: int | None = None) -> None:
        """Return when so many jobs have run in all, or `enough` when the time is over."""
        self._wait(self._jobs, jobs, longest_s, enough or jobs)

    def _jobs(self) -> int:
        return sum(count.jobs for count in tally.read(self._path))

    def wait_until_blocked(self, servers: int) -> None:
        """Return when so many servers wait for a job."""
        self._wait(self._redis.blocked_clients, servers, START_S, servers)

    def _wait(self, reached: Callable[[], int], wanted: int, longest_s: float, enough: int) -> None:
        deadline = time.monotonic() + longest_s
        while (so_far := reached()) < wanted:
            self.require_alive()
            if time.monotonic() > deadline:
                if so_far >= enough:
                    return
                raise ProcessFailed(f"{so_far} of {wanted} within {longest_s:.0f} s")
            time.sleep(POLL_S)

    def require_alive(self) -> None:
        """Fail where one has ended."""
        for process in self._processes:
            if process.poll() is not None:
                line = processes.last_line(self._said)
                raise ProcessFailed(line or f"the server exited with {process.returncode}")

    def reading(self) -> Reading:
        """Read everything now."""
        counts = tally.read(self._path)
        return Reading(
            sum(count.jobs for count in counts),
            min(count.first for count in counts),
            max(count.last for count in counts),
            sum(processes.cpu_s(process.pid) for process in self._processes),
            self._redis.spent(),
        )

    def memory_mib(self) -> float:
        """How much memory they take together."""
        return sum(processes.memory_mib(process.pid) for process in self._processes)


@contextlib.contextmanager
def _serving(
    contender: Contender, shape: Shape, redis: PrivateRedis, *more: str
) -> Iterator[Servers]:
    with (
        contextlib.ExitStack() as stack,
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+") as said,
    ):
        path = Path(folder) / "tally"
        settings = ["--concurrency", str(shape.concurrency), "--prefetch", str(shape.prefetch)]
        settings += ["--tally", str(path), "--servers", str(shape.servers), *more]
        started = [
            stack.enter_context(
                processes.started(
                    contender.command(
                        "serve",
                        *_options(shape, redis, *settings, "--processor", f"bench-{number}"),
                    ),
                    stdout=said,
                    stderr=said,
                )
            )
            for number in range(shape.processes)
        ]
        yield Servers(started, path, redis, said)


def _fill(contender: Contender, shape: Shape, redis: PrivateRedis, count: int) -> None:
    if contender.kind == "peer":
        filler, role = contender, "push"
    else:  # the same jobs, pushed by the fastest client
        filler, role = CONTENDERS["raw"], "push_many"
    options = _options(shape, redis, "--count", str(count))
    processes.answer(filler.command(role, *options), START_S + count / filler.jobs_per_s * 10)


def _options(shape: Shape, redis: PrivateRedis, *more: str) -> list[str]:
    return [
        *("--url", redis.url, "--payload-bytes", str(shape.payload_bytes)),
        *("--in-flight", str(shape.in_flight), *more),
        *([] if shape.results else ["--no-results"]),
    ]
