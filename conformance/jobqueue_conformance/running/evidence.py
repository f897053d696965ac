"""What a failed test shows: what passed, where the fault struck, what the programs wrote.

For the terminal as sections of text, for `report.json` as plain data. Passwords that the test or the command line
used are hidden by its `redactor`.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.process import Process
from jobqueue_conformance.programs.subjects import WANTED_REDIS
from jobqueue_conformance.proxy import transcript
from jobqueue_conformance.proxy.events import Event
from jobqueue_conformance.proxy.exchange import exchange
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec import redaction
from jobqueue_conformance.spec.verdicts import Unmet
from jobqueue_conformance.sweep.attempt import Sweep

SHOWN = 60  # events in the terminal …
DRAWN = 120  # … and in the diagram
LONGEST_TRACEBACK = 8000  # characters


def about(item: pytest.Item) -> str:
    """What the test says of itself."""
    return inspect.cleandoc(getattr(getattr(item, "function", None), "__doc__", None) or "")


def redactor(item: pytest.Item) -> Callable[[Any], Any]:
    """Hides the passwords of the command line and of the programs of this test."""
    urls = [item.config.stash[WANTED_REDIS], *(each.redis_url for each in _processes(item))]
    return partial(redaction.redacted, secrets=redaction.passwords(urls))


def of(item: pytest.Item, error: BaseException | None, report: pytest.TestReport) -> dict[str, Any]:
    """What the report shows of a failure."""
    shown: dict[str, Any] = {}
    if isinstance(error, Unmet):
        shown |= {"expected": error.expected, "got": error.got}
    else:
        shown["traceback"] = report.longreprtext[-LONGEST_TRACEBACK:]
    if fault := _fault(item):
        shown["fault"] = fault
    shown["settings"] = [
        {"program": each.name, "variables": each.settings} for each in _processes(item)
    ]
    shown["output"] = [{"program": name, "text": text} for name, text in _output(item)]
    if events := _events(item):
        shown["exchange"] = exchange(events, DRAWN)
    return shown


def sections(item: pytest.Item) -> Iterator[tuple[str, str]]:
    """The transcript, the fault, and what the processes wrote."""
    if isinstance(_given(item).get("proxy"), Proxy):
        passed = transcript.lines(_events(item))
        cut = [f"… {len(passed) - SHOWN} earlier lines"] if len(passed) > SHOWN else []
        yield "transcript", "\n".join(cut + passed[-SHOWN:])
    if fault := _fault(item):
        yield "fault sweep", fault
    for name, text in _output(item):
        yield f"output of the {name}", text


def _given(item: pytest.Item) -> dict[str, Any]:
    given: dict[str, Any] = getattr(item, "funcargs", {})
    return given


def _events(item: pytest.Item) -> list[Event]:
    """What passed the proxy, and what the kit itself asked and heard, in the order of time."""
    proxy, peer = _given(item).get("proxy"), _given(item).get("peer")
    events = [*proxy.events] if isinstance(proxy, Proxy) else []
    if isinstance(peer, Peer):
        events += peer.events
    return sorted(events, key=lambda event: event.at_s)


def _fault(item: pytest.Item) -> str:
    sweep = _given(item).get("server_sweep") or _given(item).get("client_sweep")
    current = sweep.current if isinstance(sweep, Sweep) else None
    return str(current) if current is not None and current.held else ""


def _processes(item: pytest.Item) -> list[Process]:
    peer = _given(item).get("peer")
    return [*peer.servers, *peer.clients] if isinstance(peer, Peer) else []


def _output(item: pytest.Item) -> Iterator[tuple[str, str]]:
    for process in _processes(item):
        if written := process.stdout + process.stderr:
            yield process.name, written
