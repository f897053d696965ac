"""The tables of a run: a row for each contender, medians, and under them the ratios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from contender import CONTENDERS
from judgement import Verdict, ratio
from plan import PLAIN, TABLES, TEN_CLAIMED
from results import Results, peers
from rich.table import Table

if TYPE_CHECKING:
    from measures import Shape


class Column(NamedTuple):
    """A value of a measure in a shape."""

    heading: str
    measure: str
    shape: Shape
    value: str
    form: str = ",.0f"
    fewer_is_better: bool = False


Titled = Iterator[tuple[str, list[Column]]]


def tables(results: Results, names: list[str]) -> list[Table]:
    """Make the tables for which something was measured."""
    made = (
        _table(title, results, columns)
        for name in TABLES
        if name in names
        for title, columns in COLUMNS[name]()
    )
    return [table for table in made if table.columns[1:]]


def verdicts(judged: list[Verdict]) -> Table:
    """Make the table of the promises."""
    table = Table(title="Promises", title_justify="left")
    table.add_column("promise")
    table.add_column("target", justify="right")
    table.add_column("median", justify="right")
    table.add_column("of runs", justify="right")
    table.add_column("kept")
    for verdict in judged:
        sign = "≤" if verdict.promise.at_most else "≥"
        measured = "—" if verdict.measured is None else f"{verdict.measured:,.2f}"
        kept = {True: "[green]yes", False: "[red]no", None: "not measured"}[verdict.kept]
        target = f"{sign} {verdict.promise.target:,g}"
        table.add_row(verdict.promise.text, target, measured, spread(verdict.ends), kept)
    return table


def spread(ends: tuple[float, float] | None, form: str = ",.2f") -> str:
    """Write the least and the most."""
    return "—" if ends is None else " to ".join(format(end, form) for end in ends)


def failures(results: Results) -> Table:
    """Make the table of what couldn't be measured, and why."""
    table = Table(title="Not measured", title_justify="left")
    for heading in ("contender", "measure", "why"):
        table.add_column(heading)
    for contender, why in results.failures.items():
        table.add_row(contender, "all", why)
    for measure in ("drain", "round-trip", "loss", "enqueue", "idle", "endurance"):
        for found in results.of_measure(measure):
            if found.failure:
                shape = " ".join(f"{name}={value}" for name, value in found.shape.items())
                table.add_row(found.contender, f"{measure} {shape}".strip(), found.failure)
    return table


def _table(title: str, results: Results, columns: list[Column]) -> Table:
    columns = [column for column in columns if _best(results, column, set(CONTENDERS)) is not None]
    table = Table(title=title, title_justify="left")
    table.add_column("contender")
    for column in columns:
        table.add_column(column.heading, justify="right")
    for name in CONTENDERS:
        cells = [_value(results, column, name) for column in columns]
        if any(cell is not None for cell in cells):
            label = f"{name} {results.versions.get(name, '')}".strip()
            table.add_row(label, *_written(cells, [column.form for column in columns]))
    table.add_section()
    rivals = {"raw": {"raw"}, "best peer": {peer.name for peer in [*peers(), *peers(node=True)]}}
    for ours in ("jobqueue", "jobqueue_aio"):
        for label, rival in rivals.items():
            ratios = [
                ratio(_value(results, column, ours), _best(results, column, rival))
                for column in columns
            ]
            if any(found is not None for found in ratios):
                table.add_row(f"{ours} ÷ {label}", *_written(ratios, [".2f"] * len(columns)))
    return table


def _value(results: Results, column: Column, name: str) -> float | None:
    return results.value(column.measure, name, column.shape, column.value)


def _best(results: Results, column: Column, among: set[str]) -> float | None:
    found = [value for name in among if (value := _value(results, column, name)) is not None]
    choose = min if column.fewer_is_better else max
    return choose(found) if found else None


def _written(values: list[float | None], forms: list[str]) -> list[str]:
    return [
        "—" if value is None else format(value, form)
        for value, form in zip(values, forms, strict=True)
    ]


def _shapes(table: str, measure: str) -> list[Shape]:
    return [shape for asked, shape in TABLES[table] if asked == measure]


def _drain() -> Titled:
    columns = [
        Column(_heading(shape, "c=1"), "drain", shape, "jobs_per_s")
        for shape in _shapes("drain", "drain")
    ]
    yield "Drain: jobs/s taken from a full queue (c: concurrency, p: prefetch)", columns


def _round_trip() -> Titled:
    for shape in sorted(_shapes("round-trip", "round-trip"), key=lambda shape: shape.in_flight):
        columns = [
            Column(heading, "round-trip", shape, value, form, fewer_is_better=fewer)
            for heading, value, form, fewer in (
                ("p50 ms", "p50_ms", ".2f", True),
                ("p99 ms", "p99_ms", ".2f", True),
                ("p99.9 ms", "p99_9_ms", ".2f", True),
                ("results/s", "replies_per_s", ",.0f", False),
                ("lost", "lost", ",.0f", True),
            )
        ]
        yield f"Round trip, from the call to its result: {shape.in_flight} in flight", columns


def _enqueue() -> Titled:
    columns = [
        Column("one by one" if shape == PLAIN else "many at once", "enqueue", shape, "jobs_per_s")
        for shape in _shapes("enqueue", "enqueue")
    ]
    yield "Enqueue: jobs/s queued by one client", columns


def _cost() -> Titled:
    columns = [
        Column(heading, "drain", PLAIN, value, form, fewer_is_better=True)
        for heading, value, form in (
            ("server CPU s\nper 100,000", "server_cpu_s_per_100k", ".2f"),
            ("Redis CPU s\nper 100,000", "redis_cpu_s_per_100k", ".2f"),
            ("Redis commands\nper job", "redis_commands_per_job", ".1f"),
            ("Redis bytes\nper job", "redis_bytes_per_job", ",.0f"),
        )
    ]
    yield "Cost of a job, one at a time", columns


def _growth() -> Titled:
    shapes = _shapes("growth", "drain")
    for varied, title in (
        ("waiting", "so many waiting"),
        ("payload_bytes", "payloads of so many bytes"),
    ):
        columns = [
            Column(
                f"{shape.title()[varied]:,}\n{who}",
                "drain",
                shape,
                value,
                ".2f",
                fewer_is_better=True,
            )
            for shape in shapes
            if varied in shape.title()
            for who, value in (
                ("server", "server_cpu_s_per_100k"),
                ("Redis", "redis_cpu_s_per_100k"),
            )
        ]
        yield f"Growth: CPU s per 100,000 jobs, with {title}", columns
    columns = [
        Column(f"{shape.servers}", "round-trip", shape, "p50_ms", ".2f", fewer_is_better=True)
        for shape in _shapes("growth", "round-trip")
    ]
    yield "Growth: p50 ms of a round trip, with more servers blocked on the queue", columns


def _idle() -> Titled:
    columns = [
        Column("server\nCPU %", "idle", PLAIN, "cpu_percent", ".2f", fewer_is_better=True),
        Column("Redis\nCPU %", "idle", PLAIN, "redis_cpu_percent", ".2f", fewer_is_better=True),
        Column("memory\nMiB", "idle", PLAIN, "memory_mib", ".1f", fewer_is_better=True),
        Column(
            "10⁶ jobs:\nMiB more",
            "endurance",
            TEN_CLAIMED,
            "grown_mib",
            ".1f",
            fewer_is_better=True,
        ),
    ]
    yield "Idle: a server with nothing to do, and what a million jobs leave behind", columns


COLUMNS: dict[str, Callable[[], Titled]] = {
    "drain": _drain,
    "round-trip": _round_trip,
    "enqueue": _enqueue,
    "cost": _cost,
    "growth": _growth,
    "idle": _idle,
}
_SHORT = {
    "concurrency": "c",
    "prefetch": "p",
    "processes": "processes",
    "results": "results",
}


def _heading(shape: Shape, plain: str) -> str:
    words = [f"{_SHORT[name]}={value:,}" for name, value in shape.title().items()]
    return " ".join(words) or plain
