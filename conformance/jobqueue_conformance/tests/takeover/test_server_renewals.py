"""How a server renews the lease on its list, and what it leaves alone where it can't: the feature `takeover`."""

from itertools import pairwise
from statistics import median

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.registry import Registry
from jobqueue_conformance.programs.starting import BLOCK_MS, LEASES, StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import Event
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.redis_servers.acl import execute
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import PROCESSOR, Keys
from jobqueue_conformance.spec.verdicts import require

T_S = BLOCK_MS / 1000
L_S = LEASES * T_S
LATE_S = 0.6 * T_S  # how late something may come to the proxy on a slow machine
CLOCKS_S = 0.05  # how far the clocks of Redis and of the suite may be apart during a test
USUAL_S = 5 / 12 * L_S  # between renewals: half-way from L/3, which is right, to L/2
LOSSES = 6
ENDLESS_MS = 600_000  # longer than any test waits


@pytest.mark.requirement("server.takeover.renews")
@pytest.mark.dimensions(moment="outstanding", handler="late", answer="error", occasion="again")
@pytest.mark.parametrize("memory", [False, True], ids=["", "at-maxmemory"])
@pytest.mark.waits(9)
def test_the_lease_lasts_while_a_handler_runs(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    registry: Registry,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
    *,
    memory: bool,
) -> None:
    """While a handler runs for more than two L, the lease is renewed in time, whether or not Redis has memory left."""
    started = server()
    job = peer.push("wait", {"ms": ENDLESS_MS})
    peer.wait(
        lambda: job.message in redis.lrange(started.in_process, 0, -1),
        "server.takeover.renews",
        "a claimed job",
    )
    token = registry.holder(PROCESSOR)
    renewals = Renewals(redis, keys.lease(started.in_process))

    def lost() -> bool:
        renewals.look()
        return registry.holder(PROCESSOR) != token

    if memory:
        execute(redis_server, "CONFIG", "SET", "maxmemory", "1")
    absent = proxy.notifier.happens_by_the_clock(lost, 2.2 * L_S)
    execute(redis_server, "CONFIG", "SET", "maxmemory", "0")

    require(
        token is not None and absent is None,
        "server.takeover.renews",
        expected="a lease with the same token all the time",
        got=f"{registry.holder(PROCESSOR)!r} in place of {token!r}",
    )
    require_renewed(renewals)


@pytest.mark.requirement("server.takeover.renews")
@pytest.mark.dimensions(moment="after the second look")
@pytest.mark.waits(10)
def test_the_lease_lasts_while_nothing_happens(
    server: StartServer, registry: Registry, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """The lease of an idle server is renewed in time, and is never nearer to its end than half of L."""
    started = server()
    started.wait_idle()
    renewals = Renewals(redis, keys.lease(started.in_process))

    short = proxy.notifier.happens_by_the_clock(
        lambda: renewals.look() < (L_S / 2 - LATE_S / 2) * 1000, 2.2 * L_S
    )

    require(
        short is None,
        "server.takeover.renews",
        expected="a renewal at least every L/3",
        got=f"{renewals.look()} ms left of the lease of {registry.holder(PROCESSOR)!r}",
    )
    require_renewed(renewals)


@pytest.mark.requirement("server.connection.closes", "server.takeover.renews")
@pytest.mark.dimensions(
    occasion="reconnect", connection=("all", "half-open"), moment="outstanding", repetition="faults"
)
def test_a_replaced_connection_of_renewals_is_closed(
    server: StartServer, keys: Keys, proxy: Proxy
) -> None:
    """However often the connection on which it renews its lease is lost, a server has no more of them open."""
    started = server()
    lease = keys.lease(started.in_process)
    started.wait_idle()
    before = proxy.open_connections("server")

    for _ in range(LOSSES):
        started.wait_idle()  # it has acquired the lease again
        hold = proxy.hold(matches.reply_naming(lease))
        hold.wait("the server to renew its lease")
        hold.half_close()
    started.wait_idle()
    more = LOSSES // 2
    proxy.notifier.happens(
        lambda: proxy.open_connections("server") < before + more, proxy.notifier.deadline_s
    )
    after = proxy.open_connections("server")

    require(
        after < before + more,
        "server.connection.closes",
        expected=f"about {before} open connections after {LOSSES} losses",
        got=after,
    )


@pytest.mark.requirement("server.takeover.within-lease")
@pytest.mark.dimensions(connection=("held", "refused"), moment="outstanding", answer="nothing")
@pytest.mark.waits(9)
def test_nothing_is_claimed_without_a_renewal(
    server: StartServer, peer: Peer, keys: Keys, proxy: Proxy
) -> None:
    """When renewals aren't answered any more, no claim is sent later than L - T after the last one that was."""
    started = server()
    started.wait_idle()
    lease = keys.lease(started.in_process)
    proxy.stop_accepting()  # it can't renew on another connection
    hold = proxy.hold(matches.reply_naming(lease))
    peer.wait(lambda: hold.event, "server.takeover.renews", "a renewal")
    assert hold.event is not None
    assert hold.event.answers is not None
    held_s = hold.event.answers.at_s
    renewed_s = max(
        each.at_s for each in list(proxy.events) if names(each, lease) and each.at_s < held_s
    )
    latest_s = renewed_s + L_S - T_S + LATE_S

    def claims() -> list[float]:
        claiming = matches.command_naming(keys.queue)
        return [each.at_s for each in list(proxy.events) if claiming(each) and each.at_s > latest_s]

    late = proxy.notifier.happens_by_the_clock(claims, 2 * L_S)
    hold.release()
    proxy.accept_again()

    require(
        not late,
        "server.takeover.within-lease",
        expected=f"no claim later than {L_S - T_S} s after the last renewal",
        got=[f"{at_s - renewed_s:.2f} s" for at_s in late or ()],
    )
    peer.wait_settled(peer.push("echo", "after that"))


class Renewals:
    """When a lease was renewed, by Redis's clock, as far as it was looked at in between."""

    def __init__(self, redis: Redis, lease: str) -> None:
        self._redis = redis
        self._lease = lease
        self._ends_s: list[float] = []

    def look(self) -> int:
        """Look at the lease, and return how many milliseconds are left of it."""
        with self._redis.pipeline(transaction=False) as pipe:  # at maxmemory, MULTI is refused
            pipe.pttl(self._lease)
            pipe.time()
            left_ms, (seconds, micros) = pipe.execute()
        end_s = seconds + micros / 1e6 + left_ms / 1000
        if left_ms > 0 and (not self._ends_s or end_s > self._ends_s[-1] + CLOCKS_S):
            self._ends_s.append(end_s)
        return int(left_ms)

    @property
    def gaps_s(self) -> list[float]:
        """How much time passed between one renewal and the next."""
        return [later - earlier for earlier, later in pairwise(self._ends_s)]


def require_renewed(renewals: Renewals) -> None:
    """At least every other renewal came in time, for on a slow machine some come late."""
    gaps_s = renewals.gaps_s
    require(
        bool(gaps_s) and median(gaps_s) <= USUAL_S,
        "server.takeover.renews",
        expected=f"a renewal at least every L/3, which is {L_S / 3:g} s",
        got=f"renewals after {', '.join(f'{each:.2f}' for each in gaps_s) or 'no'} s",
    )


def names(event: Event, key: str) -> bool:
    """Whether it is a command with this key, or the transaction of one."""
    return matches.command_naming(key)(event)
