"""How long the suite waits for programs of which it is known that they hang, or that nothing comes.

Both change the process that calls them, and what it starts by fork; a process calls one of them, once.
"""

from __future__ import annotations

import sys
from functools import partial

from jobqueue_conformance import peer, pytest_fixtures, server_sweep
from jobqueue_conformance.tests import test_server_stories

# What the suite's modules call the times that a right program doesn't come near.
BOUNDS = {"GUARD_MS", "AMPLE_MS", "AFTER_A_LOSS_S", "AGAIN_S", "SHRINKING_S"}


def hurry(factor: float = 0.4) -> None:
    """Let hangs last less long: mutants hang, and their base has to pass in this time, too."""
    vars(pytest_fixtures)["Pace"] = partial(
        pytest_fixtures.Pace, deadline_s=pytest_fixtures.Pace().deadline_s * factor
    )
    for name, module in list(sys.modules.items()):
        if name.startswith("jobqueue_conformance."):
            for bound in BOUNDS.intersection(vars(module)):
                whole = getattr(module, bound)
                setattr(module, bound, type(whole)(whole * factor))


def despair() -> None:
    """Hardly wait at all, where nothing can come."""
    hurry(0.1)
    for module, bound in (
        (peer, "MOMENT_S"),
        (server_sweep, "LONGEST_BLOCK_S"),
        (test_server_stories, "LONGEST_LOOK_S"),
    ):
        vars(module)[bound] = 0.5
