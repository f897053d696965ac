"""How long the suite waits for programs that are known to hang, or to do nothing.

Both change the process that calls them, and what it starts by fork; a process calls one of them, once.
"""

from __future__ import annotations

import sys
from functools import partial

from jobqueue_conformance.peer import peer
from jobqueue_conformance.proxy import waiting
from jobqueue_conformance.running import fixtures
from jobqueue_conformance.sweep import server
from jobqueue_conformance.tests.server import test_server_stories

# What the suite's modules call the times that a correct program doesn't come near.
BOUNDS = {"GUARD_MS", "AMPLE_MS", "AFTER_A_LOSS_S", "AGAIN_S", "SHRINKING_S"}


def shorten_waits(factor: float = 0.4) -> None:
    """Shorten the deadlines: mutants hang, and their base must pass within these times, too."""
    vars(waiting)["contention"] = lambda: (
        1.0
    )  # many run at a time, which must not make a wait longer
    vars(fixtures)["Pace"] = partial(fixtures.Pace, deadline_s=fixtures.Pace().deadline_s * factor)
    for name, module in list(sys.modules.items()):
        if name.startswith("jobqueue_conformance."):
            for bound in BOUNDS.intersection(vars(module)):
                whole = getattr(module, bound)
                setattr(module, bound, type(whole)(whole * factor))


def barely_wait() -> None:
    """Wait as little as possible, for programs that can produce nothing."""
    shorten_waits(0.1)
    for module, bound in (
        (peer, "MOMENT_S"),
        (server, "LONGEST_BLOCK_S"),
        (test_server_stories, "LONGEST_LOOK_S"),
    ):
        vars(module)[bound] = 0.5
