"""Bugs in how often a job is started that may have ended a server."""

from __future__ import annotations

from simulation.bugs.bug import Bug

BUGS = (
    Bug(
        "a job is given up one start too late",
        "jobqueue.core.attempts",
        (("        if count <= self._limit:", "        if count <= self._limit + 1:"),),
    ),
    Bug(
        "a job is given up one start too early",
        "jobqueue.core.attempts",
        (("        if count <= self._limit:", "        if count < self._limit:"),),
    ),
    Bug(
        "an adopted job isn't counted",
        "jobqueue.core.attempts",
        (
            (
                "        self._unstarted[message] += 1\n        return Suspect(message)",
                "        return message",
            ),
        ),
    ),
    Bug(
        "what every look finds is counted",
        "jobqueue.core.attempts",
        (("if (adopted or not self._looked) and self._limit:", "if self._limit:"),),
    ),
)
