"""The fault sweep of takeover: a server is hit at the boundaries of a job, and never comes back, or too late."""

import os
import signal
from itertools import count

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.registry import Registry
from jobqueue_conformance.programs.starting import BLOCK_MS, LEASES, StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import COMMAND
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec.keys import PROCESSOR, Keys
from jobqueue_conformance.spec.verdicts import require
from jobqueue_conformance.sweep.server import ServerSweep

L_S = LEASES * BLOCK_MS / 1000
BEYOND_S = 0.2  # by which a stop is longer than L


@pytest.mark.requirement(
    "server.takeover.adopts", "server.takeover.registers", "server.attempts.counts"
)
@pytest.mark.dimensions(
    occasion="restart", moment="outstanding", repetition="faults", connection=("claims", "held")
)
def test_a_server_that_never_comes_back_costs_no_job(
    server_sweep: ServerSweep, registry: Registry, redis: Redis, keys: Keys
) -> None:
    """Whichever boundary a server is killed at for good, another one does what the crash table says with its job."""
    lists = (keys.in_process(f"life-{number}") for number in count(1))
    server_sweep.start(in_process=next(lists))
    for attempt in server_sweep.attempts("server.claim.atomic"):
        job = server_sweep.push_while_idle(attempt)
        if not server_sweep.reached(attempt, job):
            continue
        server_sweep.kill(attempt)
        crash, theirs = server_sweep.held(job), server_sweep.process.in_process
        registered = registry.lapse(theirs)
        require(
            registered or not crash.in_process,
            "server.takeover.registers",
            expected="a job only on a list that is registered",
            got=f"a job in {crash.places}",
        )

        server_sweep.start(in_process=next(lists))
        server_sweep.peer.wait(
            lambda: not redis.exists(theirs),  # noqa: B023 - asked in this turn only
            "server.takeover.adopts",
            "a lapsed list that is emptied",
            patience_s=2 * L_S,
        )
        server_sweep.settle_after_crash(job, crash)
        counted = redis.get(keys.count(job.message))
        require(
            counted == (b"1" if crash.in_process else None),
            "server.attempts.counts",
            expected="one attempt of an entry that was adopted, and of no other",
            got=counted,
        )


@pytest.mark.requirement("server.takeover.lapse", "server.takeover.registers")
@pytest.mark.dimensions(
    occasion="again", moment="outstanding", connection=("claims", "publishing", "held")
)
@pytest.mark.parametrize("held", ["claim", "answer"])
@pytest.mark.waits(7)
def test_a_server_that_stood_still_until_its_name_was_forgotten_goes_on(
    server: StartServer,
    peer: Peer,
    registry: Registry,
    keys: Keys,
    proxy: Proxy,
    held: str,
) -> None:
    """A server that is stopped between its check and its claim, or before its answer, registers again and goes on.

    Its lease has ended by then, its entries are another's, and its list is forgotten.
    """
    started = server()
    first = peer.job("echo", "at first")
    claims = matches.command_naming(keys.queue)
    hold = proxy.hold(
        claims if held == "claim" else lambda each: each.kind == COMMAND and each.carries(first.id)
    )
    peer.push_job(first)
    peer.wait(lambda: hold.event, "server.run.goes-on", f"a command that carries a {held}")

    os.killpg(started.popen.pid, signal.SIGSTOP)
    theirs = registry.forget(PROCESSOR)
    behind = peer.push("echo", "behind")
    proxy.notifier.pass_time(L_S + BEYOND_S)
    os.killpg(started.popen.pid, signal.SIGCONT)
    hold.release()

    peer.result(behind, "server.takeover.lapse")
    peer.wait_gone(behind.message, requirement="server.remove.finished")
    require(
        registry.value(theirs) is not None,
        "server.takeover.registers",
        expected=f"{theirs} registered by a server that has claimed since it was forgotten",
        got="no registration",
    )
