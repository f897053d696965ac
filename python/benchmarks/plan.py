"""What is measured of whom, in which order.

The order interleaves: everything is measured once before anything is measured again, so that a
machine that slows down slows all of it, and a median is a median over the whole run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from measures import FEWEST, Shape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contender import Contender

Asked = tuple[str, Shape]  # a measure and how

TIMES_WAITING = 4  # the reference is measured in each run

PLAIN = Shape()
TEN_CLAIMED = Shape(prefetch=10)
HUNDRED_AT_ONCE = Shape(concurrency=100)
UNANSWERED = Shape(results=0)
CALLS = Shape(in_flight=32, concurrency=32)
BATCHES = Shape(batch=1_000)
WAITING = [Shape(waiting=waiting) for waiting in (1_000, 10_000, 100_000, 1_000_000)]
PAYLOADS = [Shape(payload_bytes=size) for size in (100, 1_000, 10_000, 100_000, 1_000_000)]
BLOCKED = [Shape(servers=servers) for servers in (1, 10, 50, 200)]

TABLES: dict[str, list[Asked]] = {
    "drain": [
        ("drain", PLAIN),
        ("drain", UNANSWERED),
        ("drain", TEN_CLAIMED),
        ("drain", Shape(prefetch=100)),
        ("drain", Shape(concurrency=10)),
        ("drain", HUNDRED_AT_ONCE),
        ("drain", Shape(processes=2)),
        ("drain", Shape(processes=2, prefetch=10)),
        ("drain", Shape(processes=2, concurrency=100)),
    ],
    "round-trip": [
        ("round-trip", PLAIN),
        ("round-trip", Shape(in_flight=10, concurrency=10)),
        ("round-trip", CALLS),
        ("round-trip", Shape(in_flight=100, concurrency=100)),
        ("loss", CALLS),
    ],
    "enqueue": [("enqueue", PLAIN), ("enqueue", BATCHES)],
    "cost": [("drain", PLAIN)],
    "growth": [
        *(("drain", shape) for shape in [*WAITING, *PAYLOADS]),
        *(("round-trip", shape) for shape in BLOCKED),
    ],
    "idle": [("idle", PLAIN), ("endurance", TEN_CLAIMED)],
}
# Where it matters whether a server waits awake: one job at a time.
ASLEEP: list[Asked] = [("drain", PLAIN), ("drain", TEN_CLAIMED), ("round-trip", PLAIN)]
QUICK: list[Asked] = [
    ("drain", PLAIN),
    ("drain", UNANSWERED),
    ("drain", TEN_CLAIMED),
    ("drain", HUNDRED_AT_ONCE),
    ("round-trip", PLAIN),
    ("round-trip", CALLS),
    ("enqueue", PLAIN),
    ("enqueue", BATCHES),
    ("drain", WAITING[0]),
    ("drain", WAITING[2]),
    ("idle", PLAIN),
]
PROMISED: list[Asked] = [
    *QUICK,
    ("drain", WAITING[1]),
    ("drain", WAITING[3]),
    ("loss", CALLS),
    ("endurance", TEN_CLAIMED),
]


class Step(NamedTuple):
    """One measurement: the name of its measure, whom, and how."""

    measure: str
    contender: Contender
    shape: Shape


def asked(tables: Iterable[str], extent: list[Asked] | None) -> list[Asked]:
    """List what these tables ask for, of an extent or all of it; nothing is there twice."""
    pairs = list(dict.fromkeys(pair for table in tables for pair in TABLES[table]))
    return pairs if extent is None else [pair for pair in extent if pair in pairs]


def steps(
    contenders: Iterable[Contender], pairs: Iterable[Asked], *, spare: bool, seconds: float
) -> list[Step]:
    """List the steps of one run.

    None is there twice, but for the reference with jobs waiting: it is held against itself, and
    its cost in one measurement can be a third more than in the next.

    Args:
        contenders: Who is measured.
        pairs: What is asked of them.
        spare: Leave out what no promise is held against.
        seconds: How long a measurement aims to take.
    """
    contenders = list(contenders)
    once = [
        Step(measure, contender, sized(contender, measure, shape, seconds))
        for measure, shape in pairs
        for contender in contenders
        if _able(contender, measure, shape)
        and not (spare and _dispensable(contender, measure, shape))
    ]
    waiting = [step for step in once if step.shape.waiting and step.contender.name == "jobqueue"]
    return once + (TIMES_WAITING - 1) * waiting


def _able(contender: Contender, measure: str, shape: Shape) -> bool:
    """Tell whether the contender has what the shape asks for."""
    peer = contender.kind == "peer"
    lacks = (
        shape.concurrency > 1 and not (contender.concurrent or measure == "round-trip"),
        shape.prefetch > 1 and not contender.prefetches,
        not shape.results and not contender.mute,
        shape.waiting > 10_000 and peer,  # it would take them minutes to queue so many
        shape.servers > 1 and contender.name not in ("raw", "jobqueue"),
        shape.in_flight > 1 and contender.name == "raw",
        shape.batch > 1 and not contender.batches,
        measure in ("round-trip", "loss") and not contender.calls,
        measure == "enqueue" and contender.name in ("raw_script", "raw_unsafe"),
        measure == "endurance" and contender.kind != "reference",
        measure == "loss" and contender.name != "jobqueue_aio",
        contender.name == "jobqueue_asleep" and (measure, shape) not in ASLEEP,
    )
    return not any(lacks)


def _dispensable(contender: Contender, measure: str, shape: Shape) -> bool:
    """Tell whether no promise is held against this measurement."""
    if contender.kind == "peer":
        return (
            measure in ("enqueue", "idle")
            or (shape == UNANSWERED and contender.node)
            or shape.waiting > 0
        )
    spared = shape.waiting > 0 or measure == "idle" or shape == TEN_CLAIMED
    return spared and contender.name == "jobqueue_aio"


def sized(contender: Contender, measure: str, shape: Shape, seconds: float) -> Shape:
    """Give the shape as many jobs as take the contender about so many seconds."""
    if measure == "idle":
        return shape._replace(seconds=3 * seconds)
    if measure in _LARGE:
        return shape._replace(jobs=_LARGE[measure], seconds=300.0)
    if shape.waiting:  # a few percent matter here
        seconds *= 2
    jobs = contender.jobs_per_s * shape.processes * seconds
    if shape.prefetch > 1:
        jobs *= 3
    if shape.batch > 1:
        jobs *= 5
    if shape.payload_bytes > 1_000:
        jobs = min(jobs, _PAYLOAD_BYTES_PER_S * seconds / shape.payload_bytes)
    return shape._replace(jobs=max(int(jobs), 2 * FEWEST), seconds=seconds)


_LARGE = {"endurance": 1_000_000, "loss": 100_000}
_PAYLOAD_BYTES_PER_S = 100_000_000
