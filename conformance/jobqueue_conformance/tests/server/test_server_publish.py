"""Where a server publishes, how often, in what order with the removal, and what it does when Redis refuses."""

from functools import partial

import pytest
from redis import Redis

from jobqueue_conformance.peer.observer import Observer
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.steps import steps
from jobqueue_conformance.programs.manager import still_running
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import Event
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.redis_servers.acl import EVERYTHING, PASSWORD, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.vectors import job as job_of
from jobqueue_conformance.spec.vectors import vectors
from jobqueue_conformance.spec.verdicts import Unmet, Unsupported, require

TWICE_T_S = 2.0
AT_ONCE_MS = 200  # how long each of two jobs runs that run at once
TIMES = 4
PATIENCE_S = 1.0  # in which a server that removes by a command of its own has sent it
USER = "confined"


@pytest.mark.requirement("server.publish.channel")
@pytest.mark.dimensions(occasion="again", settings="names")
def test_each_result_goes_to_its_own_jobs_channel(
    server: StartServer, peer: Peer, keys: Keys
) -> None:
    """Jobs of several clients are answered on the channel that each names, and nothing is published elsewhere."""
    unusual = ["x", "elsewhere:é😀 *[a-z]?\\", "0", "UPPER:Case", " padded\t", "padded", keys.queue]
    # Alike, or the same where texts are normalized, or end at a NUL or a line.
    unusual += ["e\u0301", "\u00e9", "\ufb01", "fi", "fi\0", "fi\n", "fi\r\nx"]
    channels = [keys.channel(), keys.channel(), *unusual]
    server()

    jobs = [peer.push("echo", channel, channel=channel) for channel in channels * 2]
    for job in jobs:
        peer.result(job, "server.publish.channel")
    peer.wait_settled(*jobs)
    got = sorted(message.channel for message in peer.messages())

    require(
        got == sorted(channels * 2),
        "server.publish.channel",
        expected=f"one result on the channel of each job: {sorted(channels * 2)}",
        got=got,
    )


@pytest.mark.requirement("server.publish.channel", "server.publish.once")
@pytest.mark.dimensions(repetition="ids", moment="outstanding", settings="several handlers")
def test_two_clients_may_use_the_same_id(server: StartServer, peer: Peer, keys: Keys) -> None:
    """Jobs of two clients that share an id are two jobs, also at once, and each channel gets the result of its own."""
    clients = ("first", "second")
    server(concurrency=2)

    jobs = [
        peer.push("wait", {"ms": AT_ONCE_MS, "of": each}, channel=keys.channel(), id="the-same")
        for each in clients
    ]
    peer.wait_gone(*(job.message for job in jobs), requirement="server.remove.finished")
    heard = peer.messages()
    got = [[(each.get("result") or {}).get("of") for each in peer.received(job)] for job in jobs]

    require(
        len(heard) >= len(jobs),
        "server.publish.once",
        expected="a result for each of the two jobs",
        got=heard,
    )
    require(
        got == [[each] for each in clients],
        "server.publish.channel",
        expected="on each client's channel the value of its own job, once",
        got=got,
    )


@pytest.mark.requirement("server.publish.in-order")
@pytest.mark.dimensions(moment="outstanding", handler="late")
def test_one_at_a_time_keeps_the_order(
    server: StartServer, peer: Peer, implementation: Implementation
) -> None:
    """A server that runs one handler at a time answers in the order of its claims, however long each takes."""
    server(concurrency=1)
    slow = "wait" if {"recovery", "concurrency"} & implementation.features else "echo"

    jobs = [peer.push(slow, {"ms": ms}) for ms in (60, 0, 30, 0, 10, 0)]
    peer.wait_settled(*jobs)
    heard = [message.data.decode() for message in peer.messages()]
    order = [job.parameters["ms"] for data in heard for job in jobs if job.id in data]

    require(
        order == [job.parameters["ms"] for job in jobs],
        "server.publish.in-order",
        expected="results in the order of the push",
        got=order,
    )


@pytest.mark.requirement("server.publish.once")
@pytest.mark.dimensions(occasion="again", handler="exception")
def test_a_run_has_one_result(
    server: StartServer, peer: Peer, implementation: Implementation
) -> None:
    """Whether a job succeeds, fails or can't be run, one result is published for it."""
    server()
    unrun = [job_of(vector) for vector in vectors("jobs", "invalid-job", "method-not-found")]
    takes_time = {"recovery", "concurrency"} & implementation.features

    jobs = [peer.push(method, {"message": "no"}) for method in ("echo", "fail", "unknown") * 3]
    jobs += [peer.push("echo", None), *(peer.push("wait", {"ms": 30}) for _ in takes_time)]
    peer.push_job(*unrun)
    peer.wait_settled(*jobs, *unrun)
    peer.messages()  # hears all that has been published
    counts = {job.id: len(peer.received(job)) for job in (*jobs, *unrun)}

    require(
        set(counts.values()) == {1},
        "server.publish.once",
        expected="one result for each job",
        got={name: count for name, count in counts.items() if count != 1},
    )


@pytest.mark.requirement("server.publish.once")
@pytest.mark.dimensions(occasion="again", caller="gone")
def test_a_result_that_nobody_hears_is_published_once(
    server: StartServer, peer: Peer, observer: Observer, redis: Redis, redis_server: RedisServer
) -> None:
    """However few are subscribed to a job's channel, one PUBLISH is executed for it."""
    if not redis_server.private:
        raise Unsupported("others may publish on the user's own Redis")
    server()
    peer.wait_settled(peer.push("echo", "somebody listens"))
    observer.close()
    redis.config_resetstat()

    job = peer.push("echo", "nobody listens")
    peer.wait_gone(job.message, requirement="server.remove.finished")
    executed = redis.info("commandstats").get("cmdstat_publish", {}).get("calls", 0)

    require(
        executed == 1,
        "server.publish.once",
        expected="one PUBLISH, in whatever script or transaction",
        got=f"{executed}",
    )


@pytest.mark.requirement("server.publish.before-remove")
@pytest.mark.dimensions(occasion="again", moment="outstanding", handler="exception")
def test_an_unanswered_job_stays_on_its_list(
    server: StartServer, peer: Peer, redis: Redis, proxy: Proxy
) -> None:
    """Before each command about a claimed job, it is on the in-process list, or has been answered."""
    started = server()

    for method in ("echo", "fail", "unknown", ""):
        job = peer.job(method, {"message": "published first"})
        about = matches.command(job)
        walk = steps(proxy, peer, about, lambda: peer.results(job), "server.publish.once")  # noqa: B023 - asked in this turn only
        peer.push_job(job)
        for event in walk:
            listed = redis.lrange(started.in_process, 0, -1)
            require(
                job.message in listed or peer.results(job),
                "server.publish.before-remove",
                expected="the job on the in-process list until its result is published",
                got=f"a job that is neither listed nor answered, before {event.arguments[0]!r}",
            )
        peer.wait_settled(job)


@pytest.mark.requirement("server.publish.again")
@pytest.mark.dimensions(occasion="reconnect", connection=("publishing", "cut"), repetition="faults")
def test_a_result_that_never_reached_redis_is_published_again(
    server: StartServer, peer: Peer, proxy: Proxy
) -> None:
    """A job whose PUBLISH was lost with its connection, again and again, is answered without being pushed again."""
    server()
    job = peer.job("echo", "published again")
    hold = proxy.hold(matches.command(job))
    peer.push_job(job)

    for _ in range(TIMES):
        peer.wait(lambda: hold.event, "server.publish.again", "an answer to the job", job)  # noqa: B023 - asked in this turn only
        held, hold = hold, proxy.hold(matches.command(job))
        held.drop()
    proxy.forget(hold)
    hold.release()

    peer.result(job, "server.publish.again")
    peer.wait_gone(job.message, requirement="server.remove.finished")
    peer.result(peer.push("echo", "behind"), "server.connection.survives")


@pytest.mark.requirement("server.publish.again")
@pytest.mark.dimensions(occasion="reconnect", connection=("publishing", "held", "cut"))
def test_a_job_whose_publish_was_never_confirmed_leaves_its_list(
    server: StartServer, peer: Peer, proxy: Proxy
) -> None:
    """A job whose PUBLISH happened, but whose reply was lost, is answered or run again, and then removed."""
    server()
    job = peer.job("echo", "unconfirmed")
    hold = proxy.hold(lambda event: event.answers is not None and event.answers.carries(job.id))
    peer.push_job(job)
    hold.wait()

    hold.drop()

    peer.result(job, "server.publish.again")
    peer.wait_gone(job.message, requirement="server.publish.again")
    peer.results(job)  # which looks at every value


@pytest.mark.requirement("server.remove.again", "server.publish.again")
@pytest.mark.dimensions(
    occasion="again",
    moment=("after T", "after the second look"),
    connection=("publishing", "cut"),
    repetition="faults",
)
@pytest.mark.waits(3)
def test_a_removal_that_never_reached_redis_is_made_good(
    server: StartServer, peer: Peer, proxy: Proxy
) -> None:
    """A job whose removal is lost with its connection, again and again, leaves the list, also late in a connection."""
    started = server()
    peer.wait_settled(peer.push("echo", "before"))
    proxy.notifier.pass_time(TWICE_T_S)  # until no look is due any more
    job = peer.job("echo", "removed late")
    about, key = matches.command(job), started.in_process.encode()

    def removes(event: Event) -> bool:
        commands = event.transaction or (event,)
        return about(event) and any(key in each.arguments for each in commands)

    hold = proxy.hold(removes)
    peer.push_job(job)
    for _ in range(TIMES):
        peer.wait(lambda: hold.event, "server.remove.again", "the removal of the job", job)  # noqa: B023 - asked in this turn only
        held, hold = hold, proxy.hold(removes)
        held.drop()
    proxy.forget(hold)
    hold.release()

    peer.result(job, "server.publish.again")
    peer.wait_gone(job.message, requirement="server.remove.again")


@pytest.mark.requirement("server.publish.refused")
@pytest.mark.dimensions(connection=("publishing", "held", "cut"), answer="error", settings="rights")
def test_a_refused_publish_leaves_the_job_where_it_is(
    server: StartServer, peer: Peer, redis: Redis, redis_server: RedisServer, proxy: Proxy
) -> None:
    """When Redis has refused a PUBLISH, whatever travels behind it leaves the job on the in-process list."""
    set_user(redis_server, USER, PASSWORD, *EVERYTHING, "resetchannels", "&allowed:*")
    started = server(user=USER, password=PASSWORD)
    job = peer.job("echo", "refused", channel="forbidden:1")
    hold = proxy.hold(lambda event: event.frame[:1] == b"-" and event.carries(job.id))
    peer.push_job(job)
    hold.wait()
    proxy.notifier.happens_by_the_clock(lambda: hold.waiting, PATIENCE_S)

    proxy.stop_accepting()
    hold.drop(deliver=True)
    listed = redis.lrange(started.in_process, 0, -1)
    proxy.accept_again()

    require(
        listed == [job.message],
        "server.publish.refused",
        expected="the job on the in-process list, once its refused PUBLISH and all behind it have arrived",
        got=listed,
    )


@pytest.mark.requirement("server.publish.noperm", "server.dead-list.keeps")
@pytest.mark.dimensions(answer="error", settings="rights")
@pytest.mark.parametrize("rights", [(), ("-multi", "-exec")], ids=["all", "no-transactions"])
def test_a_job_on_a_forbidden_channel_is_kept(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    rights: tuple[str, ...],
) -> None:
    """A job on whose channel Redis forbids to publish is on the dead list, byte for byte."""
    set_user(redis_server, USER, PASSWORD, *EVERYTHING, *rights, "resetchannels", "&allowed:*")
    server(user=USER, password=PASSWORD)
    try:
        peer.result(peer.push("echo", "allowed", channel="allowed:1"))
    except Unmet as error:
        if rights:
            raise Unsupported("the server needs the MULTI that section 12 grants it") from error
        raise

    forbidden = peer.push("echo", "kept", channel="forbidden:1")
    peer.wait_gone(forbidden.message, requirement="server.publish.noperm")
    dead = redis.lrange(keys.dead, 0, -1)

    require(
        dead == [forbidden.message],
        "server.dead-list.keeps",
        expected=f"{[forbidden.message]} on the dead list",
        got=dead,
    )


@pytest.mark.requirement("server.publish.noperm", "server.publish.once")
@pytest.mark.dimensions(occasion="again", answer="error", settings="rights", repetition="faults")
def test_a_job_on_a_forbidden_channel_is_dead(
    server: StartServer, peer: Peer, redis_server: RedisServer
) -> None:
    """Jobs on a forbidden channel leave the list; one on a similar channel, and a later one that may, are answered."""
    set_user(redis_server, USER, PASSWORD, *EVERYTHING, "resetchannels", "&*:allowed")
    server(user=USER, password=PASSWORD)

    forbidden = [peer.push("echo", n, channel="forbidden:1") for n in range(3)]
    similar = peer.push("echo", "similar", channel="forbidden:1:allowed")
    peer.result(similar, "server.publish.noperm")
    peer.wait_gone(*(job.message for job in forbidden), requirement="server.publish.noperm")

    set_user(redis_server, USER, PASSWORD, "allchannels")
    peer.result(peer.push("echo", "later", channel="forbidden:1"), "server.publish.once")


@pytest.mark.requirement("server.publish.forbidden-command")
@pytest.mark.dimensions(occasion="again", answer="error", settings="rights")
def test_a_job_is_not_dead_because_publish_is_forbidden(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
) -> None:
    """A job that is refused because the server may not use PUBLISH at all is answered once it may."""
    set_user(redis_server, USER, PASSWORD, *EVERYTHING)
    started = server(user=USER, password=PASSWORD)
    peer.wait_settled(peer.push("echo", "before"))
    set_user(redis_server, USER, PASSWORD, "-publish")

    job = peer.job("echo", "kept")
    refused = proxy.hold(lambda event: event.frame[:1] == b"-" and event.carries(job.id))
    peer.push_job(job)
    proxy.notifier.wait(lambda: refused.event or not started.running, "Redis to refuse PUBLISH")
    refused.release()
    proxy.notifier.happens(lambda: not started.running or redis.exists(keys.dead), PATIENCE_S)
    set_user(redis_server, USER, PASSWORD, "+publish")
    again = partial(server, user=USER, password=PASSWORD)
    started = still_running(started, again, "server.publish.forbidden-command")

    kept = job.message in (*peer.waiting(), *redis.lrange(started.in_process, 0, -1))
    require(
        kept or peer.results(job),
        "server.publish.forbidden-command",
        expected="a job that is still to be answered",
        got=f"a job that is not, and {redis.lrange(keys.dead, 0, -1)} on the dead list",
    )
    peer.result(job, "server.publish.forbidden-command")
