"""Bugs of servers of several queues."""

from __future__ import annotations

from simulation.bugs.bug import Bug

BUGS = (
    Bug(
        "what is given back is the oldest entry",
        "jobqueue.protocol.commands",
        (
            (
                'keys.in_process, keys.queue, b"LEFT", b"RIGHT")',
                'keys.in_process, keys.queue, b"RIGHT", b"RIGHT")',
            ),
        ),
    ),
    Bug(
        "a queue that rests keeps its hands",
        "jobqueue.core.sharing",
        (
            (
                "        self._give_back()\n        self._active = False\n",
                "        self._active = False\n",
            ),
        ),
    ),
    Bug(
        "a queue that waits for its lease goes before the others",
        "jobqueue.core.lease",
        (("                if on_wait is not None:\n", "                if False:\n"),),
    ),
)
