"""What a server takes off its in-process list, and what it leaves there."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.observer import Observer
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.vectors import job as job_of
from jobqueue_conformance.spec.vectors import vectors
from jobqueue_conformance.spec.verdicts import require

TIMES = 4


@pytest.mark.requirement("server.remove.exact-bytes")
@pytest.mark.dimensions(occasion="again")
def test_oddly_spelled_jobs_leave_the_list(server: StartServer, peer: Peer) -> None:
    """However a job is spelled, it is removed when it has been answered."""
    server()
    jobs = [job_of(vector) for vector in vectors("jobs", "run", "invalid-job", "method-not-found")]

    peer.push_job(*jobs)
    for job in jobs:
        peer.result(job)
    for job in jobs:
        peer.wait(
            lambda each=job: each.message not in peer.waiting(),  # type: ignore[misc] # a default's type
            "server.remove.exact-bytes",
            f"the job {job.id} off the in-process list",
        )


@pytest.mark.requirement("server.remove.finished")
@pytest.mark.dimensions(occasion="again", handler="exception")
def test_answered_jobs_leave_the_list(server: StartServer, peer: Peer, redis: Redis) -> None:
    """Every job is gone once it is answered, whether by a value or by an error."""
    started = server()

    jobs = [peer.push(method, {"message": "x"}) for method in ("echo", "fail", "unknown", "") * 5]
    for job in jobs:
        peer.result(job)

    peer.wait_gone(*(job.message for job in jobs), requirement="server.remove.finished")
    require(
        not redis.exists(started.in_process),
        "server.remove.finished",
        expected="no in-process list",
        got=redis.lrange(started.in_process, 0, -1),
    )


@pytest.mark.requirement("server.remove.finished")
@pytest.mark.dimensions(occasion="again", caller="gone")
def test_a_result_needs_no_listener(server: StartServer, peer: Peer, observer: Observer) -> None:
    """A job is removed although nobody is subscribed to its channel."""
    server()
    peer.wait_settled(peer.push("echo", "somebody listens"))
    observer.close()

    job = peer.push("echo", "nobody listens")

    peer.wait_gone(job.message, requirement="server.remove.finished")


@pytest.mark.requirement("server.remove.only")
@pytest.mark.dimensions(moment="outstanding", repetition="ids")
@pytest.mark.parametrize("end", ["left", "right"])
def test_neighbours_on_the_list_stay(
    server: StartServer, peer: Peer, redis: Redis, proxy: Proxy, end: str
) -> None:
    """Entries on either side of a job stay on the list when it is removed, or are answered themselves."""
    started = server()
    job = peer.job("echo", "the job")
    # Each differs from the job in one point that a careless removal overlooks.
    neighbours = {
        "the id on another channel": peer.job(
            "echo", "other", id=job.id, channel=job.channel + "x"
        ),
        "the parameters under another id": peer.job("echo", "the job"),
        "other bytes": peer.job("echo", "neighbour"),
    }
    spaced = Job(job.message + b" ", job.id, job.channel, job.method, job.parameters)
    hold = proxy.hold(matches.command(job))
    peer.push_job(job)
    hold.wait()
    add = redis.lpush if end == "left" else redis.rpush
    for each in (spaced, *neighbours.values()):
        add(started.in_process, each.message)

    hold.release()
    peer.wait_settled(job)
    peer.wait_settled(peer.push("echo", "behind"))
    left = redis.lrange(started.in_process, 0, -1)
    lost = [
        what
        for what, each in neighbours.items()
        if not (left.count(each.message) or peer.results(each))
    ]

    require(
        not lost and (left.count(spaced.message) or len(peer.results(job)) > 1),
        "server.remove.only",
        expected="every other entry on the list, or answered",
        got=f"lost: {lost or 'the same job with another white space'}",
    )


@pytest.mark.requirement("server.remove.only")
@pytest.mark.dimensions(occasion="again", repetition="messages")
def test_identical_jobs_in_the_queue_are_answered_one_by_one(
    server: StartServer, peer: Peer
) -> None:
    """The removal of a job leaves an identical one in the queue, which is answered in its turn."""
    job = peer.job("echo", "twice")
    peer.push_job(job, job)

    server()
    peer.wait_settled(job)
    peer.wait_settled(peer.push("echo", "behind"))
    results = peer.results(job)

    require(
        len(results) == 2,
        "server.remove.only",
        expected="two results of a job that was pushed twice",
        got=f"{len(results)}",
    )


@pytest.mark.requirement("server.remove.only")
def test_other_keys_are_left_alone(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys
) -> None:
    """A server that starts and answers changes no key that isn't its own."""
    foreign = {
        f"{keys.queue}{end}": f"foreign {end}".encode()
        for end in (":dead", "2", ":", ":in-process:x")
    }
    for key, entry in foreign.items():
        redis.rpush(key, entry, entry)

    server()
    peer.wait_settled(*(peer.push(method, None) for method in ("echo", "fail", "unknown")))
    found = {key: redis.lrange(key, 0, -1) for key in foreign}

    require(
        found == {key: [entry, entry] for key, entry in foreign.items()},
        "server.remove.only",
        expected="every other list as it was",
        got=found,
    )


@pytest.mark.requirement("server.remove.gone")
@pytest.mark.dimensions(
    occasion="again", moment="outstanding", answer="nothing", repetition="faults"
)
def test_an_entry_that_was_removed_by_hand_is_no_fault(
    server: StartServer, peer: Peer, redis: Redis, proxy: Proxy
) -> None:
    """A server whose removal finds nothing, again and again, answers the next job."""
    started = server()
    for _ in range(TIMES):
        job = peer.job("echo", "removed by hand")
        hold = proxy.hold(matches.command(job))
        peer.push_job(job)
        peer.wait(lambda: hold.event, "server.remove.gone", "an answer to the job", job)  # noqa: B023 - asked in this turn only
        redis.delete(started.in_process)
        hold.release()
        peer.result(job, "server.remove.gone")

    for each in [peer.push("echo", n) for n in range(3)]:
        peer.result(each, "server.remove.gone")
