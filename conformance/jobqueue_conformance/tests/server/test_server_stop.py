"""What a server does after SIGTERM: no new claim, nothing that it claimed left behind, status 0.

Each test forces one race: the signal arrives while the proxy holds a command or a reply, so that what comes next
is decided before the server goes on.
"""

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.process import Process
from jobqueue_conformance.programs.server import ServerProcess
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import COMMAND
from jobqueue_conformance.proxy.proxy import Hold, Proxy
from jobqueue_conformance.proxy.waiting import Hung
from jobqueue_conformance.redis_servers.acl import EVERYTHING, PASSWORD, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import fail, require

HANDLERS = 40
USER = "somebody"
LONG = "x" * 66_000
LONGEST_STOP_S = 30.0  # for which a server may try to reach Redis after SIGTERM
LONGEST_SILENCE_S = 30.0  # for which it may take a silent Redis for alive
SLACK_S = 5.0


@pytest.mark.requirement("server.stop.exit")
@pytest.mark.dimensions(occasion="again")
def test_an_idle_server_exits(server: StartServer, peer: Peer) -> None:
    """A server that is blocked in a claim exits with the status 0 after SIGTERM."""
    started = server()
    peer.wait_settled(peer.push("echo", "before"))
    started.wait_idle()

    terminate(started)

    require_status_0(started)


@pytest.mark.requirement("server.stop.drains", "server.stop.exit")
@pytest.mark.dimensions(
    occasion="stop",
    moment="outstanding",
    connection=("publishing", "held"),
    repetition="faults",
)
@pytest.mark.parametrize("method, signals", [("echo", 1), ("", 1), ("echo", 2)])
def test_a_running_job_is_finished(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    keys: Keys,
    proxy: Proxy,
    method: str,
    signals: int,
) -> None:
    """A job that is about to be answered when SIGTERM arrives, once or twice, is answered before the exit."""
    started = server()
    job = peer.job(method, {"message": "running"})
    hold = proxy.hold(matches.command(job))
    peer.push_job(job)
    hold.wait()

    for _ in range(signals):
        terminate(started)
    hold.release()

    require_status_0(started)
    require(
        not redis.exists(keys.queue),
        "server.stop.drains",
        expected="a job that has been started answered, and not returned to the queue",
        got=redis.lrange(keys.queue, 0, -1),
    )
    require_drained(peer, redis, started, [job])


@pytest.mark.requirement("server.stop.no-claim", "server.stop.drains")
@pytest.mark.dimensions(occasion="stop", moment="outstanding", repetition="faults")
def test_what_waits_is_left_in_the_queue(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """Jobs pushed after SIGTERM, and before another one, stay in the queue, but for one that a sent claim may take."""
    started = server()
    job = peer.job("echo", "running")
    hold = proxy.hold(matches.command(job))
    peer.push_job(job)
    hold.wait()

    terminate(started)
    sent = claims_that_were_sent(proxy, hold, keys)
    behind = [peer.push("echo", n) for n in range(sent + 3)]
    terminate(started)
    hold.release()
    wait_exit(started)
    left = redis.llen(keys.queue)

    require(
        left >= len(behind) - sent,
        "server.stop.no-claim",
        expected=f"at most {sent} of {len(behind)} jobs claimed, by what had been sent before the signal",
        got=f"{len(behind) - left} claimed",
    )
    require_drained(peer, redis, started, [job, *behind])


@pytest.mark.requirement("server.stop.drains", "server.stop.exit")
@pytest.mark.dimensions(
    size="65,536 bytes",
    occasion="stop",
    moment="outstanding",
    connection=("claims", "held"),
    handler="exception",
)
@pytest.mark.parametrize("method", ["echo", "fail"])
def test_what_the_outstanding_claim_returns_is_finished(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy, method: str
) -> None:
    """A long job whose claim was executed but not answered when SIGTERM arrives is answered, or comes next again."""
    started = server()
    job = peer.job(method, {"message": LONG})
    hold = proxy.hold(matches.reply(job))
    peer.push_job(job)
    hold.wait()

    terminate(started)
    behind = peer.push("echo", "behind")
    hold.release()

    require_status_0(started)
    require_drained(peer, redis, started, [job, behind])
    waiting = redis.lrange(keys.queue, 0, -1)
    require(
        job.message not in waiting or waiting[-1] == job.message,
        "server.stop.drains",
        expected="a job that was returned at the right end of the queue",
        got=waiting,
    )


@pytest.mark.requirement("server.stop.drains", "server.stop.exit")
@pytest.mark.dimensions(occasion="stop", moment="outstanding", connection=("claims", "held"))
def test_a_job_that_a_claim_under_way_takes_is_finished(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """A job that is pushed after SIGTERM, and taken by a claim sent before it, isn't left behind."""
    queue = keys.queue.encode()
    hold = proxy.hold(lambda event: event.kind == COMMAND and queue in event.arguments)
    started = server()
    hold.wait()

    terminate(started)
    job = peer.push("echo", "pushed after the signal")
    hold.release()

    require_status_0(started)
    require_drained(peer, redis, started, [job])


@pytest.mark.requirement("server.stop.drains", "server.recovery.first")
@pytest.mark.dimensions(occasion=("stop", "recovery"), moment="outstanding")
def test_a_stop_during_recovery_loses_nothing(
    server: StartServer, peer: Peer, proxy: Proxy
) -> None:
    """Entries of an earlier life are answered, or wait, when a recovering server has stopped."""
    placed = [peer.job("echo", n) for n in range(4)]
    peer.place(*placed)
    hold = proxy.hold(matches.command(*placed))
    started = server()
    hold.wait()

    terminate(started)
    hold.release()
    require_status_0(started)
    waiting = peer.waiting()
    lost = [job for job in placed if job.message not in waiting and not peer.results(job)]

    require(
        not lost,
        "server.stop.drains",
        expected="every recovered entry answered, returned, or on the list for the next life",
        got=f"{[job.parameters for job in lost]} are gone",
    )


@pytest.mark.requirement("server.stop.drains", "server.concurrency.parallel")
@pytest.mark.dimensions(
    size="8", occasion="stop", moment="outstanding", settings="40 handlers", handler="late"
)
def test_all_running_jobs_are_finished(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """Of forty handlers that run when SIGTERM arrives, each has its job answered and removed."""
    started = server(concurrency=HANDLERS)
    jobs = [peer.push("wait", {"ms": 500 + 10 * n}) for n in range(HANDLERS)]
    peer.wait(
        lambda: not redis.exists(keys.queue) and not any(proxy.under_way(job.id) for job in jobs),
        "server.concurrency.parallel",
        f"{HANDLERS} claims",
        jobs[-1],
    )

    terminate(started)

    require_status_0(started)
    require_drained(peer, redis, started, jobs)


@pytest.mark.requirement("server.stop.drains", "server.publish.again")
@pytest.mark.dimensions(
    occasion=("stop", "reconnect"), moment="outstanding", connection=("publishing", "cut")
)
def test_a_connection_that_is_lost_while_stopping_loses_nothing(
    server: StartServer, peer: Peer, redis: Redis, proxy: Proxy
) -> None:
    """A job whose PUBLISH is lost with its connection after SIGTERM is answered and removed before the exit."""
    started = server()
    job = peer.job("echo", "running")
    hold = proxy.hold(matches.command(job))
    peer.push_job(job)
    hold.wait()

    terminate(started)
    hold.drop()

    require_status_0(started)
    require_drained(peer, redis, started, [job])


@pytest.mark.requirement("server.stop.drains", "server.dead.removed")
@pytest.mark.dimensions(occasion="stop", moment="outstanding", connection=("claims", "held"))
def test_a_dead_message_is_finished(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    keys: Keys,
    proxy: Proxy,
    implementation: Implementation,
) -> None:
    """A dead message whose claim isn't answered when SIGTERM arrives has left the list before the exit, and is kept."""
    started = server()
    peer.wait_settled(peer.push("echo", "before"))
    dead = Job(b"no JSON, and marked 7e21", "7e21", "")
    hold = proxy.hold(matches.reply(dead))
    peer.push_job(dead)
    hold.wait()

    terminate(started)
    hold.release()

    require_status_0(started)
    listed = redis.lrange(started.in_process, 0, -1)
    require(
        not listed,
        "server.stop.drains",
        expected="the dead message off the list",
        got=listed,
    )
    kept = [*redis.lrange(keys.dead, 0, -1), *redis.lrange(keys.queue, 0, -1)]
    require(
        dead.message in kept or "dead-list" not in implementation.features,
        "server.dead-list.keeps",
        expected="the dead message on the dead list, or returned to the queue",
        got=kept,
    )


@pytest.mark.requirement("server.stop.unreachable", "server.stop.exit")
@pytest.mark.dimensions(
    occasion="stop",
    moment="outstanding",
    connection=("all", "cut", "refused", "silent"),
    answer="error",
    settings="rights",
)
@pytest.mark.parametrize(
    "idle, how",
    [
        pytest.param(True, "gone", id="idle-gone"),
        pytest.param(False, "gone", id="with-a-job-gone"),
        pytest.param(True, "refused", id="idle-refused"),
        pytest.param(False, "refused", id="with-a-job-refused"),
        pytest.param(False, "silent", id="with-a-job-silent"),
        pytest.param(False, "forbidden", id="with-a-job-forbidden"),
    ],
)
@pytest.mark.waits(12)
def test_a_server_exits_though_redis_is_away(
    server: StartServer,
    peer: Peer,
    redis_server: RedisServer,
    proxy: Proxy,
    *,
    idle: bool,
    how: str,
) -> None:
    """A server that gets SIGTERM while Redis is away, or refuses all, exits; its status tells of a job left behind."""
    longest_s = LONGEST_STOP_S + (LONGEST_SILENCE_S if how == "silent" else 0)
    set_user(redis_server, USER, PASSWORD, *EVERYTHING)
    started = server(user=USER, password=PASSWORD)
    peer.wait_settled(peer.push("echo", "before"))
    started.wait_idle()
    if not idle:
        job = peer.job("echo", "left behind")
        hold = proxy.hold(matches.command(job))
        peer.push_job(job)
        hold.wait()

    lose(how, redis_server, proxy)
    if how == "forbidden":
        hold.release()
    try:
        started.terminate()
        status = Process.wait_exit(started, longest_s + SLACK_S)
    except Hung as hung:
        fail(
            "server.stop.unreachable",
            expected=f"an exit within {longest_s:g} s",
            got=str(hung),
        )
    finally:
        if how == "gone":
            redis_server.start()
            peer.listen_again()

    require(
        idle or status != 0,
        "server.stop.exit",
        expected="a status other than 0, for a claimed job is still on the list",
        got=started.explain_exit(),
    )


def lose(how: str, redis_server: RedisServer, proxy: Proxy) -> None:
    """Have the server reach Redis no more."""
    if how == "gone":
        redis_server.kill()
    elif how == "refused":
        proxy.refuse("server")
        proxy.drop("server")
    elif how == "forbidden":
        set_user(redis_server, USER, PASSWORD, "-@all")
    else:
        proxy.stop_accepting("server")
        proxy.mute("server")


def terminate(started: ServerProcess) -> None:
    """Send SIGTERM, and let the server act on it."""
    started.terminate()
    started.wait_signal_delivered()


def claims_that_were_sent(proxy: Proxy, hold: Hold, keys: Keys) -> int:
    """How many commands that name the queue are under way: none of them can be called back."""
    queue = keys.queue.encode()
    under_way = [
        event
        for each in proxy.connections
        for event in (each.in_flight, each.held_command)
        if event is not None
        for command in (event, *event.transaction)
        if queue in command.arguments
    ]
    return len(under_way) + hold.waiting


def wait_exit(started: ServerProcess) -> int:
    """The exit status."""
    try:
        return started.wait_exit()
    except Hung as hung:
        fail("server.stop.exit", expected="an exit after SIGTERM", got=str(hung))


def require_status_0(started: ServerProcess) -> None:
    """The server has exited as it has to."""
    status = wait_exit(started)
    require(status == 0, "server.stop.exit", expected="the status 0", got=started.explain_exit())


def require_drained(peer: Peer, redis: Redis, started: ServerProcess, jobs: list[Job]) -> None:
    """Nothing is left on the in-process list, and each job is answered or waits in the queue."""
    listed = redis.lrange(started.in_process, 0, -1)
    lost = [job for job in jobs if not peer.results(job) and job.message not in peer.waiting()]
    require(
        not lost and not listed,
        "server.stop.drains",
        expected="every claimed job answered and removed, or returned to the queue",
        got=f"{len(lost)} claimed jobs that are neither answered nor in the queue,"
        f" and {len(listed)} messages on the in-process list: {listed}",
    )
