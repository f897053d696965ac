"""Bugs of clients: subscriptions, pushes, and what their callers are told."""

from __future__ import annotations

from simulation.bugs.bug import Bug

BUGS = (
    Bug(
        "a client stays with a replica that refuses every push",
        "jobqueue.calls.calls",
        (('_UNAVAILABLE = {"READONLY", ', "_UNAVAILABLE = {"),),
    ),
    Bug(
        "a client keeps a subscription that Redis has refused",
        "jobqueue.calls.calls",
        (
            (
                "request.pushed is None and self._state is State.SUBSCRIBING",
                "request.pushed and self._state is State.SUBSCRIBING",
            ),
        ),
    ),
    Bug(
        "a client pushes behind a SUBSCRIBE that isn't confirmed",
        "jobqueue.calls.calls",
        (
            (
                "while jobs.waiting and self._state is State.OPEN",
                "while jobs.waiting and self._state in {State.OPEN, State.SUBSCRIBING}",
            ),
        ),
    ),
    Bug(
        "a lost connection settles jobs that have a timeout",
        "jobqueue.calls.unsettled",
        (("if call.message is None and call.deadline is None:", "if call.message is None:"),),
    ),
)
