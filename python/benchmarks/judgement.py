"""What the reference promises, and whether this run shows it.

Every promise is a ratio within one run, or a number that doesn't depend on the machine's speed.
The median of several runs decides; the results of the single runs are shown next to it.
A promise is undecided if a part of it wasn't measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from plan import BATCHES, CALLS, HUNDRED_AT_ONCE, PLAIN, TEN_CLAIMED
from results import Results, peers

if TYPE_CHECKING:
    from collections.abc import Callable

    from contender import Contender
    from measures import Shape


class Promise(NamedTuple):
    """A sentence, the least or the most that keeps it, and how it is measured."""

    text: str
    target: float
    at_most: bool
    measured: Callable[[Results], float | None]


class Verdict(NamedTuple):
    """A promise, what was measured, and whether that keeps it; None where it wasn't measured."""

    promise: Promise
    measured: float | None
    ends: tuple[float, float] | None

    @property
    def kept(self) -> bool | None:
        """Whether the measured value is on the right side of the target."""
        if self.measured is None:
            return None
        if self.promise.at_most:
            return self.measured <= self.promise.target
        return self.measured >= self.promise.target

    def document(self) -> dict[str, Any]:
        """The verdict as JSON has it."""
        return {
            "promise": self.promise.text,
            "target": self.promise.target,
            "at_most": self.promise.at_most,
            "measured": self.measured,
            "ends": self.ends,
            "kept": self.kept,
        }


def judge(results: Results) -> list[Verdict]:
    """Hold the results against every promise."""
    runs = results.runs()
    return [
        Verdict(promise, promise.measured(results), _ends([promise.measured(run) for run in runs]))
        for promise in PROMISES
    ]


def _ends(values: list[float | None]) -> tuple[float, float] | None:
    found = [value for value in values if value is not None]
    return (min(found), max(found)) if found else None


def ratio(value: float | None, to: float | None) -> float | None:
    """Divide, where both were measured."""
    return value / to if value is not None and to else None


def rate(contender: str, shape: Shape) -> Callable[[Results], float | None]:
    """Give the drain rate of a contender."""
    return lambda results: results.value("drain", contender, shape, "jobs_per_s")


def fastest(results: Results, among: list[Contender], *, varied: set[str]) -> float | None:
    """Give the best drain rate of the peers, in all shapes that vary nothing else than this."""
    names = {contender.name for contender in among}
    found = [
        value
        for measurement in results.of_measure("drain")
        if measurement.contender in names and set(measurement.shape) <= varied
        if (value := measurement.median("jobs_per_s")) is not None
    ]
    return max(found, default=None)


def p50_ms(results: Results, contender: str) -> float | None:
    """Give the median latency of a contender with one call in flight."""
    return results.value("round-trip", contender, PLAIN, "p50_ms")


def replies(results: Results, contender: str) -> float | None:
    """Give the rate of replies with 32 calls in flight."""
    return results.value("round-trip", contender, CALLS, "replies_per_s")


def best(values: list[float | None], choose: Callable[[list[float]], float]) -> float | None:
    """Choose among what was measured."""
    found = [value for value in values if value is not None]
    return choose(found) if found else None


def _drain_ratio(contender: str, shape: Shape, limit: Shape) -> Callable[[Results], float | None]:
    return lambda results: ratio(rate(contender, shape)(results), rate("raw", limit)(results))


def _drain_lead(
    contender: str, shape: Shape, *varied: str, asynchronous: bool = False
) -> Callable[[Results], float | None]:
    return lambda results: ratio(
        rate(contender, shape)(results),
        fastest(results, peers(asynchronous=asynchronous), varied=set(varied)),
    )


def _python_latency(results: Results) -> float | None:
    return best([p50_ms(results, peer.name) for peer in peers()], min)


def _slower_of_ours(results: Results) -> float | None:
    return best([p50_ms(results, "jobqueue"), p50_ms(results, "jobqueue_aio")], max)


def _node_replies(results: Results) -> float | None:
    return best([replies(results, peer.name) for peer in peers(node=True)], max)


def _enqueued(results: Results, name: str, shape: Shape) -> float | None:
    return results.value("enqueue", name, shape, "jobs_per_s")


def _enqueue_ratio(results: Results) -> float | None:
    return ratio(_enqueued(results, "jobqueue", PLAIN), _enqueued(results, "raw", PLAIN))


def _batch_ratio(results: Results) -> float | None:
    ours, raw = (_enqueued(results, name, BATCHES) for name in ("jobqueue", "raw"))
    return ratio(ours, min(80_000, 0.6 * raw)) if raw else None


def _spread(results: Results) -> float | None:
    """Give the dearest job over the cheapest, in CPU time of server and Redis."""
    costs = [
        server + redis
        for measurement in results.of_measure("drain")
        if measurement.contender == "jobqueue" and set(measurement.shape) == {"waiting"}
        if (server := measurement.median("server_cpu_s_per_100k")) is not None
        if (redis := measurement.median("redis_cpu_s_per_100k")) is not None
    ]
    return max(costs) / min(costs) if len(costs) > 1 else None


def _grown(results: Results) -> float | None:
    found = [measurement.median("grown_mib") for measurement in results.of_measure("endurance")]
    return best(found, max)


PROMISES = [
    Promise(
        "drain, one at a time: of the raw limit",
        0.70,
        at_most=False,
        measured=_drain_ratio("jobqueue", PLAIN, PLAIN),
    ),
    Promise(
        "drain, one at a time: times the fastest peer, one at a time",
        4,
        at_most=False,
        measured=_drain_lead("jobqueue", PLAIN),
    ),
    Promise(
        "drain, one at a time: times the fastest peer in any setting, even without results",
        4,
        at_most=False,
        measured=_drain_lead("jobqueue", PLAIN, "concurrency", "prefetch", "results"),
    ),
    Promise(
        "drain, prefetch 10: of the raw limit of that shape",
        0.55,
        at_most=False,
        measured=_drain_ratio("jobqueue", TEN_CLAIMED, TEN_CLAIMED),
    ),
    Promise(
        "drain, prefetch 10: times the fastest peer",
        10,
        at_most=False,
        measured=_drain_lead("jobqueue", TEN_CLAIMED, "concurrency", "prefetch"),
    ),
    Promise(
        "drain, asyncio at concurrency 100: times the fastest asyncio peer",
        8,
        at_most=False,
        measured=_drain_lead("jobqueue_aio", HUNDRED_AT_ONCE, "concurrency", asynchronous=True),
    ),
    Promise(
        "round trip p50, threads: of the raw limit",
        1.8,
        at_most=True,
        measured=lambda results: ratio(p50_ms(results, "jobqueue"), p50_ms(results, "raw")),
    ),
    Promise(
        "round trip p50, asyncio: of the raw limit",
        3,
        at_most=True,
        measured=lambda results: ratio(p50_ms(results, "jobqueue_aio"), p50_ms(results, "raw")),
    ),
    Promise(
        "round trip p50, threads: of the fastest peer in Python",
        0.35,
        at_most=True,
        measured=lambda results: ratio(p50_ms(results, "jobqueue"), _python_latency(results)),
    ),
    Promise(
        "round trip p50, the slower of threads and asyncio: of bee-queue",
        1,
        at_most=True,
        measured=lambda results: ratio(_slower_of_ours(results), p50_ms(results, "bee_queue")),
    ),
    Promise(
        "32 calls in flight, asyncio: replies/s",
        6_000,
        at_most=False,
        measured=lambda results: replies(results, "jobqueue_aio"),
    ),
    Promise(
        "32 calls in flight, asyncio: times the faster of bee-queue and BullMQ",
        1,
        at_most=False,
        measured=lambda results: ratio(replies(results, "jobqueue_aio"), _node_replies(results)),
    ),
    Promise(
        "32 calls in flight, asyncio: results lost of 100,000",
        0,
        at_most=True,
        measured=lambda results: results.value("loss", "jobqueue_aio", CALLS, "lost"),
    ),
    Promise(
        "enqueue, one by one: of the raw limit",
        0.70,
        at_most=False,
        measured=_enqueue_ratio,
    ),
    Promise(
        "enqueue, many at once: of 80,000 jobs/s or 0.6 of the raw limit, the lesser",
        1,
        at_most=False,
        measured=_batch_ratio,
    ),
    Promise(
        "CPU per job, 10³ to 10⁶ waiting: dearest over cheapest",
        1.15,
        at_most=True,
        measured=_spread,
    ),
    Promise(
        "idle server: % of a core",
        0.5,
        at_most=True,
        measured=lambda results: results.value("idle", "jobqueue", PLAIN, "cpu_percent"),
    ),
    Promise(
        "10⁶ jobs through one server: MiB grown since the first 10⁵",
        1,
        at_most=True,
        measured=_grown,
    ),
]
