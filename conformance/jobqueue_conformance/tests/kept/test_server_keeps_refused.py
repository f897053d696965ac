"""What a server does with a result that Redis doesn't let it keep: for lack of memory, or of a right."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.server import ServerProcess
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import REPLY
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.redis_servers.acl import PASSWORD, execute, least_rights, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import Unsupported, require

HOUR_MS = 3_600_000
OTHER_MS = 2000  # how long another job runs that is answered while a first one isn't yet
PATIENCE_S = 10.0  # twice as long as a server tries to keep a result
TRIES, TRIED_S = 3, 1.0
TRIES_FOR_S = 4.9  # 5 s, but for what passes between a server and the proxy


@pytest.mark.requirement("server.kept.again", "server.kept.stores")
@pytest.mark.dimensions(occasion="again", moment="outstanding", answer="error", repetition="faults")
def test_a_result_is_stored_once_there_is_memory(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
) -> None:
    """Twice over, a result that Redis has no memory for is stored, and published, when it has some again."""
    started = server()
    for number in range(2):
        started.wait_idle()
        job = peer.job("echo", number, keep_ms=HOUR_MS)
        refuse(proxy, peer, redis_server, job)

        execute(redis_server, "CONFIG", "SET", "maxmemory", "0")
        peer.result(job, "server.kept.again")

        require_kept(redis, keys, job, "server.kept.again", kept=True)
        peer.wait_settled(job)


@pytest.mark.requirement("server.kept.refused", "server.kept.again", "server.remove.finished")
@pytest.mark.dimensions(moment="outstanding", answer="error", occasion="again")
@pytest.mark.waits(6)
def test_a_result_is_published_where_memory_stays_short(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
) -> None:
    """A result that Redis has no memory for is published without being stored, and the next one is stored."""
    started = server()
    started.wait_idle()
    job = peer.job("echo", "no memory", keep_ms=HOUR_MS)
    refuse(proxy, peer, redis_server, job)

    wait_for_result(peer, job)
    tried_s = seconds_of_trying(proxy, peer, job)
    peer.wait_gone(job.message, requirement="server.kept.refused", patience_s=PATIENCE_S)
    execute(redis_server, "CONFIG", "SET", "maxmemory", "0")

    require(
        tried_s >= TRIES_FOR_S,
        "server.kept.again",
        expected=f"attempts to store it for {TRIES_FOR_S:g} s before it is published",
        got=f"{tried_s:.1f} s",
    )
    require_kept(redis, keys, job, "server.kept.refused", kept=False)
    require_alive(redis, keys, job)
    if started.running:  # it may have ended by the refusal of a claim
        behind = peer.push("echo", "behind", keep_ms=HOUR_MS)
        peer.wait_settled(behind)
        require_kept(redis, keys, behind, "server.kept.stores", kept=True)


@pytest.mark.requirement("server.kept.again", "server.concurrency.parallel")
@pytest.mark.dimensions(moment="outstanding", answer="error", settings="several handlers")
def test_other_jobs_go_on_meanwhile(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
) -> None:
    """While a server tries to store a result, another job of it ends and is answered; then the first one is stored."""
    started = server(concurrency=2)
    started.wait_idle()
    other = peer.push("wait", {"ms": OTHER_MS})
    first = peer.job("echo", "no memory", keep_ms=HOUR_MS)
    refuse(proxy, peer, redis_server, first)

    peer.wait(
        lambda: peer.received(other), "server.kept.again", "the result of the other job", other
    )
    before = peer.results(first)
    execute(redis_server, "CONFIG", "SET", "maxmemory", "0")
    require_running(started)

    require(not before, "server.kept.again", expected="the other result first", got=before)
    peer.wait_settled(first, other)
    require_kept(redis, keys, first, "server.kept.again", kept=True)


@pytest.mark.requirement("server.kept.again", "server.stop.exit")
@pytest.mark.dimensions(occasion="stop", moment="outstanding", answer="error")
def test_a_stop_ends_the_attempts(
    server: StartServer, peer: Peer, redis_server: RedisServer, proxy: Proxy
) -> None:
    """A server that is stopped while it tries to store a result publishes it, removes the job and exits with 0."""
    started = server()
    started.wait_idle()
    job = peer.job("echo", "no memory", keep_ms=HOUR_MS)
    refuse(proxy, peer, redis_server, job)

    started.terminate()
    proxy.notifier.happens(lambda: not started.running, proxy.notifier.deadline_s)
    execute(redis_server, "CONFIG", "SET", "maxmemory", "0")

    results, left = peer.results(job), peer.waiting()
    require(
        len(results) == 1 and job.message not in left,
        "server.kept.again",
        expected="a job that is answered and removed",
        got=f"{results}, and {left} on the lists",
    )
    status = started.wait_exit()
    require(status == 0, "server.stop.exit", expected="status 0", got=started.explain_exit())


@pytest.mark.requirement("server.kept.refused", "server.kept.stores", "server.remove.finished")
@pytest.mark.dimensions(
    size="8", occasion=("again", "recovery"), answer="another error", settings="rights"
)
def test_a_result_is_published_where_none_may_be_stored(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    implementation: Implementation,
) -> None:
    """A server without a right to the keys of results answers twelve jobs, and buries none; with it, it stores one."""
    rest = ("in-process:*", "dead", "attempts:*", "processors", "lease:*", "scanned")
    rights = least_rights("server", keys, implementation.features)
    rights.remove(f"~{keys.queue}:*")
    set_user(redis_server, "older", PASSWORD, *rights, *(f"~{keys.queue}:{each}" for each in rest))
    jobs = [peer.job("echo", number, keep_ms=HOUR_MS) for number in range(12)]
    listed = jobs[:4] if "recovery" in implementation.features else []
    peer.place(*listed)
    peer.push_job(*jobs[len(listed) :])

    server(user="older", password=PASSWORD)
    for job in jobs:
        wait_for_result(peer, job)
    peer.wait_settled(*jobs)

    for job in jobs:
        require_kept(redis, keys, job, "server.kept.refused", kept=False)
        require_alive(redis, keys, job)
    set_user(redis_server, "older", PASSWORD, f"~{keys.queue}:*")
    allowed = peer.push("echo", "allowed", keep_ms=HOUR_MS)
    peer.wait_settled(allowed)
    require_kept(redis, keys, allowed, "server.kept.stores", kept=True)


def refuse(proxy: Proxy, peer: Peer, redis_server: RedisServer, job: Job) -> None:
    """Push a job, and leave Redis no memory for its result, until it has refused to store it a few times."""
    hold = proxy.hold(matches.command(job), "server")
    peer.push_job(job)
    hold.wait("the server to answer the job")
    seen = len(proxy.events)
    execute(redis_server, "CONFIG", "SET", "maxmemory", "1")
    hold.release()

    def refused() -> bool:
        replies = [each for each in list(proxy.events)[seen:] if each.kind == REPLY]
        oom = [each for each in replies if b"OOM" in each.frame and each.carries(job.id)]
        return len(oom) >= TRIES

    # By the clock, since that is how the server measures for how long it tries.
    proxy.notifier.happens_by_the_clock(refused, TRIED_S)


def wait_for_result(peer: Peer, job: Job) -> None:
    """Wait for the result of a job that Redis didn't let the server keep."""
    peer.wait(
        lambda: peer.received(job),
        "server.kept.refused",
        "a result, though it can't be stored",
        patience_s=PATIENCE_S,
    )
    peer.results(job)  # which looks at its value


def seconds_of_trying(proxy: Proxy, peer: Peer, job: Job) -> float:
    """How long after the first refusal to store a result it was published."""
    about = [each for each in list(proxy.events) if each.kind == REPLY and each.carries(job.id)]
    refused_s = min(each.at_s for each in about if b"OOM" in each.frame)
    return min(each.at_s for each in peer.messages() if job.id.encode() in each.data) - refused_s


def require_kept(redis: Redis, keys: Keys, job: Job, requirement: str, *, kept: bool) -> None:
    """The result of a job is stored, or isn't."""
    stored = redis.get(keys.result(job.message))
    require(
        (stored is not None) == kept,
        requirement,
        expected="a stored result" if kept else "no stored result",
        got=f"{stored!r:.200}",
    )


def require_alive(redis: Redis, keys: Keys, job: Job) -> None:
    """A job isn't dead for that."""
    dead = redis.lrange(keys.dead, 0, -1)
    require(job.message not in dead, "server.kept.refused", expected="no dead message", got=dead)


def require_running(started: ServerProcess) -> None:
    """A server that has ended by the refusal of a claim can't show the rest."""
    if not started.running:
        raise Unsupported("the server ends when Redis refuses a claim")
