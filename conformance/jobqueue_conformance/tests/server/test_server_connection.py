"""A server's connections: lost, refused, and made again without a restart."""

from collections.abc import Callable

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.manager import still_running
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import Event
from jobqueue_conformance.proxy.proxy import How, Proxy
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import Unsupported, require

HOWS: tuple[How, ...] = ("fin", "rst") * 6
LOSSES = 6
LONGEST_SILENCE_S = 30.0
SLACK_S = 5.0
DECIDES_S = 1.0  # in which a server that finds no Redis has given up, if it does
REMOVES_S = 5.0
# How Redis is made to refuse a claim, and to accept it again.
REFUSALS: dict[str, tuple[Callable[[Redis], object], Callable[[Redis], object]]] = {
    "UNBLOCKED": (
        lambda redis: [
            redis.client_unblock(int(each["id"]), error=True) for each in blocked(redis)
        ],
        lambda redis: redis.ping(),
    ),
    "OOM": (
        lambda redis: redis.config_set("maxmemory", 1),
        lambda redis: redis.config_set("maxmemory", 0),
    ),
    "READONLY": (
        lambda redis: redis.replicaof("127.0.0.1", 1),
        lambda redis: redis.replicaof("NO", "ONE"),
    ),
}


@pytest.mark.requirement("server.connection.survives")
@pytest.mark.dimensions(
    size="8",
    occasion="reconnect",
    moment="within T",
    connection=("all", "cut"),
    repetition="faults",
)
def test_a_lost_connection_is_made_again(server: StartServer, peer: Peer, proxy: Proxy) -> None:
    """A server whose connections end, twelve times over, answers the next job in the same process."""
    server()

    for how in HOWS:
        peer.result(peer.push("echo", how), "server.connection.survives")
        proxy.drop(how=how)
    peer.result(peer.push("echo", "behind"), "server.connection.survives")


@pytest.mark.requirement("server.connection.survives")
@pytest.mark.dimensions(occasion="reconnect", connection=("all", "refused"))
def test_a_restart_of_redis_is_survived(
    server: StartServer, peer: Peer, redis: Redis, redis_server: RedisServer, proxy: Proxy
) -> None:
    """A server whose Redis is killed and comes back later answers what is pushed then."""
    redis_server.keep_data()
    server()
    peer.result(peer.push("echo", "before"))

    proxy.refuse()
    redis_server.restart()
    redis.connection_pool.disconnect()
    peer.listen_again()
    proxy.accept_again()
    for n in range(2):
        peer.result(peer.push("echo", f"after {n}"), "server.connection.survives")


@pytest.mark.requirement("server.connection.start")
@pytest.mark.dimensions(occasion="unconnected", connection=("all", "refused"))
def test_a_refused_start_is_made_good(
    server: StartServer, peer: Peer, keys: Keys, proxy: Proxy
) -> None:
    """A server that nobody listens to at its start answers a job later, or has exited with a status other than 0."""
    proxy.endpoint("server", keys.queue)
    proxy.refuse("server")
    started = server(wait=False)
    proxy.notifier.happens(lambda: not started.running, 2 * DECIDES_S)
    proxy.accept_again("server")
    still_running(started, server, "server.connection.start")

    peer.result(peer.push("echo", "somebody listens"), "server.connection.start")


@pytest.mark.requirement("server.connection.start")
@pytest.mark.dimensions(occasion="unconnected", connection=("all", "cut"))
@pytest.mark.waits(3)
def test_a_start_without_redis_is_made_good(
    server: StartServer, peer: Peer, redis: Redis, redis_server: RedisServer, proxy: Proxy
) -> None:
    """A server that is started while Redis is away answers a job later, or has exited with a status other than 0."""
    redis_server.kill()
    try:
        started = server(wait=False)
        proxy.notifier.wait(
            lambda: started.endpoint.attempted or not started.running, "the server to connect"
        )
        proxy.notifier.happens(lambda: not started.running, DECIDES_S)
    finally:
        redis_server.start()
        redis.connection_pool.disconnect()
        peer.listen_again()
    started = still_running(started, server, "server.connection.start")

    peer.result(peer.push("echo", "Redis is there"), "server.connection.start")


@pytest.mark.requirement("server.connection.refused")
@pytest.mark.dimensions(occasion="again", connection="claims", answer=("error", "another error"))
@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.waits(4)
def test_a_refused_claim_is_no_end(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    proxy: Proxy,
    refusal: str,
) -> None:
    """After a claim that Redis refuses, the next job is answered, if need be by the server's next life."""
    if not redis_server.private:
        raise Unsupported("a Redis of the user's own isn't made to refuse commands")
    refuse, heal = REFUSALS[refusal]
    started = server()
    peer.wait_settled(peer.push("echo", "before"))
    started.wait_idle()
    seen = len(proxy.events)

    refuse(redis)
    proxy.notifier.happens(
        lambda: any(each.frame[:1] == b"-" for each in proxy.events[seen:]), DECIDES_S
    )
    proxy.notifier.happens(lambda: not started.running, DECIDES_S)
    heal(redis)
    still_running(started, server, "server.connection.refused")

    peer.result(peer.push("echo", "behind"), "server.connection.refused")


@pytest.mark.requirement("server.connection.silent")
@pytest.mark.dimensions(
    occasion=("again", "reconnect"), connection=("all", "publishing", "silent", "held")
)
@pytest.mark.parametrize("which", ["all", "answers"])
@pytest.mark.waits(6)
def test_a_silent_connection_is_lost(
    server: StartServer, peer: Peer, proxy: Proxy, which: str
) -> None:
    """A server whose connections, or those of its answers alone, fall silent, and stay open, answers on others."""
    started = server()
    peer.wait_settled(peer.push("echo", "before"))
    proxy.drop("server")
    peer.wait_settled(peer.push("echo", "behind a loss"))
    started.wait_idle()

    peer.moment_s = LONGEST_SILENCE_S + SLACK_S
    if which == "all":
        proxy.mute("server")
    behind = [peer.job("echo", n) for n in range(2)]
    if which == "answers":
        proxy.hold(matches.command(behind[0]))  # for good
    peer.push_job(*behind)

    peer.wait(
        lambda: peer.received(behind[-1]),
        "server.connection.silent",
        f"a job's result within {LONGEST_SILENCE_S:g} s, while what others are sent isn't answered",
    )


@pytest.mark.requirement("server.connection.closes", "server.claim.order")
@pytest.mark.dimensions(
    occasion="reconnect", connection=("claims", "publishing", "half-open"), repetition="faults"
)
@pytest.mark.parametrize("held", [matches.reply, matches.command], ids=["claims", "answers"])
def test_a_replaced_connection_is_closed(
    server: StartServer, peer: Peer, proxy: Proxy, held: Callable[[Job], Callable[[Event], bool]]
) -> None:
    """However often the connection on which it claims or answers is lost, a server has no more of them open.

    It claims in the same order on its last connection as on its first.
    """
    started = server()
    peer.wait_settled(*(peer.push("echo", n) for n in range(2)))
    started.wait_idle()
    before = proxy.open_connections("server")

    for n in range(LOSSES):
        job = peer.job("echo", n)
        hold = proxy.hold(held(job))
        peer.push_job(job)
        hold.wait()
        hold.half_close()
        behind = peer.push("echo", n)  # a server without recovery has forgotten what it claimed
        peer.result(behind, "server.connection.survives")
        peer.wait_settled(behind)
    started.wait_idle()
    more = LOSSES // 2
    proxy.notifier.happens(lambda: proxy.open_connections("server") < before + more, SLACK_S)
    after = proxy.open_connections("server")

    require(
        after < before + more,
        "server.connection.closes",
        expected=f"about {before} open connections after {LOSSES} losses",
        got=after,
    )
    jobs = [peer.job("echo", f"last {number}") for number in range(5)]
    peer.push_job(*jobs)
    peer.wait_settled(*jobs)
    order = [
        job.parameters for each in peer.messages() for job in jobs if job.id.encode() in each.data
    ]
    require(
        order == [job.parameters for job in jobs],
        "server.claim.order",
        expected=f"the order in which they were pushed, after {LOSSES} losses",
        got=order,
    )


@pytest.mark.requirement("server.connection.database")
@pytest.mark.dimensions(occasion="reconnect", connection=("all", "cut"), settings="database")
@pytest.mark.parametrize("path", ["/3", "/10", ""])
def test_the_urls_database_is_used(
    server: StartServer, peer: Peer, redis_server: RedisServer, keys: Keys, proxy: Proxy, path: str
) -> None:
    """A job in the database that the URL names is answered and removed, and one in another database is left there."""
    if not redis_server.private:
        raise Unsupported("the other databases of the user's own Redis are not the suite's")
    jobs = {number: peer.job("echo", number) for number in (0, 1, 3, 10)}
    named = int(path[1:] or 0)
    started = server(database=path)

    for number, job in jobs.items():
        redis_server.connect(database=number).lpush(keys.queue, job.message)
    peer.result(jobs[named], "server.connection.database")
    database = redis_server.connect(database=named)
    proxy.notifier.happens(lambda: not database.exists(started.in_process), REMOVES_S)
    listed = database.lrange(started.in_process, 0, -1)
    require(
        not listed,
        "server.connection.database",
        expected=f"the answered job removed in the database {named}",
        got=listed,
    )
    proxy.drop("server")
    again = peer.job("echo", "after a loss")
    database.lpush(keys.queue, again.message)
    peer.result(again, "server.connection.database")
    left = {
        number
        for number, job in jobs.items()
        if redis_server.connect(database=number).lrange(keys.queue, 0, -1) == [job.message]
    }

    require(
        left == jobs.keys() - {named},
        "server.connection.database",
        expected=f"the jobs of the other databases where they were pushed, not in {named} alone",
        got=f"{sorted(left)} left",
    )


def blocked(redis: Redis) -> list[dict[str, str]]:
    """The connections that are blocked in a command."""
    return [each for each in redis.client_list() if "b" in each["flags"]]
