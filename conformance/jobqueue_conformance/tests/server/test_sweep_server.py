"""The fault sweep of a server: a job is hit at each of its boundaries, by every fault that the protocol knows."""

import pytest

from jobqueue_conformance.proxy.proxy import How
from jobqueue_conformance.spec.verdicts import require
from jobqueue_conformance.sweep.server import ServerSweep
from jobqueue_conformance.sweep.server_faults import Rejection, ServerFaults


@pytest.mark.requirement(
    "server.claim.atomic",
    "server.publish.before-remove",
    "server.publish.once",
    "server.remove.finished",
    "server.list.own",
)
@pytest.mark.dimensions(
    occasion="again", moment="outstanding", connection=("claims", "publishing", "held")
)
def test_a_job_is_somewhere_at_every_boundary(server_sweep: ServerSweep) -> None:
    """The server has each job in the queue, on its list, or answered, at every moment."""
    jobs = [server_sweep.peer.job("echo", number) for number in range(6)]
    listed = jobs[:3] if "recovery" in server_sweep.features else []
    server_sweep.peer.place(*listed)
    server_sweep.peer.push_job(*jobs[len(listed) :])

    server_sweep.look_everywhere(jobs)

    for job in jobs:
        results = server_sweep.peer.results(job)
        require(len(results) == 1, "server.publish.once", expected="one result", got=results)
    server_sweep.check_others()


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.requirement(
    "server.connection.survives",
    "server.publish.again",
    "server.recovery.reconnect",
    "server.list.own",
)
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("claims", "publishing", "cut"),
    repetition="faults",
)
def test_a_lost_connection_costs_no_job(server_sweep: ServerSweep, how: How) -> None:
    """The server connects again, whichever boundary its connection is lost at, and answers the job."""
    server_sweep.start()
    for attempt in server_sweep.attempts("server.claim.atomic"):
        job = server_sweep.push_while_idle(attempt)

        if server_sweep.reached(attempt, job):
            attempt.drop(how)

        server_sweep.settle(job, stranded="server.recovery.reconnect")
    server_sweep.check_others()


@pytest.mark.requirement("server.connection.survives")
@pytest.mark.dimensions(occasion="reconnect", connection=("all", "cut"), repetition="faults")
def test_a_connection_lost_in_its_handshake_is_made_again(
    server_sweep: ServerSweep, server_faults: ServerFaults
) -> None:
    """The server connects again where the connection is lost before it has named the queue."""
    server_sweep.start()
    for attempt in server_faults.handshakes():
        attempt.drop()

        job = server_sweep.peer.push("echo", attempt.number)
        server_sweep.settle(job, stranded="server.run.goes-on")


@pytest.mark.parametrize("copies", [0, 1, 2], ids=["queued", "listed", "listed-twice"])
@pytest.mark.requirement(
    "server.recovery.first", "server.list.stable", "server.publish.before-remove", "server.list.own"
)
@pytest.mark.dimensions(occasion="restart", moment="outstanding", repetition=("faults", "messages"))
def test_a_crash_costs_no_job(server_sweep: ServerSweep, copies: int) -> None:
    """The server, killed at any boundary and started again, does what the crash table says."""
    for attempt in server_sweep.attempts("server.claim.atomic"):
        job = server_sweep.peer.job("echo", {"boundary": attempt.number})
        server_sweep.start_on(attempt, job, copies)

        if server_sweep.reached(attempt, job):
            server_sweep.kill(attempt)
            crash = server_sweep.held(job)
            server_sweep.start()
            server_sweep.settle_after_crash(job, crash)
    server_sweep.check_others()


@pytest.mark.requirement("server.recovery.first", "server.dead-list.keeps", "server.dead.removed")
@pytest.mark.dimensions(occasion="restart", moment="outstanding", repetition="faults")
def test_a_crash_costs_no_dead_message(server_sweep: ServerSweep) -> None:
    """The server, killed while it moves a message to the dead list and started again, keeps a copy of it."""
    for attempt in server_sweep.attempts("server.claim.atomic"):
        message = server_sweep.dead_message()
        server_sweep.start_on(attempt, message, copies=0)

        if server_sweep.reached(attempt, message):
            server_sweep.kill(attempt)
            crash = server_sweep.held(message)
            server_sweep.start()
            server_sweep.settle_after_crash(message, crash)


@pytest.mark.requirement(
    "server.connection.survives",
    "server.publish.again",
    "server.recovery.reconnect",
    "server.list.own",
)
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "cut", "refused"),
    repetition="faults",
)
def test_a_restart_of_redis_costs_no_job(
    server_sweep: ServerSweep, server_faults: ServerFaults
) -> None:
    """The server answers the job although Redis dies at any boundary and comes back with its data."""
    server_faults.keep_data()
    server_sweep.start()
    for attempt in server_sweep.attempts("server.claim.atomic"):
        job = server_sweep.push_while_idle(attempt)

        if server_sweep.reached(attempt, job):
            server_faults.restart_redis(attempt)

        server_sweep.settle(job, stranded="server.recovery.reconnect")
    server_sweep.check_others()


@pytest.mark.requirement("server.stop.drains", "server.stop.exit", "server.stop.no-claim")
@pytest.mark.dimensions(occasion="stop", moment="outstanding")
def test_a_stop_leaves_nothing_behind(
    server_sweep: ServerSweep, server_faults: ServerFaults
) -> None:
    """The server, stopped at any boundary, finishes what it has claimed, claims no more, and exits with 0."""
    for attempt in server_sweep.attempts("server.claim.atomic"):
        server_sweep.start()
        job = server_sweep.push_while_idle(attempt)

        if server_sweep.reached(attempt, job):
            server_faults.stop(attempt, job)


@pytest.mark.parametrize("rejection", list(Rejection))
@pytest.mark.requirement(
    "server.publish.refused",
    "server.publish.again",
    "server.remove.finished",
    "server.recovery.reconnect",
    "server.connection.survives",
    "server.list.own",
)
@pytest.mark.dimensions(
    occasion="again",
    moment="outstanding",
    connection=("claims", "publishing"),
    answer=("error", "another error"),
    repetition="faults",
)
def test_a_refusal_costs_no_job(
    server_sweep: ServerSweep, server_faults: ServerFaults, rejection: Rejection
) -> None:
    """The server answers the job when Redis takes commands again, whichever boundary they were refused from."""
    server_faults.start_for(rejection)
    for attempt in server_sweep.attempts("server.claim.atomic"):
        job = server_sweep.push_while_idle(attempt)

        if server_sweep.reached(attempt, job):
            server_faults.reject(attempt, rejection, job)

        server_faults.settle_after(rejection, job)
    server_sweep.check_others()


@pytest.mark.parametrize("late", [False, True], ids=["before-reconnect", "after-rescan"])
@pytest.mark.requirement("server.recovery.reconnect", "server.recovery.second-look")
@pytest.mark.dimensions(
    occasion="reconnect", moment="outstanding", connection=("claims", "half-open")
)
@pytest.mark.waits(5)
def test_a_ghost_pop_costs_no_job(
    server_sweep: ServerSweep, server_faults: ServerFaults, *, late: bool
) -> None:
    """The server answers a job that Redis moved to its list for a connection that was already dead."""
    server_sweep.start(block_ms=3000)  # a dead claim outlives the way back
    server_sweep.settle(server_sweep.peer.push("echo", 0), stranded="server.recovery.reconnect")

    ghost, behind = server_faults.ghost_pop(late=late)

    server_sweep.settle(behind, stranded="server.recovery.reconnect")
    broken = "server.recovery.second-look" if late else "server.recovery.reconnect"
    server_sweep.settle(ghost, stranded=broken)
