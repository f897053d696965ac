"""What a server leaves behind at its stop: the feature `takeover`."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.registry import FOREIGN, GONE, Registry
from jobqueue_conformance.programs.starting import BLOCK_MS, LEASES, StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.proxy import Hold, Proxy
from jobqueue_conformance.spec.keys import PROCESSOR, Keys
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import require

L_S = LEASES * BLOCK_MS / 1000
MOMENT_S = 0.3  # in which a lease that is released too early is gone, long before a held command counts as lost


@pytest.mark.requirement("server.takeover.stops", "server.takeover.renews")
@pytest.mark.dimensions(occasion="stop", moment="outstanding", handler="late")
@pytest.mark.waits(5)
def test_nothing_is_adopted_after_a_stop(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry, proxy: Proxy
) -> None:
    """Entries of a lapsed list stay there, although they come due before the stopped server has ended.

    While its last handler runs, for longer than L, it renews its lease.
    """
    started = server()
    running = peer.push("wait", {"ms": round(1.5 * L_S * 1000)})
    peer.wait(
        lambda: running.message in redis.lrange(started.in_process, 0, -1),
        "server.run.goes-on",
        "a claim",
        running,
    )

    started.terminate()
    started.wait_signal_delivered()
    job = peer.job("echo", "due")
    theirs = registry.lapsed(GONE, job)
    token = registry.holder(PROCESSOR)

    def ended() -> str | None:
        """How it ends. The lease comes first, for it is given back when the entry has left the list."""
        held = registry.holder(PROCESSOR) == token
        if not held and running.message in redis.lrange(started.in_process, 0, -1):
            return "without its lease"
        return None if started.running else "by its exit"

    how = proxy.notifier.wait(ended, "the server to exit", proxy.notifier.deadline_s + 1.5 * L_S)

    require(
        token is not None and how == "by its exit",
        "server.takeover.renews",
        expected="its lease until its last job has left its list",
        got=f"{registry.holder(PROCESSOR)!r} in place of {token!r}",
    )
    started.wait_exit()
    left = redis.lrange(theirs, 0, -1)
    require(left == [job.message], "server.takeover.stops", expected="the entry", got=left)


@pytest.mark.requirement("server.stop.drains", "server.takeover.stops", "server.stop.exit")
@pytest.mark.dimensions(
    occasion="stop", moment="outstanding", connection=("claims", "publishing", "held")
)
def test_what_an_adoption_under_way_moves_is_finished(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry, proxy: Proxy
) -> None:
    """An entry that was adopted, and whose reply comes after SIGTERM, is answered and removed; the next one stays."""
    jobs = [peer.job("echo", number) for number in range(2)]
    theirs = registry.lapsed(GONE, *jobs)
    hold = proxy.hold(matches.reply(jobs[0]))
    started = server()
    hold = hold_adoption(redis, proxy, hold, theirs, jobs[0], left=1)

    started.terminate()
    started.wait_signal_delivered()
    hold.release()
    status = started.wait_exit()

    left, listed = redis.lrange(theirs, 0, -1), redis.lrange(started.in_process, 0, -1)
    require(
        len(peer.results(jobs[0])) == 1 and not listed,
        "server.stop.drains",
        expected="the adopted entry answered and removed",
        got=f"{peer.results(jobs[0])}, and {listed} on the list",
    )
    require(
        left == [jobs[1].message],
        "server.takeover.stops",
        expected="the other entry where it was",
        got=left,
    )
    require(status == 0, "server.stop.exit", expected="status 0", got=started.explain_exit())


@pytest.mark.requirement("server.stop.exit", "server.takeover.waits")
@pytest.mark.dimensions(occasion="stop", moment="outstanding", answer="another type")
def test_a_server_that_waits_for_a_lease_can_be_stopped(
    server: StartServer, registry: Registry, keys: Keys, proxy: Proxy
) -> None:
    """A server that is stopped while another life has the lease exits with 0, and leaves the lease alone."""
    registry.lease(PROCESSOR)
    lease = keys.lease(keys.in_process(PROCESSOR))
    started = server(wait=False, keep_lease=True)
    proxy.notifier.wait(
        lambda: any(map(matches.reply_naming(lease), list(proxy.events))),
        "the server to ask for the lease",
    )

    started.terminate()
    status = started.wait_exit()

    require(status == 0, "server.stop.exit", expected="status 0", got=started.explain_exit())
    holder = registry.holder(PROCESSOR)
    require(
        holder == FOREIGN.encode(),
        "server.takeover.waits",
        expected="the other life's token",
        got=holder,
    )


@pytest.mark.requirement("server.takeover.releases", "server.takeover.unregisters")
@pytest.mark.dimensions(occasion="stop", moment="outstanding", connection="held")
def test_a_stopped_server_gives_back_its_lease_when_it_has_drained(
    server: StartServer, peer: Peer, registry: Registry, proxy: Proxy
) -> None:
    """The lease lasts until the last job is answered; at the exit, it and the registration are gone."""
    started = server()
    peer.wait_settled(peer.push("echo", "at first"))
    token = registry.holder(PROCESSOR)
    job = peer.job("echo", "the last one")
    hold = proxy.hold(matches.command(job))
    peer.push_job(job)
    hold.wait()

    started.terminate()
    started.wait_signal_delivered()
    early = proxy.notifier.happens_by_the_clock(
        lambda: registry.holder(PROCESSOR) != token, MOMENT_S
    )
    hold.release()
    status = started.wait_exit()

    require(
        early is None,
        "server.takeover.releases",
        expected="its lease while it drains",
        got=registry.holder(PROCESSOR),
    )
    require(
        status == 0 and registry.holder(PROCESSOR) is None,
        "server.takeover.releases",
        expected="no lease after a clean exit",
        got=(status, registry.holder(PROCESSOR)),
    )
    require(
        registry.value(started.in_process) is None,
        "server.takeover.unregisters",
        expected="no registration",
        got=registry.value(started.in_process),
    )


@pytest.mark.requirement("server.takeover.releases")
@pytest.mark.dimensions(occasion="stop", answer="another type", moment="outstanding")
def test_a_stopped_server_leaves_the_lease_of_another_life(
    server: StartServer, peer: Peer, registry: Registry, proxy: Proxy
) -> None:
    """A lease that comes to another life right before the last answer of a stopping server is there after its exit."""
    started = server()
    job = peer.job("echo", "the last one")
    hold = proxy.hold(matches.command(job))
    peer.push_job(job)
    hold.wait()

    started.terminate()
    started.wait_signal_delivered()
    own = registry.holder(PROCESSOR)
    registry.lease(PROCESSOR)
    hold.release()
    started.wait_exit()

    holder = registry.holder(PROCESSOR)
    require(
        own is not None and holder == FOREIGN.encode(),
        "server.takeover.releases",
        expected="a lease of its own, and then the other life's token",
        got=(own, holder),
    )


@pytest.mark.requirement("server.takeover.own-registration")
@pytest.mark.dimensions(
    occasion=("stop", "reconnect", "restart"),
    moment="outstanding",
    connection=("claims", "cut"),
    repetition="faults",
)
@pytest.mark.parametrize(
    "why", ["planted before", "cut in a claim", "cut in an adoption", "an entry on the list"]
)
@pytest.mark.waits(3)
def test_a_registration_that_may_be_needed_stays(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    registry: Registry,
    keys: Keys,
    proxy: Proxy,
    why: str,
) -> None:
    """A list stays registered that was so before, or isn't empty, or whose claim or adoption was never answered."""
    if why == "planted before":
        registry.register(PROCESSOR)
    if why == "cut in an adoption":
        adopted = peer.job("echo", "adopted")
        theirs = registry.lapsed(GONE, adopted)
        hold = proxy.hold(matches.reply(adopted))
    started = server()
    if why == "cut in an adoption":
        hold_adoption(redis, proxy, hold, theirs, adopted).drop()
        peer.wait_settled(adopted)
    peer.wait_settled(peer.push("echo", "at first"))
    started.wait_idle()
    if why == "cut in a claim":
        for _ in range(2):
            claim = proxy.hold(matches.reply_naming(keys.queue))
            claim.wait()
            claim.drop()
            started.wait_idle()
    job = peer.job("echo", "the last one")
    hold = proxy.hold(matches.command(job))
    peer.push_job(job)
    hold.wait()
    started.terminate()
    started.wait_signal_delivered()
    if why == "an entry on the list":
        peer.place(peer.job("echo", "nobody sees it any more"))
    hold.release()
    started.wait_exit()

    if why == "an entry on the list" and not redis.exists(keys.in_process()):
        return  # it was answered before the exit
    require(
        registry.value(started.in_process) is not None,
        "server.takeover.own-registration",
        expected="the registration of the list",
        got="none",
    )


def hold_adoption(
    redis: Redis, proxy: Proxy, hold: Hold, theirs: str, job: Job, left: int = 0
) -> Hold:
    """Hold the reply to the command that moves an entry, and none of those that only read it."""
    hold.wait("an adoption")
    while redis.llen(theirs) > left:
        following = proxy.hold(matches.reply(job))
        hold.release()
        hold = following
        hold.wait("an adoption")
    return hold
