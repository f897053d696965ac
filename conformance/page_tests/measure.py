"""Measures what the page of a run costs: its size, and how soon it is painted.

python conformance/page_tests/measure.py                 200 tests with 20 failures, opened 5 times
python conformance/page_tests/measure.py --report DIR    the page of a real run
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

CONFORMANCE = Path(__file__).parents[1]
sys.path[:0] = [str(CONFORMANCE), str(CONFORMANCE.parent / "python")]

from jobqueue_conformance.reports import files

from page_tests import samples
from page_tests.browser import PHONE, WIDE, launched, visited

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAINT = """new Promise(resolve => new PerformanceObserver((seen, observer) => {
  const [paint] = seen.getEntriesByName('first-contentful-paint');
  if (paint) { observer.disconnect(); resolve(paint.startTime); }
}).observe({type: 'paint', buffered: true}))"""


def main() -> None:
    """Print one line for each window."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=Path)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.report is None:
            files.write(Path(folder), samples.large(200, 20))
        page = (options.report or Path(folder)).resolve() / files.PAGE
        print(f"size: {page.stat().st_size / (1 << 20):.2f} MiB")
        with launched() as browser:
            painted(browser, page, WIDE)  # the browser's own first steps
            for size in (WIDE, PHONE):
                times = [painted(browser, page, size) for _ in range(options.times)]
                shown = ", ".join(f"{each:.0f}" for each in times)
                print(
                    f"first contentful paint at {size[0]} x {size[1]}:"
                    f" median {statistics.median(times):.0f} ms of {shown}"
                )


def painted(browser: Browser, page: Path, size: tuple[int, int]) -> float:
    """When the page was painted first, in milliseconds since it was asked for."""
    with visited(browser, page, size=size) as visit:
        return float(visit.page.evaluate(PAINT))


if __name__ == "__main__":
    main()
