"""The chart for the README, as an SVG: how many jobs a second, and how long until a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
from contender import CONTENDERS
from matplotlib.figure import Figure
from measures import Shape

if TYPE_CHECKING:
    from pathlib import Path

    from results import Results

LABELS = {
    "raw": "raw socket (limit)",
    "jobqueue": "JobQueue",
    "jobqueue_asleep": "JobQueue, not waiting awake",
    "jobqueue_aio": "JobQueue, asyncio",
    "bee_queue": "bee-queue (Node.js)",
    "bullmq_node": "BullMQ (Node.js)",
    "bullmq": "BullMQ (Python)",
}
COLOURS = {"limit": "#b8bfc6", "reference": "#0b7285", "peer": "#adb5bd"}

Ends = tuple[float, float]


class Bar(NamedTuple):
    """The median of some runs, and the least and the most that a run came to."""

    label: str
    value: float
    colour: str
    ends: Ends


def draw(results: Results, path: Path) -> None:
    """Draw what was measured as two rows of bars; a line shows the range over the runs."""
    throughput, latency = _throughput(results), _latency(results)
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "jobqueue"
    figure = Figure(figsize=(11, 0.34 * max(len(throughput), len(latency), 4) + 1.3))
    left, right = figure.subplots(1, 2)
    _bars(left, throughput, "jobs per second, one server process", "{:,.0f}")
    _bars(right, latency, "ms from call to result, median, log scale", "{:.2f}")
    right.set_xscale("log")
    right.set_xlim(left=0.03)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, transparent=False)


def _throughput(results: Results) -> list[Bar]:
    bars = [
        Bar(
            f"{LABELS[name]}, {words}",
            rate,
            COLOURS[CONTENDERS[name].kind],
            results.ends("drain", name, shape, "jobs_per_s") or (rate, rate),
        )
        for name, shape, words in (
            ("raw", Shape(prefetch=10), "10 claimed at once"),
            ("jobqueue", Shape(prefetch=10), "prefetch 10"),
            ("raw", Shape(), "one at a time"),
            ("jobqueue", Shape(), "one at a time"),
            ("jobqueue_asleep", Shape(), "one at a time"),
            ("jobqueue_aio", Shape(concurrency=100), "concurrency 100"),
        )
        if (rate := results.value("drain", name, shape, "jobs_per_s")) is not None
    ]
    for name in _peers():
        rates = [
            (rate, found.ends("jobs_per_s"))
            for found in results.of_measure("drain")
            if found.contender == name and set(found.shape) <= {"concurrency", "prefetch"}
            if (rate := found.median("jobs_per_s")) is not None
        ]
        if rates:
            rate, ends = max(rates)
            bars.append(Bar(LABELS.get(name, name), rate, COLOURS["peer"], ends or (rate, rate)))
    return sorted(bars, key=lambda bar: bar.value)


def _latency(results: Results) -> list[Bar]:
    bars = [
        Bar(
            LABELS.get(name, name),
            latency,
            COLOURS[contender.kind],
            results.ends("round-trip", name, Shape(), "p50_ms") or (latency, latency),
        )
        for name, contender in CONTENDERS.items()
        if (latency := results.value("round-trip", name, Shape(), "p50_ms")) is not None
    ]
    return sorted(bars, key=lambda bar: -bar.value)


def _peers() -> list[str]:
    return [name for name, contender in CONTENDERS.items() if contender.kind == "peer"]


def _bars(axes: mpl.axes.Axes, bars: list[Bar], title: str, form: str) -> None:
    drawn = axes.barh(
        [bar.label for bar in bars],
        [bar.value for bar in bars],
        color=[bar.colour for bar in bars],
        xerr=[
            [bar.value - bar.ends[0] for bar in bars],
            [bar.ends[1] - bar.value for bar in bars],
        ],
        error_kw={"ecolor": "#495057", "elinewidth": 1.2, "capsize": 2},
    )
    axes.bar_label(drawn, [form.format(bar.value) for bar in bars], padding=4, fontsize=9)
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.xaxis.set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.15, y=0.02)
