"""A stop and a lost connection together, in both orders: no exit with the status 0 while a job is left behind."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.server import ServerProcess
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import OPENED
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Hung
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import fail, require

LONG_T_MS = 3000
TRIES = 3


@pytest.mark.requirement("server.stop.drains", "server.stop.exit", "server.recovery.reconnect")
@pytest.mark.dimensions(
    occasion=("stop", "reconnect"), moment="outstanding", connection=("claims", "cut")
)
@pytest.mark.parametrize("first", ["stop", "loss"])
def test_a_claim_lost_at_a_stop_is_recovered(
    server: StartServer, peer: Peer, redis: Redis, proxy: Proxy, first: str
) -> None:
    """A job whose claim's reply is lost, right before SIGTERM or right after it, is answered before the exit."""
    started = server()
    started.wait_idle()
    job = peer.job("echo", "claimed")
    hold = proxy.hold(matches.reply(job))
    peer.push_job(job)
    hold.wait()

    if first == "stop":
        terminate(started)
        hold.drop()
    else:
        proxy.stop_accepting()  # it can't be back before the signal comes
        hold.drop()
        terminate(started)
        proxy.accept_again()

    require_drained(peer, redis, started, [job], proxy.notifier.deadline_s)


@pytest.mark.requirement("server.stop.drains", "server.stop.exit", "server.recovery.second-look")
@pytest.mark.dimensions(
    occasion=("stop", "reconnect"),
    moment=("after T", "outstanding"),
    connection=("all", "half-open"),
    repetition="faults",
)
@pytest.mark.parametrize("first", ["stop", "loss", "losses"])
@pytest.mark.waits(3)
def test_a_lost_claim_can_take_no_job_after_the_exit(
    server: StartServer, peer: Peer, redis: Redis, proxy: Proxy, first: str
) -> None:
    """A stop waits until a lost claim, which Redis still serves, can't move a job to the list any more."""
    started = server(block_ms=LONG_T_MS)
    peer.wait_settled(peer.push("echo", "before"))
    started.wait_idle()
    if first == "stop":
        terminate(started)
        proxy.drop("server", half_open=True)
    else:
        lose(started, proxy, again=first == "losses")
        terminate(started)

    # A server that doesn't block, or has unblocked its claim, leaves none behind: then the job stays in the queue.
    job = peer.push("echo", "taken by a ghost")
    proxy.notifier.wait(lambda: not proxy.has_half_open_claim("server"), "the lost claim to end")
    proxy.hang_up("server")

    # Its claim may block for T, and its second look come T later.
    deadline_s = proxy.notifier.deadline_s + 2 * LONG_T_MS / 1000
    require_drained(peer, redis, started, [job], deadline_s)


@pytest.mark.requirement("server.stop.drains", "server.stop.exit", "server.recovery.reconnect")
@pytest.mark.dimensions(
    occasion=("stop", "reconnect", "recovery"),
    moment="outstanding",
    connection=("all", "half-open"),
    repetition="faults",
)
@pytest.mark.waits(3)
def test_a_stop_while_lost_claims_are_recovered_leaves_none(
    server: StartServer, peer: Peer, redis: Redis, proxy: Proxy
) -> None:
    """Both jobs that lost claims took are answered before the exit, if SIGTERM comes when the first is recovered."""
    started = server(block_ms=LONG_T_MS)
    peer.wait_settled(peer.push("echo", "before"))
    lose(started, proxy)
    started.wait_idle()
    proxy.stop_accepting("server")
    proxy.drop("server", half_open=True)

    jobs = [peer.job("echo", n) for n in range(2)]
    hold = proxy.hold(matches.command(*jobs))
    peer.push_job(*jobs)
    proxy.hang_up("server")
    proxy.accept_again("server")
    peer.wait(lambda: hold.event, "server.recovery.reconnect", "an answer to either job", jobs[0])
    terminate(started)
    hold.release()

    deadline_s = proxy.notifier.deadline_s + 2 * LONG_T_MS / 1000
    require_drained(peer, redis, started, jobs, deadline_s)


def lose(started: ServerProcess, proxy: Proxy, *, again: bool = False) -> None:
    """Have the server come back while Redis still serves its lost claim; a slow machine can take more tries.

    Where it is to lose its connections again, the next one ends as soon as it is made.
    """
    for _ in range(TRIES):
        seen = len(proxy.events)
        proxy.hang_up_at_once("server", over=not again)
        proxy.drop("server", half_open=True)
        proxy.notifier.wait(
            lambda since=seen: any(each.kind == OPENED for each in proxy.events[since:]),  # type: ignore[misc] # a default's type
            "a connect after a loss",
        )
        proxy.hang_up_at_once("server", over=True)
        started.wait_idle()
        if proxy.has_half_open_claim("server"):
            break


def terminate(started: ServerProcess) -> None:
    """Send SIGTERM, and let the server act on it."""
    started.terminate()
    started.wait_signal_delivered()


def require_drained(
    peer: Peer, redis: Redis, started: ServerProcess, jobs: list[Job], deadline_s: float
) -> None:
    """The server exits with 0, and each job is answered and removed, or waits in the queue."""
    try:
        status = started.wait_exit(deadline_s)
    except Hung as hung:
        fail("server.stop.exit", expected="an exit after SIGTERM", got=str(hung))
    listed = redis.lrange(started.in_process, 0, -1)
    lost = [job for job in jobs if not peer.results(job) and job.message not in peer.waiting()]
    require(
        not lost and not listed,
        "server.stop.drains",
        expected="each claimed job answered and removed, or returned to the queue",
        got=f"{len(lost)} neither answered nor in the queue, {listed} on the in-process list, "
        f"and {started.explain_exit()}",
    )
    require(status == 0, "server.stop.exit", expected="the status 0", got=started.explain_exit())
