"""Which job a server claims next, by what move, and onto which list."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.peer.steps import steps
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.verdicts import require


@pytest.mark.requirement("server.claim.order")
@pytest.mark.dimensions(occasion="again")
def test_the_oldest_job_leaves_the_queue_first(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """At every answer, what still waits in the queue is what was pushed last."""
    jobs = [peer.push("echo", number) for number in range(6)]
    pushed = [job.message for job in jobs]

    walk = steps(
        proxy,
        peer,
        matches.command(*jobs),
        lambda: all(peer.results(job) for job in jobs),
        "server.publish.once",
    )
    server()
    for event in walk:
        waiting = redis.lrange(keys.queue, 0, -1)[::-1]
        require(
            waiting == pushed[len(pushed) - len(waiting) :],
            "server.claim.order",
            expected=f"the jobs pushed last, the oldest first: a tail of {pushed}",
            got=f"{waiting}, before {event.arguments[0]!r}",
        )


@pytest.mark.requirement("server.claim.atomic")
@pytest.mark.dimensions(occasion="again", moment="outstanding")
def test_a_claim_moves_the_job_to_the_left_end(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """A claimed job stands at the left end of the in-process list, left of what lay there."""
    first, neighbour, second = peer.push("echo", 1), peer.job("echo", 2), peer.job("echo", 3)
    hold_first, hold_second = (
        proxy.hold(matches.command(first)),
        proxy.hold(matches.command(second)),
    )
    started = server()
    hold_first.wait()
    redis.rpush(started.in_process, neighbour.message)
    peer.push_job(second)
    hold_first.release()

    hold_second.wait()
    listed = redis.lrange(started.in_process, 0, -1)

    require(
        listed[:1] == [second.message] and not redis.exists(keys.queue),
        "server.claim.atomic",
        expected=f"{second.message!r} at the left end, and nowhere else",
        got=f"in-process: {listed}, queue: {redis.lrange(keys.queue, 0, -1)}",
    )


@pytest.mark.requirement("server.claim.atomic")
@pytest.mark.dimensions(moment="outstanding", connection=("claims", "held"))
@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "coming"])
def test_a_claimed_job_is_on_a_list_before_the_server_knows_it(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy, *, waits: bool
) -> None:
    """When the reply that carries the job comes back, the job is on the in-process list already."""
    job = peer.job("echo", "claimed")
    hold = proxy.hold(matches.reply(job))
    if waits:
        peer.push_job(job)
    started = server()
    if not waits:
        started.wait_idle()
        peer.push_job(job)
    hold.wait()
    places = (redis.lrange(keys.queue, 0, -1), redis.lrange(started.in_process, 0, -1))
    answered = peer.results(job)

    require(
        answered or places == ([], [job.message]),
        "server.claim.atomic",
        expected="the job on the in-process list alone",
        got=f"queue {places[0]}, in-process {places[1]}",
    )


@pytest.mark.requirement("server.list.own")
@pytest.mark.dimensions(settings="names")
def test_other_lists_are_left_alone(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys
) -> None:
    """Entries of the in-process lists of other processors are neither run nor changed."""
    own = keys.in_process()
    names = {
        f"{keys.queue}:in-process{end}" for end in ("", ":", ":another", ":conformance-11")
    } - {own}
    others = {name: peer.job("echo", name) for name in sorted(names)}
    for name, job in others.items():
        peer.place(job, in_process=name)

    server()
    peer.wait_settled(peer.push("echo", "a job behind"))
    left = {name: redis.lrange(name, 0, -1) for name in others}
    answered = [name for name, job in others.items() if peer.results(job)]

    require(
        not answered and left == {name: [job.message] for name, job in others.items()},
        "server.list.own",
        expected="the others' jobs where they were, unanswered",
        got=f"answered {answered}, left {left}",
    )


@pytest.mark.requirement("server.list.own")
@pytest.mark.dimensions(moment="outstanding", connection=("publishing", "held"))
def test_a_job_that_another_server_runs_is_left_alone(
    server: StartServer, peer: Peer, redis: Redis, proxy: Proxy
) -> None:
    """A second server that starts neither runs nor removes what the first one runs."""
    job = peer.push("echo", "running")
    hold = proxy.hold(matches.command(job), who="one")
    first = server("one")
    hold.wait()

    second = server("two")
    second.wait_idle()
    listed, answered = redis.lrange(first.in_process, 0, -1), peer.results(job)
    second.kill()
    hold.release()
    peer.wait_settled(job)

    require(
        listed == [job.message] and not answered,
        "server.list.own",
        expected="the job on the first server's list, unanswered",
        got=f"{listed} there, {len(answered)} results",
    )


@pytest.mark.requirement("server.list.stable")
@pytest.mark.dimensions(occasion="restart", repetition="faults")
def test_the_list_is_the_same_after_a_restart(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """A server that is killed and started again claims onto the list that it used before."""
    used = []
    for life in range(3):
        job = peer.push("echo", life)
        hold = proxy.hold(matches.command(job))
        started = server()
        hold.wait()
        lists = {
            key for key in redis.scan_iter(_type="list") if job.message in redis.lrange(key, 0, -1)
        }
        used.append(lists - {keys.queue.encode()})
        started.kill()
        hold.release()
        for key in lists:
            redis.delete(key)

    require(
        used[0] and len(set(map(frozenset, used))) == 1,
        "server.list.stable",
        expected="one list in three lives",
        got=used,
    )


@pytest.mark.requirement("server.list.lasting")
@pytest.mark.dimensions(occasion="again", moment="outstanding")
def test_no_list_is_given_a_time_to_live(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """Before each command about a job, a dead message among them, no list of the queue has a time to live."""
    dead = b'{"method": "echo", "id": "no channel"}'
    jobs = [peer.job("echo", number) for number in range(3)]
    peer.push_message(jobs[0].message, dead, *(job.message for job in jobs[1:]))

    about = matches.command(*jobs)
    walk = steps(proxy, peer, about, lambda: all(map(peer.results, jobs)), "server.publish.once")
    started = server()
    lists = (keys.queue, started.in_process, keys.dead)
    living: dict[str, int] = {}
    for _ in walk:
        living |= {key: left for key in lists if (left := redis.ttl(key)) >= 0}
    peer.wait_gone(dead, requirement="server.dead.removed")
    living |= {key: left for key in lists if (left := redis.ttl(key)) >= 0}

    require(
        not living,
        "server.list.lasting",
        expected="lists that Redis never deletes",
        got=f"seconds left: {living}",
    )
