"""What passed between the parties of a test, as the steps of a sequence diagram.

Pure: events in, plain data out, in the form of `schemas/report.schema.json`.
"""

from collections.abc import Sequence
from typing import Any

from jobqueue_conformance.proxy import transcript
from jobqueue_conformance.proxy.events import (
    ASKED,
    CLOSED,
    COMMAND,
    CUT,
    HEARD,
    KIT,
    MESSAGE,
    OPENED,
    REPLY,
    STDIN,
    STDOUT,
    Event,
)

PROXY, REDIS = "proxy", "Redis"
LOST = {"held", "lost"}  # it came no further than to the proxy


def exchange(events: Sequence[Event], shown: int) -> dict[str, Any]:
    """The parties, from left to right, and the last steps between them.

    Args:
        events: all that happened, in the order of time.
        shown: how many steps at most.
    """
    start_s = events[0].at_s if events else 0.0
    programs = dict.fromkeys(each.who for each in events if each.who != KIT)
    return {
        "parties": [*programs, PROXY, REDIS, KIT],
        "left_out": max(len(events) - shown, 0),
        "steps": [_step(each, start_s) for each in events[-shown:]],
    }


def _step(event: Event, start_s: float) -> dict[str, Any]:
    begins, ends = _way(event)
    step: dict[str, Any] = {
        "at_ms": round((event.at_s - start_s) * 1000, 1),
        "kind": event.kind,
        "from": begins,
        "to": ends,
        "text": transcript.text(event),
    }
    if event.connection:
        step["connection"] = event.connection
    if event.fate:
        step["fate"] = event.fate
    return step


def _way(event: Event) -> tuple[str, str]:
    """Where it came from, and how far it came."""
    stopped = event.fate in LOST
    ways = {
        COMMAND: (event.who, PROXY if stopped else REDIS),
        REPLY: (REDIS, PROXY if stopped else event.who),
        MESSAGE: (REDIS, PROXY if stopped else event.who),
        STDIN: (KIT, event.who),
        STDOUT: (event.who, KIT),
        ASKED: (KIT, REDIS),
        HEARD: (REDIS, KIT),
        OPENED: (event.who, PROXY),
        CLOSED: (PROXY, PROXY),
        CUT: (PROXY, event.who),
    }
    return ways[event.kind]
