"""How many handlers run at once, and what one at a time means for the order.

The upper bound is shown by a time that can't be undercut, the lower one by who answers first: a slow machine changes
no verdict.
"""

import time

import pytest

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.server import ServerProcess
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec.verdicts import require

SHORT_MS = 250
LONG_MS = 4000
ROUNDING_MS = 20  # timers fire early by a tick


@pytest.mark.requirement("server.concurrency.parallel")
@pytest.mark.dimensions(
    size="8",
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "cut"),
    settings=("several handlers", "40 handlers"),
    repetition="faults",
)
@pytest.mark.parametrize("concurrency, losses", [(2, 0), (3, 0), (3, 2), (40, 0)])
def test_as_many_handlers_run_as_configured(
    server: StartServer, peer: Peer, proxy: Proxy, concurrency: int, losses: int
) -> None:
    """A quick job overtakes as many slow ones as leave one place free, also after lost connections."""
    started = server(concurrency=concurrency)
    lose(started, proxy, losses)

    slow = [peer.push("wait", {"ms": LONG_MS, "n": n}) for n in range(concurrency - 1)]
    quick = peer.push("wait", {"ms": 0})
    peer.wait(
        lambda: any(peer.results(job) for job in (quick, *slow)),
        "server.concurrency.parallel",
        "a result",
        slow[0],
    )
    overtaken = [job for job in slow if not peer.results(job)]

    require(
        overtaken == slow,
        "server.concurrency.parallel",
        expected=f"the quick job's result while {concurrency - 1} slow handlers run",
        got=f"{len(slow) - len(overtaken)} slow jobs answered before it",
    )


@pytest.mark.requirement("server.concurrency.limit")
@pytest.mark.dimensions(
    size="8",
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "cut"),
    settings=("several handlers", "40 handlers"),
    repetition="faults",
)
@pytest.mark.parametrize("concurrency, losses", [(1, 0), (3, 0), (40, 0), (1, 2), (3, 2)])
def test_no_handler_starts_beyond_the_limit(
    server: StartServer, peer: Peer, proxy: Proxy, concurrency: int, losses: int
) -> None:
    """A quick job behind as many slow ones as may run is answered after one of them, also after lost connections."""
    started = server(concurrency=concurrency)
    lose(started, proxy, losses)

    pushed_s = time.monotonic()
    slow = [peer.push("wait", {"ms": SHORT_MS, "n": n}) for n in range(concurrency)]
    quick = peer.push("echo", "quick")
    peer.wait(lambda: peer.results(quick), "server.publish.once", "a result", slow[0])
    elapsed_ms = (time.monotonic() - pushed_s) * 1000

    require(
        elapsed_ms >= SHORT_MS - ROUNDING_MS,
        "server.concurrency.limit",
        expected=f"no result within the {SHORT_MS} ms that all {concurrency} handlers are busy",
        got=f"one after {elapsed_ms:.0f} ms",
    )


@pytest.mark.requirement("server.concurrency.limit", "server.recovery.first")
@pytest.mark.dimensions(occasion="recovery")
def test_recovered_jobs_count_towards_the_limit(server: StartServer, peer: Peer) -> None:
    """Where one handler may run, a quick entry of the list is answered after the slow one that is older."""
    slow, quick = peer.job("wait", {"ms": SHORT_MS}), peer.job("echo", "quick")
    peer.place(slow, quick)

    server(concurrency=1)
    peer.wait(lambda: peer.results(quick), "server.recovery.first", "a result", slow)

    require(
        peer.results(slow),
        "server.concurrency.limit",
        expected="the slow job's result before the quick one's",
        got="the quick one's first",
    )


def lose(started: ServerProcess, proxy: Proxy, losses: int) -> None:
    """Lose the server's connections so many times, each time once it claims."""
    for _ in range(losses):
        started.wait_idle()
        proxy.drop("server")
    started.wait_idle()
