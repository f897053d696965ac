"""Compares two revisions of the reference: pairs of measurements, one of each in turn.

`python compare.py REVISION` measures that revision and this checkout, for as many pairs as asked
for; which of the two is first changes from pair to pair. What counts is the median of the pairs'
ratios and the interval that contains that median with 95 % confidence, for whatever else the
machine does disturbs both halves of a pair alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from math import comb
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from contender import CONTENDERS, HERE, Contender
from measures import MEASURES, Shape
from plan import BATCHES, CALLS, HUNDRED_AT_ONCE, PLAIN, TEN_CLAIMED, sized
from private_redis import PrivateRedis, private_redis
from processes import ProcessFailed
from rich.console import Console
from rich.progress import track
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON, ROOT = HERE.parent, HERE.parents[1]
SURE = 0.95  # the probability that the printed interval contains the median


class Question(NamedTuple):
    """What is compared: a value of a measure, and whether less of it is better."""

    words: str
    measure: str
    contender: str
    shape: Shape
    value: str
    fewer_is_better: bool = False


QUESTIONS = (
    Question("drain, threads, jobs/s", "drain", "jobqueue", PLAIN, "jobs_per_s"),
    Question(
        "drain, asleep, server CPU",  # awake, it spends all the time that it has
        "drain",
        "jobqueue_asleep",
        PLAIN,
        "server_cpu_s_per_100k",
        fewer_is_better=True,
    ),
    Question("drain, prefetch 10, jobs/s", "drain", "jobqueue", TEN_CLAIMED, "jobs_per_s"),
    Question(
        "drain, prefetch 10, asleep, server CPU",
        "drain",
        "jobqueue_asleep",
        TEN_CLAIMED,
        "server_cpu_s_per_100k",
        fewer_is_better=True,
    ),
    Question(
        "drain, asyncio, 100 handlers, jobs/s",
        "drain",
        "jobqueue_aio",
        HUNDRED_AT_ONCE,
        "jobs_per_s",
    ),
    Question(
        "round trip, threads, p50", "round-trip", "jobqueue", PLAIN, "p50_ms", fewer_is_better=True
    ),
    Question(
        "round trip, asyncio, p50",
        "round-trip",
        "jobqueue_aio",
        PLAIN,
        "p50_ms",
        fewer_is_better=True,
    ),
    Question("32 in flight, threads, results/s", "round-trip", "jobqueue", CALLS, "replies_per_s"),
    Question(
        "32 in flight, asyncio, results/s", "round-trip", "jobqueue_aio", CALLS, "replies_per_s"
    ),
    *(
        Question(
            f"32 in flight, {half}, client CPU",
            "round-trip",
            contender,
            CALLS,
            "client_cpu_us",
            fewer_is_better=True,
        )
        for half, contender in (("threads", "jobqueue"), ("asyncio", "jobqueue_aio"))
    ),
    Question("run, one by one, jobs/s", "enqueue", "jobqueue", PLAIN, "jobs_per_s"),
    Question("run_many, threads, jobs/s", "enqueue", "jobqueue", BATCHES, "jobs_per_s"),
    Question("run_many, asyncio, jobs/s", "enqueue", "jobqueue_aio", BATCHES, "jobs_per_s"),
)

EXAMPLES = """\
examples:
  python compare.py main                       what the change under way costs
  python compare.py v1.0.0 --pairs 20          narrower intervals
  python compare.py HEAD~1 --only drain        the questions that have this word
  python compare.py HEAD --settings-before '{"takeover": false, "attempts": 0}'
                                               what these features cost

A ratio above 1 is a gain where more is better, and a loss where less is (p50, CPU).
"""


def main() -> int:
    """Measure the pairs, and print a line for each question."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    asked = [question for question in QUESTIONS if options.only in question.words]
    if not asked:
        console.print(f"no question has {options.only!r} in its words")
        return 2
    try:
        with _checkout(options.revision) as other, private_redis() as redis:
            pairs = _measure(asked, other, options, redis)
    except subprocess.CalledProcessError as error:
        console.print(f"no such revision: {options.revision} ({error.stderr.decode().strip()})")
        return 2
    except ProcessFailed as error:
        console.print(f"a measurement failed: {error}")
        return 1
    console.print(_table(options.revision, asked, pairs))
    if options.json:
        options.json.write_text(
            json.dumps({question.words: pairs[question] for question in asked}, indent=1) + "\n"
        )
    return 0


@contextlib.contextmanager
def _checkout(revision: str) -> Iterator[Path]:
    """Return a folder that holds the library of a revision while the context is open."""
    if (Path(revision) / "jobqueue").is_dir():
        yield Path(revision).resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "-C", ROOT, "archive", f"{revision}:python/jobqueue", "--prefix=jobqueue/"],
            check=True,
            capture_output=True,
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


def _measure(
    asked: list[Question], other: Path, options: argparse.Namespace, redis: PrivateRedis
) -> dict[Question, list[tuple[float, float]]]:
    """Return the pairs of each question: the other revision's value, and this checkout's."""
    pairs: dict[Question, list[tuple[float, float]]] = {question: [] for question in asked}
    groups = list(dict.fromkeys(question[1:4] for question in asked))
    rounds = [(number, group) for number in range(options.pairs) for group in groups]
    for number, (measure, name, shape) in track(rounds, "measuring", transient=True):
        before, after = (
            replace(CONTENDERS[name], library=str(path), settings=settings)
            for path, settings in ((other, options.settings_before), (PYTHON, options.settings))
        )
        values = {
            one: MEASURES[measure](one, _sized(one, measure, shape, options), redis)
            for one in ((before, after) if number % 2 else (after, before))
        }
        for question in asked:
            if question[1:4] == (measure, name, shape):
                pairs[question].append(
                    (values[before][question.value], values[after][question.value])
                )
    return pairs


def _sized(one: Contender, measure: str, shape: Shape, options: argparse.Namespace) -> Shape:
    return sized(one, measure, shape, options.seconds)


def _table(
    revision: str, asked: list[Question], pairs: dict[Question, list[tuple[float, float]]]
) -> Table:
    table = Table(title=f"this checkout ÷ {revision}", title_justify="left")
    table.add_column("question")
    for heading in (revision, "this", "ratio", f"{SURE:.0%} of its median", "better"):
        table.add_column(heading, justify="right")
    for question in asked:
        before, after = zip(*pairs[question], strict=True)
        ratios = sorted(new / old for old, new in pairs[question])
        low, high = interval(ratios)
        better = sum(ratio < 1 if question.fewer_is_better else ratio > 1 for ratio in ratios)
        table.add_row(
            question.words,
            f"{median(before):,.4g}",
            f"{median(after):,.4g}",
            f"{median(ratios):.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{better} of {len(ratios)}",
        )
    return table


def interval(ordered: list[float]) -> tuple[float, float]:
    """Return a confidence interval of the median, by the sign test; for few values, their extremes."""
    count, outside, left_out = len(ordered), 0.0, -1
    while outside <= 1 - SURE and left_out < count // 2:
        left_out += 1
        outside += 2 * comb(count, left_out) / 2**count
    left_out = max(0, left_out - 1)
    return ordered[left_out], ordered[count - 1 - left_out]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("revision", help="of this repository, or a folder that has a jobqueue in it")
    add("--pairs", type=int, default=10, help="how many of each (10)")
    add("--seconds", type=float, default=0.5, help="how long a measurement aims to take (0.5)")
    add("--only", default="", metavar="WORD", help="only the questions with this in their words")
    add("--settings", default="{}", metavar="JSON", help="more arguments for this server")
    add("--settings-before", default="{}", metavar="JSON", help="more arguments for the other")
    add("--json", type=Path, metavar="PATH", help="write every pair")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
