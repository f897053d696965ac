"""What a starting server does with entries of its in-process list that no server is running."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import REPLY, Event
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import require

PATIENCE_S = 1.0  # in which a server that runs several jobs at once sends a second answer


@pytest.mark.requirement("server.recovery.order", "server.recovery.first")
@pytest.mark.dimensions(size="8", occasion="restart")
def test_the_list_is_run_oldest_first_and_before_the_queue(
    server: StartServer, peer: Peer, proxy: Proxy
) -> None:
    """A restart answers the entries of its list from the right end on, then the jobs of the queue."""
    left = [peer.job("echo", f"claimed {n}") for n in range(12)]
    peer.place(*left)
    left.append(peer.push("echo", "queued"))
    queued = left[-1]

    hold = proxy.hold(matches.command(*left))
    server()
    while left:
        peer.wait(
            lambda: hold.event or all(peer.results(job) for job in left),  # noqa: B023 - asked in this turn only
            "server.recovery.first",
            "an answer",
        )
        event = hold.event
        if event is None:
            break
        oldest, *others = left
        require(
            event.carries(oldest.id) or another_answer_comes(proxy, event, left),
            "server.recovery.first" if event.carries(queued.id) else "server.recovery.order",
            expected=f"an answer to the oldest, {oldest.parameters!r}, first",
            got=[job.parameters for job in others if event.carries(job.id)],
        )
        left = [job for job in left if not event.carries(job.id)]
        held, hold = hold, proxy.hold(matches.command(*left))
        held.release()


@pytest.mark.requirement("server.recovery.first")
@pytest.mark.dimensions(occasion="restart")
def test_nothing_is_claimed_before_the_list_was_looked_at(
    server: StartServer, peer: Peer, proxy: Proxy
) -> None:
    """When the first job leaves the queue, the server has read everything that lay on its list."""
    placed = [peer.job("echo", n) for n in range(3)]
    peer.place(*placed)
    queued = peer.push("echo", "queued")
    hold = proxy.hold(lambda event: event.kind == REPLY and queued.id.encode() in event.frame)
    server()

    hold.wait()
    read = [
        job.parameters
        for job in placed
        if any(each.kind == REPLY and job.id.encode() in each.frame for each in proxy.events)
    ]

    require(
        read == [job.parameters for job in placed],
        "server.recovery.first",
        expected="every entry of the list read before the first claim",
        got=f"only {read} read",
    )


@pytest.mark.requirement("server.recovery.first")
@pytest.mark.dimensions(occasion="restart", repetition="messages")
def test_identical_entries_are_all_recovered(server: StartServer, peer: Peer) -> None:
    """Two entries with the same bytes, dead ones and unusual ones leave the list, and the jobs are answered."""
    job = peer.job("echo", "twice")
    other = peer.job("echo", "once")
    dead = Job(b"no JSON", "", "")
    peer.place(job, dead, other, job, dead)

    server()

    peer.result(job, "server.recovery.first")
    peer.result(other, "server.recovery.first")
    peer.wait_gone(job.message, other.message, dead.message, requirement="server.recovery.first")


@pytest.mark.requirement("server.recovery.first", "server.publish.before-remove")
@pytest.mark.dimensions(occasion=("restart", "recovery"), repetition="faults")
def test_a_crash_during_recovery_loses_nothing(
    server: StartServer, peer: Peer, redis: Redis, proxy: Proxy
) -> None:
    """A server that dies at its first answer, again and again, leaves the rest on the list for the next life."""
    jobs = [peer.job("echo", n) for n in range(3)]
    peer.place(*jobs)
    for _ in range(2):
        hold = proxy.hold(matches.command(*jobs))
        started = server()
        hold.wait()
        listed = redis.lrange(started.in_process, 0, -1)
        lost = [job for job in jobs if job.message not in listed and not peer.results(job)]
        require(
            not lost,
            "server.publish.before-remove",
            expected="every unanswered entry still on the list",
            got=f"{[job.parameters for job in lost]} are gone",
        )
        started.kill()
        hold.release()

    server()

    for job in jobs:
        peer.result(job, "server.recovery.first")
    peer.wait_gone(*(job.message for job in jobs), requirement="server.recovery.first")


@pytest.mark.requirement("server.remove.only", "server.recovery.first")
@pytest.mark.dimensions(occasion="restart", moment="outstanding")
def test_what_is_found_on_the_list_stays_there_until_it_is_answered(
    server: StartServer, peer: Peer, redis: Redis, proxy: Proxy
) -> None:
    """A server that has read its list, and is about to answer the first entry, has left the others on it."""
    jobs = [peer.job("echo", n) for n in range(4)]
    peer.place(*jobs)
    hold = proxy.hold(matches.command(*jobs))
    started = server()

    hold.wait()
    listed = redis.lrange(started.in_process, 0, -1)
    gone = [job.parameters for job in jobs if job.message not in listed and not peer.results(job)]
    hold.release()

    require(
        not gone,
        "server.remove.only",
        expected="every entry that isn't answered yet on the list",
        got=f"{gone} are gone",
    )
    peer.wait_settled(*jobs)


@pytest.mark.requirement("server.recovery.first")
@pytest.mark.dimensions(size="100", occasion="restart")
def test_two_servers_share_a_queue_of_which_one_is_killed(server: StartServer, peer: Peer) -> None:
    """Of 200 jobs that two servers share, each has its result, though one is killed and comes back."""
    jobs = [peer.push("echo", number) for number in range(200)]
    _, victim = server("lasting"), server("victim")

    peer.result(jobs[20])
    victim.kill()
    jobs += [peer.push("echo", number) for number in range(200, 220)]
    peer.result(jobs[-1])
    server("victim")

    for job in jobs:
        peer.result(job, "server.recovery.first")
    peer.wait_gone(*(job.message for job in jobs), requirement="server.recovery.first")


def another_answer_comes(proxy: Proxy, first: Event, jobs: list[Job]) -> bool:
    """Whether the server answers another job while the first answer is held: then their order is open."""
    second = proxy.hold(matches.command(*(job for job in jobs if not first.carries(job.id))))
    came = proxy.notifier.happens_while_held(lambda: second.event, PATIENCE_S) is not None
    proxy.forget(second)
    second.release()
    return came
