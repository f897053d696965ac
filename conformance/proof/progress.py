"""One run of the proof: what was asked for, how far it has come, and what has been found wrong."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from proof import session
from proof.session import ROOT, Order, Session

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

BUILD = ROOT / "build" / "proof"
SHOWN = 20


@dataclass
class Proof:
    """What the command line asks for, and what has been found so far."""

    options: argparse.Namespace
    redis: str
    started: float = field(default_factory=time.monotonic)
    found: dict[str, list[str]] = field(default_factory=dict)

    def wants(self, part: str) -> bool:
        """Whether this part is asked for, as a whole or for one of its members."""
        return not self.options.only or part in self.options.only

    def chooses(self, part: str, label: str) -> bool:
        """Whether this member of a part is asked for."""
        return self.wants(part) or any(fnmatchcase(label, each) for each in self.options.only)

    def say(self, text: str) -> None:
        """Show progress: on the standard output, unless that carries JSON."""
        stream = sys.stderr if self.options.json else sys.stdout
        print(f"[{time.monotonic() - self.started:4.0f} s] {text}", file=stream, flush=True)

    def report(self, part: str, label: str, complaints: list[str]) -> None:
        """Note what is wrong with one member, or that nothing is."""
        self.found.setdefault(part, [])
        for complaint in complaints:
            self.found[part].append(f"{label}: {complaint}")
        for complaint in complaints[:SHOWN]:
            self.say(f"FAIL {label}: {complaint}")

    def order(
        self, label: str, manifest: str, tests: tuple[str, ...], limit_s: float = 120.0
    ) -> Order:
        """A run against a program whose manifest is written now."""
        folder = BUILD / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "impl.toml").write_text(manifest, encoding="utf-8")
        return Order(label, folder / "impl.toml", tests, (f"--redis={self.redis}",), limit_s)

    def run(
        self, part: str, orders: Sequence[Order], processes: int | None = None
    ) -> Iterator[tuple[Order, Session]]:
        """Make the runs, `--jobs` or this many at a time, with a line for every tenth of them."""
        for number, ended in enumerate(session.run(orders, processes or self.options.jobs), 1):
            yield ended
            if number * 10 // len(orders) > (number - 1) * 10 // len(orders):
                self.say(f"{part}: {number} of {len(orders)} runs")

    def conclude(self) -> int:
        """Print again what is wrong, and give the exit status."""
        wrong = sum(len(complaints) for complaints in self.found.values())
        took_s = time.monotonic() - self.started
        if self.options.json:
            json.dump({"parts": self.found, "took_s": round(took_s, 1)}, sys.stdout, indent=2)
        for part, complaints in self.found.items():
            self.say(f"{part}: {f'{len(complaints)} wrong' if complaints else 'all right'}")
            for complaint in complaints[:SHOWN]:
                self.say(f"  {complaint}")
            if complaints[SHOWN:]:
                self.say(f"  and {len(complaints) - SHOWN} more")
        return 1 if wrong or not self.found else 0
