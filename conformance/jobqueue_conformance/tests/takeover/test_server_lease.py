"""The lease that a server holds on its list: the feature `takeover`, without the lists of others."""

import os
import signal
import time

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.registry import FOREIGN, Registry
from jobqueue_conformance.programs.server import ServerProcess
from jobqueue_conformance.programs.starting import BLOCK_MS, LEASES, StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import COMMAND, REPLY, Event
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec.keys import PROCESSOR, Keys
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import require

T_S = BLOCK_MS / 1000
L_S = LEASES * T_S
LATE_S = 0.6 * T_S  # how late something may come to the proxy on a slow machine
CLOCKS_S = 0.05  # how far the clocks of Redis and of the suite may be apart during a test
TRIES = 5
BUSY = 60  # jobs that together take four times L


@pytest.mark.requirement("server.takeover.times")
@pytest.mark.dimensions(settings="limit", size="1,024")
@pytest.mark.parametrize("too_short_by_ms", [1, 1000])
def test_a_lease_shorter_than_three_blocks_is_refused(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy, too_short_by_ms: int
) -> None:
    """With L a little below 3 T the server exits with a status other than 0, and has touched nothing."""
    job = peer.push("echo", "untouched")

    started = server(lease_ms=LEASES * BLOCK_MS - too_short_by_ms, wait=False)
    proxy.notifier.happens(
        lambda: not started.running or peer.received(job), proxy.notifier.deadline_s
    )

    require(
        not started.running and started.status != 0,
        "server.takeover.times",
        expected="an exit with a status other than 0",
        got=f"a server that runs: {started.running}, status {started.status}",
    )
    waiting = redis.lrange(keys.queue, 0, -1)
    require(waiting == [job.message], "server.takeover.times", expected="the job", got=waiting)


@pytest.mark.requirement("server.takeover.lease-first", "server.takeover.waits")
@pytest.mark.dimensions(occasion="restart", moment="outstanding", answer="nothing")
@pytest.mark.waits(6)
def test_the_lease_of_another_life_is_waited_for(
    server: StartServer, peer: Peer, registry: Registry, proxy: Proxy
) -> None:
    """While another life has the lease, the server neither reads its list nor claims; at its end, it starts.

    That a life before that one was killed here proves nothing about it.
    """
    before = server()
    before.kill()
    before.wait_exit()
    listed, queued = peer.job("echo", "listed"), peer.push("echo", "queued")
    peer.place(listed)
    planted_s = time.monotonic()
    registry.lease(PROCESSOR, life_s=2 * L_S)

    server(wait=False, keep_lease=True)
    peer.wait(
        lambda: registry.holder(PROCESSOR) != FOREIGN.encode() or touched(proxy, listed, queued),
        "server.takeover.waits",
        "the end of the other lease",
        patience_s=2 * L_S,
    )
    ended_s = time.monotonic()
    early = [each for each in touched(proxy, listed, queued) if each.at_s < planted_s + 2 * L_S]

    require(
        not early,
        "server.takeover.lease-first",
        expected="no look and no claim while another life has the lease",
        got=[each.arguments[:1] for each in early],
    )
    require(
        ended_s > planted_s + 2 * L_S - CLOCKS_S,
        "server.takeover.waits",
        expected=f"a lease that ends by itself after {2 * L_S} s",
        got=f"its end after {ended_s - planted_s:.2f} s",
    )
    for job in (listed, queued):
        peer.result(job, "server.takeover.waits")
    peer.wait_settled(listed, queued)


@pytest.mark.requirement("server.takeover.waits")
@pytest.mark.dimensions(occasion="restart", repetition="faults")
def test_a_killed_life_is_waited_for_or_inherited(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys
) -> None:
    """A server that is killed in a job, twice, and started under its name at once runs the job within 3 L."""
    job = peer.push("wait", {"ms": round(2 * T_S * 1000)})
    own = keys.in_process()
    for _ in range(2):
        started = server(keep_lease=True, wait=False)
        peer.wait(
            lambda: (
                job.message in redis.lrange(own, 0, -1) and peer.servers[-1].endpoint.named_queue
            ),
            "server.takeover.waits",
            "a job on the list",
            patience_s=2 * L_S,
        )
        started.kill()

    server(keep_lease=True, wait=False)

    peer.wait(
        lambda: peer.received(job),
        "server.takeover.waits",
        "the result of the job",
        job,
        patience_s=2 * L_S,
    )


@pytest.mark.requirement("server.takeover.registers")
@pytest.mark.dimensions(
    occasion=("reconnect", "again"), connection=("all", "cut"), repetition="faults"
)
def test_each_new_connection_registers_before_it_claims(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry, keys: Keys, proxy: Proxy
) -> None:
    """When a claim passes for the first time on a new connection, the list is registered and its lease is held."""
    started = server()
    for removed in ("registration", "both", "registration"):
        started.wait_idle()
        proxy.stop_accepting()
        proxy.drop("server")
        redis.hdel(keys.processors, started.in_process)
        if removed == "both":
            registry.end(PROCESSOR)
        hold = proxy.hold(matches.command_naming(keys.queue))
        proxy.accept_again()

        peer.wait(lambda: hold.event, "server.takeover.registers", "a claim")  # noqa: B023 - asked in this turn only
        value, holder = registry.value(started.in_process), registry.holder(PROCESSOR)
        hold.release()

        require(
            value == b"0" and holder is not None,
            "server.takeover.registers",
            expected="the registration 0 and a lease before the first claim",
            got=(value, holder),
        )


@pytest.mark.requirement("server.takeover.lapse")
@pytest.mark.dimensions(
    moment="outstanding", occasion="again", connection="silent", answer="nothing"
)
@pytest.mark.parametrize("robbed", [True, False], ids=["robbed", "not-robbed"])
@pytest.mark.waits(4)
def test_a_reply_to_a_claim_that_is_read_too_late_is_not_trusted(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    registry: Registry,
    proxy: Proxy,
    *,
    robbed: bool,
) -> None:
    """A server that was stopped in a claim for longer than L runs the job if it is still on its list, and only then."""
    started = server()
    peer.wait_settled(peer.push("echo", "at first"))
    job = stopped_in_a_claim(started, peer, redis)
    registry.end(PROCESSOR)
    if robbed:
        redis.lrem(started.in_process, 0, job.message)  # type: ignore[arg-type] # bytes do, too
    proxy.notifier.pass_time(L_S + LATE_S)
    os.killpg(started.popen.pid, signal.SIGCONT)

    peer.result(peer.push("echo", "behind"), "server.takeover.lapse")
    if not robbed:
        peer.result(job, "server.takeover.lapse")
    results = peer.results(job)

    require(
        len(results) == (0 if robbed else 1),
        "server.takeover.lapse",
        expected="no result of a job that another server has, and one of a job that none has",
        got=results,
    )


@pytest.mark.requirement("server.takeover.lost-name")
@pytest.mark.dimensions(moment="outstanding", handler="late", answer="another type")
@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
@pytest.mark.waits(5)
def test_a_server_that_lost_its_name_ends(
    server: StartServer, peer: Peer, redis: Redis, registry: Registry, keys: Keys, *, busy: bool
) -> None:
    """A server that finds another life's token finishes its job, claims nothing, and exits; the token stays."""
    started = server()
    if busy:
        job = peer.push("wait", {"ms": round(1.5 * L_S * 1000)})
        peer.wait(
            lambda: job.message in redis.lrange(started.in_process, 0, -1),
            "server.run.goes-on",
            "a claim",
            job,
        )
        registry.lease(PROCESSOR)
        behind = peer.push("echo", "behind")
    else:
        started.wait_idle()
        registry.lease(PROCESSOR)
    peer.wait(
        lambda: not started.running,
        "server.takeover.lost-name",
        "an exit",
        patience_s=2.5 * L_S,
    )

    require(
        started.status != 0,
        "server.takeover.lost-name",
        expected="a status other than 0",
        got=started.status,
    )
    holder = registry.holder(PROCESSOR)
    require(
        holder == FOREIGN.encode(),
        "server.takeover.lost-name",
        expected="the other life's token",
        got=holder,
    )
    if busy:
        answered, waiting = peer.received(job), redis.lrange(keys.queue, 0, -1)
        require(
            len(answered) == 1 and waiting == [behind.message],
            "server.takeover.lost-name",
            expected="the job that ran answered, and the one behind it in the queue",
            got=(answered, waiting),
        )


@pytest.mark.requirement("server.takeover.own-list")
@pytest.mark.dimensions(moment=("after the second look", "outstanding"), handler="late")
@pytest.mark.waits(6)
def test_an_entry_that_nobody_saw_is_found_by_a_busy_server(
    server: StartServer, peer: Peer
) -> None:
    """What lands on the list of a server that is never idle is answered before jobs that wait for longer than L."""
    server()
    queued = [peer.push("wait", {"ms": 200, "number": n}) for n in range(BUSY)]
    peer.result(queued[BUSY // 4])  # behind the second look
    job = peer.job("echo", "nobody saw it")
    peer.place(job)

    peer.wait(
        lambda: peer.received(job) or peer.received(queued[-1]),
        "server.takeover.own-list",
        "the result of an entry of the list",
        patience_s=L_S,
    )
    require(
        bool(peer.received(job)),
        "server.takeover.own-list",
        expected="the entry answered among the jobs of the queue",
        got="the whole queue before it",
    )


@pytest.mark.requirement("server.takeover.own-list")
@pytest.mark.dimensions(
    occasion="again", moment="after the second look", repetition="faults", size="below 1"
)
@pytest.mark.waits(9)
def test_an_entry_that_nobody_saw_is_found(server: StartServer, peer: Peer) -> None:
    """What lands on the list of an idle server is run within L, again and again."""
    started = server()
    for number in range(3):
        started.wait_idle()
        job = peer.job("echo", number)
        peer.place(job)

        peer.wait(
            lambda: peer.received(job),  # noqa: B023 - asked in this turn only
            "server.takeover.own-list",
            "the result of an entry of the list",
            patience_s=L_S,
        )
        peer.wait_gone(job.message, requirement="server.takeover.own-list")


def touched(proxy: Proxy, *jobs: Job) -> list[Event]:
    """What the server has received about these jobs."""
    return [
        each
        for each in list(proxy.events)
        if each.kind in {COMMAND, REPLY} and any(each.carries(job.id) for job in jobs)
    ]


def stopped_in_a_claim(started: ServerProcess, peer: Peer, redis: Redis) -> Job:
    """Stop the process while a claim of it blocks, and have Redis give it a job that it can't read yet."""
    for number in range(TRIES):
        started.wait_idle()
        os.killpg(started.popen.pid, signal.SIGSTOP)
        job = peer.push("echo", f"while it is stopped {number}")
        if job.message in redis.lrange(started.in_process, 0, -1):
            return job
        os.killpg(started.popen.pid, signal.SIGCONT)  # no claim was outstanding
        peer.wait_settled(job)
    raise AssertionError("no claim was outstanding when the server was stopped")
