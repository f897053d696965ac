"""The chart for the README, as an SVG: how many jobs a second, and how long until a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    "jobqueue_aio": "JobQueue, asyncio",
    "bee_queue": "bee-queue (Node.js)",
    "bullmq_node": "BullMQ (Node.js)",
    "bullmq": "BullMQ (Python)",
}
COLOURS = {"limit": "#b8bfc6", "reference": "#0b7285", "peer": "#adb5bd"}

Bar = tuple[str, float, str]


def draw(results: Results, path: Path) -> None:
    """Draw what was measured as two rows of bars, with the figure at the end of each."""
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
        (f"{LABELS[name]}, {words}", rate, COLOURS[CONTENDERS[name].kind])
        for name, shape, words in (
            ("raw", Shape(prefetch=10), "10 claimed at once"),
            ("jobqueue", Shape(prefetch=10), "prefetch 10"),
            ("raw", Shape(), "one at a time"),
            ("jobqueue", Shape(), "one at a time"),
            ("jobqueue_aio", Shape(concurrency=100), "concurrency 100"),
        )
        if (rate := results.value("drain", name, shape, "jobs_per_s")) is not None
    ]
    for name in _peers():
        rates = [
            rate
            for found in results.of_measure("drain")
            if found.contender == name and set(found.shape) <= {"concurrency", "prefetch"}
            if (rate := found.median("jobs_per_s")) is not None
        ]
        if rates:
            bars.append((LABELS.get(name, name), max(rates), COLOURS["peer"]))
    return sorted(bars, key=lambda bar: bar[1])


def _latency(results: Results) -> list[Bar]:
    bars = [
        (LABELS.get(name, name), latency, COLOURS[contender.kind])
        for name, contender in CONTENDERS.items()
        if (latency := results.value("round-trip", name, Shape(), "p50_ms")) is not None
    ]
    return sorted(bars, key=lambda bar: -bar[1])


def _peers() -> list[str]:
    return [name for name, contender in CONTENDERS.items() if contender.kind == "peer"]


def _bars(axes: mpl.axes.Axes, bars: list[Bar], title: str, form: str) -> None:
    drawn = axes.barh(
        [label for label, _, _ in bars],
        [value for _, value, _ in bars],
        color=[colour for _, _, colour in bars],
    )
    axes.bar_label(drawn, [form.format(value) for _, value, _ in bars], padding=4, fontsize=9)
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.xaxis.set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.15, y=0.02)
