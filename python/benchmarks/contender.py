"""Who is measured: the limits, the reference and its peers, and how each is started.

A contender's code runs in an interpreter of its own (`contenders/`), so that no two share packages.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE / ".contenders"
PYTHON, NODE = HERE / "contenders", HERE / "contenders" / "node" / "contender.js"

Kind = Literal["limit", "reference", "peer"]


@dataclass(frozen=True, slots=True)
class Contender:
    """One program under measurement.

    Attributes:
        name: Its module in `contenders/entries`, or its name in `contender.js`.
        kind: A limit isn't a usable queue; it shows what is possible.
        jobs_per_s: Roughly, so that a measurement takes about as long for each.
        requirements: The packages of its environment; empty where it runs in this one.
        concurrent: It runs several handlers at once within one process.
        asynchronous: It runs on an event loop of Python.
        prefetches: It can claim many jobs at once.
        mute: It can do without results, and has less to do then.
        batches: It can queue many jobs at once.
        calls: It can hand a result back to the caller.
        node: It runs in Node.js.
        quick: It takes part in `--quick`: the reference, its limits and its fastest peers.
        library: A folder whose `jobqueue` it imports, where it isn't the installed one.
        settings: Arguments for the reference's server, as a JSON object.
    """

    name: str
    kind: Kind
    jobs_per_s: int
    requirements: tuple[str, ...] = ()
    concurrent: bool = False
    asynchronous: bool = False
    prefetches: bool = False
    mute: bool = False
    batches: bool = False
    calls: bool = True
    node: bool = False
    quick: bool = False
    library: str = ""
    settings: str = "{}"

    @property
    def python(self) -> Path:
        """The interpreter that has its packages."""
        if not self.requirements:
            return Path(sys.executable)
        return ENVIRONMENTS / self.name / "bin" / "python"

    def command(self, role: str, *options: str) -> list[str]:
        """The command that runs it in a role."""
        program = ["node", str(NODE)] if self.node else [str(self.python), str(PYTHON)]
        if self.library:
            environment = f"PYTHONPATH={self.library}", f"JOBQUEUE_SETTINGS={self.settings}"
            program = ["env", *environment, *program]
        return [*program, self.name, role, *options]


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("raw", "limit", 16_000, prefetches=True, batches=True, quick=True),
        Contender("raw_script", "limit", 15_000, prefetches=True, calls=False),
        Contender("raw_unsafe", "limit", 18_000, prefetches=True, calls=False),
        Contender(
            "jobqueue",
            "reference",
            12_000,
            concurrent=True,
            prefetches=True,
            batches=True,
            quick=True,
        ),
        Contender(
            "jobqueue_aio",
            "reference",
            8_000,
            concurrent=True,
            asynchronous=True,
            prefetches=True,
            batches=True,
            quick=True,
        ),
        Contender("jobqueue_asleep", "reference", 10_000, prefetches=True, quick=True),
        Contender("rq", "peer", 300, ("rq==3.0.0", "hiredis"), mute=True, batches=True),
        Contender(
            "arq",
            "peer",
            1_000,
            ("arq==0.28.0", "hiredis", "uvloop"),
            concurrent=True,
            asynchronous=True,
            mute=True,
        ),
        Contender(
            "saq",
            "peer",
            1_200,
            ("saq[redis,hiredis]==0.26.4", "typing_extensions", "uvloop"),
            concurrent=True,
            asynchronous=True,
            mute=True,
            quick=True,
        ),
        Contender(
            "dramatiq",
            "peer",
            2_000,
            ("dramatiq[redis]==2.2.1", "hiredis"),
            concurrent=True,
            prefetches=True,
            mute=True,
            quick=True,
        ),
        Contender(
            "celery",
            "peer",
            700,
            ("celery[redis]==5.7.0", "hiredis"),
            concurrent=True,
            prefetches=True,
            mute=True,
        ),
        Contender(
            "huey",
            "peer",
            2_000,
            ("huey==3.5.4", "redis[hiredis]"),
            concurrent=True,
            mute=True,
            quick=True,
        ),
        Contender(
            "taskiq",
            "peer",
            2_000,
            ("taskiq==0.13.0", "taskiq-redis==1.2.4", "hiredis", "uvloop"),
            concurrent=True,
            asynchronous=True,
            mute=True,
        ),
        Contender(
            "streaq",
            "peer",
            700,
            ("streaq==7.2.0", "uvloop"),
            concurrent=True,
            asynchronous=True,
            batches=True,
        ),
        Contender(
            "bullmq",
            "peer",
            800,
            ("bullmq==3.4.4", "hiredis", "uvloop"),
            concurrent=True,
            asynchronous=True,
            batches=True,
            calls=False,
        ),
        Contender(
            "bee_queue",
            "peer",
            3_000,
            concurrent=True,
            mute=True,
            batches=True,
            node=True,
            quick=True,
        ),
        Contender("bullmq_node", "peer", 3_000, concurrent=True, batches=True, node=True),
    )
}
