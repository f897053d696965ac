"""Reports of runs that never were: as large, as red and as hostile as a test needs them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from jobqueue_conformance.programs.subjects import Subjects
from jobqueue_conformance.proxy import resp
from jobqueue_conformance.proxy.events import COMMAND, CUT, REPLY, Event
from jobqueue_conformance.proxy.exchange import exchange
from jobqueue_conformance.reports import report
from jobqueue_conformance.spec import data
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.verdicts import Record

BEGAN = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
FEATURES = frozenset(each.feature for each in data.requirements().values() if each.feature)
BROKEN = "server.remove.exact-bytes"
FAULT = "boundary 3: the reply to LREM has arrived and isn't returned; connection ended by FIN"
HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "\u202egnp.exe\u2066 \x1b[31mred\x1b[0m \x00 \ud800 " + "x" * (1 << 20)
)


def summary(
    records: list[Record],
    *,
    name: str = "sample",
    client: str | None = None,
    redis: str = "valkey 9.1.2",
) -> dict[str, Any]:
    """The report of a run in which these tests ran; a client of another name makes it a pair."""
    return report.summarise(
        records,
        Subjects(_implementation(name), _implementation(client or name)),
        redis=redis,
        origin="embedded",
        kit="1.0.0",
        began=BEGAN,
        now=BEGAN + timedelta(seconds=12),
    )


def failed(
    requirement: str = BROKEN,
    test: str = "tests/server/test_server_remove.py::test_bytes",
    said: str = "[]",
) -> Record:
    """A test that failed at a fault, with its exchange."""
    return Record(
        test,
        (requirement, "server.remove.finished"),
        "fail",
        f"{requirement}: …\n  expected: the job\n  got:      {said}",
        1.25,
        f"pytest {test} --impl=sample --boundary=3",
        requirement,
        "A job is removed by its exact bytes.",
        {
            "expected": "an empty in-process list",
            "got": said,
            "fault": FAULT,
            "settings": [{"program": "server", "variables": {"JOBQUEUE_QUEUE": said[:400]}}],
            "output": [{"program": "server", "text": f"cannot remove {said}"}],
            "exchange": exchange(list(events(said)), 120),
        },
    )


def passed(number: int, requirement: str) -> Record:
    """A test that passed."""
    return Record(
        f"tests/server/test_server_{number % 7}.py::test_number_{number}[{requirement}]",
        (requirement,),
        "pass",
        duration_s=0.01 * number,
        replay=f"pytest test_number_{number} --impl=sample",
        about_test=f"The test with the number {number} shows what its requirement says, in a sentence of some length.",
    )


def large(tests: int, failures: int) -> dict[str, Any]:
    """A run of so many tests, of which so many failed, each with a long exchange."""
    ids = cycle(data.requirements())
    broken = [
        failed(each, f"tests/server/test_broken.py::test_{number}", "x" * 300)
        for number, each in enumerate(islice(ids, failures))
    ]
    return summary(
        broken + [passed(n, each) for n, each in enumerate(islice(ids, tests - failures))]
    )


def events(said: str, exchanges: int = 30) -> Iterator[Event]:
    """Commands and their replies, of which the last is lost."""
    number = 0
    for number in range(exchanges):
        command = Event(
            10 + number / 100,
            "server",
            1,
            COMMAND,
            resp.command("LREM", "list", "-1", _sendable(said)),
        )
        yield command
        reply = Event(10.004 + number / 100, "server", 1, REPLY, b":1\r\n", command)
        reply.fate = "lost" if number == exchanges - 1 else ""
        yield reply
    yield Event(10.006 + number / 100, "server", 1, CUT, b"FIN")


def _sendable(said: str) -> bytes:
    return said.encode("utf-8", "surrogatepass")


def _implementation(name: str) -> Implementation:
    return Implementation(
        name=name,
        path=Path(name) / "impl.toml",
        server=("./server",),
        client=("./client",),
        features=FEATURES,
    )
