"""The benchmarks: the reference compared with the limit of its protocol and with its peers.

`python run.py` measures what the promises are held against, in five interleaved runs, which takes
about a quarter of an hour; `--quick` what fits in a minute; `--all` every table, in three runs,
within an hour. It needs Linux. README.md says what is measured, how, and what can't be compared.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path

import environments
import judgement
import tables
from contender import CONTENDERS, HERE, Contender
from environments import EnvironmentFailed
from measures import MEASURES
from plan import PROMISED, QUICK, TABLES, Step, asked, steps
from private_redis import PrivateRedis, private_redis
from processes import ProcessFailed
from results import Results
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

QUICK_S = 55.0  # for each run; leaves time to write the answers within the minute
LOGGED = 20  # a line for each so many measurements, without a terminal
LOG_COLUMNS = 1000  # as many as any table needs, since a log has no right edge
LATEST, CHART = HERE / "results" / "latest.json", HERE / "results" / "chart.svg"

EXTENTS = {  # what is asked, in how many runs, and how many seconds a measurement aims to take
    "quick": (QUICK, 1, 0.3),
    "promised": (PROMISED, 5, 0.5),
    "all": (None, 3, 0.5),
}
EXAMPLES = """\
examples:
  python run.py --quick                              what fits in a minute
  python run.py --only drain,cost                    two of the tables
  python run.py --contenders raw,jobqueue,huey       the reference, its limit and one peer
  python run.py --quick --chart chart.svg            and draw the chart
  python compare.py main                             two revisions of the reference, in pairs

A promise is kept or broken by the median over the runs; what wasn't measured is neither. What
`make bench` measures becomes results/latest.json and results/chart.svg, unless other places are
named.
"""


def main() -> int:
    """Measure, print the tables, and write what was asked for."""
    options = _options()
    console = Console(width=options.width or (None if sys.stdout.isatty() else LOG_COLUMNS))
    for ending in (signal.SIGINT, signal.SIGTERM):  # a shell's background ignores the first
        signal.signal(ending, signal.default_int_handler)  # or what was started would live on
    with private_redis() as redis:
        results = Results(redis.version(), {"extent": options.extent, "runs": options.runs})
        results.settings["seconds"] = options.seconds
        interrupted = False
        try:
            contenders = _ready(options.contenders, results, console)
            _measure(contenders, options, redis, results, console)
        except KeyboardInterrupt:
            interrupted = True
            console.print("interrupted: what follows is what was measured until now")
    judged = judgement.judge(results)
    for table in tables.tables(results, options.only):
        console.print(table, "")
    if (missing := tables.failures(results)).row_count:
        console.print(missing, "")
    console.print(tables.verdicts(judged))
    published = options.published and not interrupted
    if path := options.json or (LATEST if published else None):
        document = results.document([verdict.document() for verdict in judged])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        console.print(f"written: {path}")
    if path := options.chart or (CHART if published else None):
        from chart import draw  # noqa: PLC0415 - matplotlib only where a chart is asked for

        draw(results, path)
        console.print(f"written: {path}")
    return 130 if interrupted else 0


def _ready(asked: list[Contender], results: Results, console: Console) -> list[Contender]:
    """Make the environments, which isn't measured, and return who can run."""
    ready = []
    with console.status("environments") as status:
        for contender in asked:
            status.update(f"environment of {contender.name}")
            try:
                environments.make(contender)
                results.versions[contender.name] = environments.version(contender)
                ready.append(contender)
            except EnvironmentFailed as error:
                results.failures[contender.name] = str(error)
    return ready


def _measure(
    contenders: list[Contender],
    options: argparse.Namespace,
    redis: PrivateRedis,
    results: Results,
    console: Console,
) -> None:
    quick = options.extent == "quick"
    spare = options.extent != "all"
    planned = steps(contenders, options.asked, spare=spare, seconds=options.seconds)
    deadline = time.monotonic() + (options.runs * QUICK_S if quick else float("inf"))
    rounds = [
        (run, step)
        for run in range(options.runs)
        for step in planned
        if not (run and step.measure in ("loss", "endurance"))  # long enough once
    ]
    log = Console(stderr=True, soft_wrap=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(rounds))
        for done, (run, step) in enumerate(rounds):
            progress.update(bar, completed=done, description=_words(step))
            if not console.is_terminal and done % LOGGED == 0:  # where rich shows no bar
                log.print(f"{done} of {len(rounds)}: {_words(step)}")
            _take(run, step, redis, results, deadline)


def _take(run: int, step: Step, redis: PrivateRedis, results: Results, deadline: float) -> None:
    measure, contender, shape = step
    found = results.of(measure, contender.name, shape)
    if time.monotonic() > deadline - 2 * shape.seconds - 1:
        found.failure = "no time was left"
        return
    try:
        found.add(run, MEASURES[measure](contender, shape, redis))
    except ProcessFailed as error:
        found.failure = str(error)


def _words(step: Step) -> str:
    shape = " ".join(f"{name}={value:,}" for name, value in step.shape.title().items())
    return f"{step.measure} {step.contender.name} {shape}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument(
        "--quick", action="store_true", help="end within a minute: one run, the fastest"
    )
    extent.add_argument("--all", action="store_true", help="every table whole, in three runs")
    add(
        "--only",
        type=_tables,
        default=list(TABLES),
        metavar="TABLES",
        help="of " + ", ".join(TABLES),
    )
    add("--contenders", type=_contenders, metavar="NAMES", help="of " + ", ".join(CONTENDERS))
    add("--runs", type=int, help="how often each is measured; the median counts (5)")
    add("--seconds", type=float, help="how long a measurement aims to take (0.5)")
    add("--json", type=Path, metavar="PATH", help="write every value")
    add("--chart", type=Path, metavar="PATH", help="draw an SVG")
    add("--width", type=int, help="of the tables (the terminal's; in a log, what they need)")
    options = parser.parse_args()
    options.extent = "quick" if options.quick else "all" if options.all else "promised"
    pairs, runs, seconds = EXTENTS[options.extent]
    options.asked = asked(options.only, pairs)
    options.published = options.extent == "promised" and not (
        options.contenders or options.only != list(TABLES)
    )
    options.runs = options.runs or runs
    options.seconds = options.seconds or seconds
    if options.contenders is None:
        everybody = CONTENDERS.values()
        options.contenders = [one for one in everybody if one.quick or not options.quick]
    return options


def _tables(text: str) -> list[str]:
    return [_known(name, list(TABLES)) for name in text.split(",")]


def _contenders(text: str) -> list[Contender]:
    return [CONTENDERS[_known(name, list(CONTENDERS))] for name in text.split(",")]


def _known(name: str, names: list[str]) -> str:
    if name not in names:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(names)}")
    return name


if __name__ == "__main__":
    sys.exit(main())
