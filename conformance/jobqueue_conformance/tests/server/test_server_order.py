"""Order where it is easily lost: among jobs of one command, jobs far apart, behind recovered ones, after a loss."""

import pytest

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import require

APART_S = 0.03
SOME = 6


@pytest.mark.requirement("server.claim.order")
@pytest.mark.dimensions(
    occasion=("again", "reconnect"), moment="outstanding", connection=("all", "cut")
)
@pytest.mark.parametrize("how", ["in-one-command", "one-by-one", "apart"])
@pytest.mark.parametrize("occasion", ["first", "second", "after-a-loss"])
def test_jobs_that_wait_are_answered_in_order(
    server: StartServer, peer: Peer, proxy: Proxy, how: str, occasion: str
) -> None:
    """What is pushed while a server is busy is answered in the order of the pushes, however far apart these were."""
    started = server()
    for n in range(2 if occasion == "second" else 1):
        peer.wait_settled(*(peer.push("echo", f"before {n}.{each}") for each in range(2)))
    if occasion == "after-a-loss":
        started.wait_idle()
        proxy.drop("server")
    busy = peer.job("echo", "busy")
    hold = proxy.hold(matches.command(busy))
    peer.push_job(busy)
    hold.wait()

    jobs = [peer.job("echo", n) for n in range(SOME)]
    if how == "in-one-command":
        peer.push_job(*jobs)
    else:
        for job in jobs:
            peer.push_job(job)
            if how == "apart":
                proxy.notifier.pass_time(APART_S)
    hold.release()

    peer.wait_settled(busy, *jobs)
    require_order(peer, [busy, *jobs], "server.claim.order")


@pytest.mark.requirement("server.claim.order", "server.recovery.first")
@pytest.mark.dimensions(occasion="recovery")
def test_jobs_behind_recovered_ones_are_answered_in_order(server: StartServer, peer: Peer) -> None:
    """A server that finds an entry on its list answers that one, and then the queue in the order of the pushes."""
    listed = [peer.job("echo", "listed")]
    peer.place(*listed)
    queued = [peer.push("echo", n) for n in range(SOME)]

    server()

    peer.wait_settled(*listed, *queued)
    require_order(peer, listed + queued, "server.claim.order")


def require_order(peer: Peer, jobs: list[Job], requirement: str) -> None:
    """The results were published in the order of the jobs."""
    ids = {job.id: job.parameters for job in jobs}
    heard = [message.data.decode() for message in peer.messages()]
    got = [value for data in heard for each, value in ids.items() if each in data]
    require(got == list(ids.values()), requirement, expected=f"{list(ids.values())}", got=got)
