"""How long a message takes to be read: by the standard library, and with msgspec, in one go.

`python decoding.py` needs msgspec and the reference; a job is read once by its server, a result
once by its client.
"""

from __future__ import annotations

import timeit
from functools import partial
from typing import TYPE_CHECKING

from jobqueue.protocol import messages
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 0.2  # of one repetition
REPEATS = 9
PARAMETERS = {
    "a short string": "a trivial job",
    "an object of 50 members": {f"key {n}": n * 1.5 if n % 2 else f"value {n}" for n in range(50)},
    "an object of 4,000 members": {
        f"key {n}": n * 1.5 if n % 2 else f"value {n}" for n in range(4_000)
    },
    "a string of 1 MB": "x" * 1_000_000,
}


def main() -> None:
    """Measure both, and print the least of each, which is the least disturbed."""
    with_msgspec = messages.fastest_parser()
    if with_msgspec is messages.parse_by_json:
        raise SystemExit("decoding.py compares with msgspec, which isn't installed")
    table = Table("parameters", "bytes", "json µs", "msgspec µs", "json ÷ msgspec")
    for name, parameters in PARAMETERS.items():
        job = messages.encode_job("echo", parameters, "job-queue:results:a-client", "1")
        by_json = _microseconds(partial(messages.parse_by_json, job))
        by_msgspec = _microseconds(partial(with_msgspec, job))
        cells = (
            f"{len(job):,}",
            f"{by_json:,.2f}",
            f"{by_msgspec:,.2f}",
            f"{by_json / by_msgspec:.1f}",
        )
        table.add_row(name, *cells)
    Console().print(table)


def _microseconds(work: Callable[[], object]) -> float:
    timer = timeit.Timer(work)
    count, seconds = timer.autorange()
    count = max(1, int(count * SECONDS / seconds))
    return min(timer.repeat(REPEATS, count)) / count * 1e6


if __name__ == "__main__":
    main()
