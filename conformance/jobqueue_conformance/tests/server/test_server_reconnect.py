"""What a server that has connected again does about entries of its in-process list, and how long it may look away."""

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import COMMAND, REPLY
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Hung
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.manifest import Implementation
from jobqueue_conformance.spec.messages import Job, read_result
from jobqueue_conformance.spec.verdicts import fail, require

BUSY = 60  # jobs that together take 12 s
LONGEST_T_S = 5.0
LONG_T_MS = 3000
TRIES = 3
SLACK_S = 2.0
LOOKS_AT_A_CONNECT = 2
UNTIL_A_LATER_LOOK_MS = 6000
LISTED = 3
TWICE_T_S = 1.5
RUNNING_MS = (400, 1600, 6400)  # one is long enough for a connection to be lost meanwhile
RUNS_S = 2
ENDS_S = 1.0  # for the shortest of them, and its removal
NOTICED_S = 0.2  # in which a server has noticed the reply to its removal


@pytest.mark.requirement("server.recovery.reconnect", "server.recovery.running")
@pytest.mark.dimensions(
    occasion="reconnect", moment="within T", connection=("claims", "held", "cut")
)
def test_a_job_whose_claim_was_lost_is_recovered(
    server: StartServer, peer: Peer, proxy: Proxy
) -> None:
    """A job that was moved for a connection which died before the reply is run, and so is the next one."""
    server()
    lost = peer.job("echo", "lost")
    hold = proxy.hold(matches.reply(lost))
    peer.push_job(lost)
    hold.wait()

    hold.drop()
    behind = peer.push("echo", "behind")

    peer.result(behind, "server.connection.survives")
    peer.result(lost, "server.recovery.reconnect")
    peer.wait_settled(lost, behind)
    peer.wait_settled(peer.push("echo", "behind all runs of the lost one"))
    require(
        len(peer.results(lost)) == 1,
        "server.recovery.running",
        expected="one result",
        got=f"{len(peer.results(lost))} results",
    )


@pytest.mark.requirement("server.recovery.second-look")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "half-open"),
    settings="long T",
    repetition="faults",
)
@pytest.mark.waits(5)
def test_a_claim_that_outlives_its_connection_strands_nothing(
    server: StartServer, peer: Peer, proxy: Proxy
) -> None:
    """A job that a dead connection's claim takes after the third reconnect is found when T has passed."""
    started = server(block_ms=LONG_T_MS)
    for _ in range(2):
        started.wait_idle()
        proxy.drop("server")
    for _ in range(TRIES):  # a slow machine is back when the lost claim is over
        started.wait_idle()
        proxy.drop("server", half_open=True)
        started.wait_idle()
        if proxy.has_half_open_claim("server"):
            break
    peer.moment_s = LONGEST_T_S + SLACK_S

    job = peer.push("echo", "taken by a ghost")
    behind = peer.push("echo", "behind")
    proxy.hang_up()

    peer.result(behind, "server.connection.survives")
    peer.result(job, "server.recovery.second-look")
    peer.wait_settled(job, behind)


@pytest.mark.requirement("server.recovery.second-look")
@pytest.mark.dimensions(moment=("after T", "outstanding"), handler="late", occasion="restart")
@pytest.mark.waits(3)
def test_a_busy_server_looks_a_second_time(server: StartServer, peer: Peer) -> None:
    """What lands on the list of a server that is never idle is answered before jobs that wait for longer than 5 s."""
    queued = [peer.push("wait", {"ms": 200, "number": n}) for n in range(BUSY)]
    server()
    peer.result(queued[0])
    job = peer.job("echo", "taken by a ghost")
    peer.place(job)

    peer.wait(
        lambda: peer.received(job) or peer.received(queued[-1]),
        "server.recovery.second-look",
        "the result of an entry of the list",
    )
    require(
        bool(peer.received(job)),
        "server.recovery.second-look",
        expected="the entry answered among the jobs of the queue",
        got="the whole queue before it",
    )


@pytest.mark.requirement("server.recovery.stray")
@pytest.mark.dimensions(moment="after the second look", repetition=("faults", "messages"))
@pytest.mark.waits(9)
def test_a_job_that_lands_on_the_list_late_is_found(server: StartServer, peer: Peer) -> None:
    """Jobs that appear on the list of an idle server, new ones and copies of a finished one, are found together."""
    started = server()
    known = peer.push("echo", "known")
    peer.wait_settled(known)
    started.wait_idle()
    peer.moment_s = LONGEST_T_S + SLACK_S

    for n in range(LOOKS_AT_A_CONNECT + 1):
        stray = peer.job("echo", f"stray {n}")
        peer.place(known, stray)
        peer.result(stray, "server.recovery.stray")
        found = len(peer.results(known)) - 1
        require(
            found == n + 1,
            "server.recovery.stray",
            expected=f"{n + 1} results of copies, each of which lay on the list before a job that was found",
            got=found,
        )
        peer.wait_settled(known, stray)


@pytest.mark.requirement("server.recovery.stray", "server.concurrency.parallel")
@pytest.mark.dimensions(
    moment=("after the second look", "outstanding"),
    settings="several handlers",
    repetition="messages",
)
@pytest.mark.waits(9)
def test_a_late_copy_of_a_running_job_is_found(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """A copy of a running job that lands on the list late takes the other handler before a job that landed later."""
    server(concurrency=2).wait_idle()
    peer.moment_s = LONGEST_T_S + SLACK_S
    first = peer.job("echo", "found by the second look")
    peer.place(first)
    peer.result(first, "server.recovery.stray")
    running = peer.push("wait", {"ms": UNTIL_A_LATER_LOOK_MS})
    wait_claimed(peer, redis, keys, proxy, running)

    stray = peer.job("echo", "stray")
    peer.place(running, stray)
    peer.wait(
        lambda: peer.received(stray),
        "server.recovery.stray",
        "a result of the stray job",
        running,
        patience_s=UNTIL_A_LATER_LOOK_MS / 1000,
    )

    require(
        bool(peer.results(running)),
        "server.recovery.stray",
        expected="the later stray job's result when the running job, or its copy, has freed a handler",
        got="it while the running job takes one handler, and its copy none",
    )


@pytest.mark.requirement("server.recovery.reconnect", "server.recovery.order")
@pytest.mark.dimensions(
    occasion=("reconnect", "recovery"), connection=("all", "cut"), repetition="faults"
)
def test_the_list_is_looked_at_before_the_next_claim(
    server: StartServer, peer: Peer, proxy: Proxy
) -> None:
    """After each of several losses, the entries of the list are answered, oldest first, before the queued jobs."""
    started = server()

    for n in range(3):
        started.wait_idle()
        proxy.stop_accepting()
        proxy.drop()
        listed = [peer.job("echo", f"listed {n}.{each}") for each in range(LISTED)]
        queued = peer.job("echo", f"queued {n}")
        peer.place(*listed)
        peer.push_job(queued)
        proxy.accept_again()
        peer.result(queued, "server.connection.survives")
        ids = {job.id: job.parameters for job in (*listed, queued)}
        heard = [read_result(each.data)["id"] for each in peer.messages()]
        answered = [ids[each] for each in dict.fromkeys(heard) if each in ids]

        require(
            answered[-1] == queued.parameters and len(answered) > LISTED,
            "server.recovery.reconnect",
            expected="the listed jobs' results before that of the queued one",
            got=answered,
        )
        require(
            answered == list(ids.values()),
            "server.recovery.order",
            expected="the listed jobs' results in the order of the list, oldest first",
            got=answered,
        )
        peer.wait_settled(*listed, queued)


@pytest.mark.requirement("server.recovery.reconnect", "server.concurrency.parallel")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "cut"),
    settings="several handlers",
    repetition="messages",
)
@pytest.mark.parametrize("same", [False, True], ids=["another", "identical"])
def test_a_job_is_recovered_while_another_runs(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy, *, same: bool
) -> None:
    """A job that was moved for a dead connection is recovered before the next claim, though another one runs."""
    started = server(concurrency=2)
    running = peer.push("wait", {"ms": RUNS_S * 1000})
    wait_claimed(peer, redis, keys, proxy, running)
    stranded = running if same else peer.job("echo", "stranded")

    proxy.stop_accepting()
    proxy.drop()
    redis.lpush(started.in_process, stranded.message)
    behind = peer.push("echo", "behind both")
    proxy.accept_again()

    peer.result(behind, "server.connection.survives")
    ended = (stranded, running)  # a slow machine is back when the running job has ended
    proxy.notifier.happens(lambda: any(map(peer.received, ended)), NOTICED_S)
    require(
        same or any(map(peer.received, ended)),
        "server.recovery.reconnect",
        expected="the stranded job's result before that of one that was claimed later",
        got="none, while the other one runs",
    )
    # What was answered while the connections were lost may be run again.
    for job in (stranded, running):
        peer.wait(
            lambda each=job: peer.received(each),  # type: ignore[misc] # a default's type
            "server.recovery.reconnect",
            "a result of the running job, and of the one next to it",
            patience_s=2 * RUNS_S,
        )
    peer.wait_gone(
        stranded.message,
        running.message,
        requirement="server.recovery.reconnect",
        patience_s=2 * RUNS_S,
    )


@pytest.mark.requirement("server.recovery.running")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "cut"),
    settings="several handlers",
    repetition="faults",
)
@pytest.mark.parametrize("concurrency, running", [(1, 1), (2, 1), (3, 2)])
def test_a_running_job_is_not_started_again(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    keys: Keys,
    proxy: Proxy,
    implementation: Implementation,
    concurrency: int,
    running: int,
) -> None:
    """Jobs that run while the connections are lost, twice, are answered once, whether or not another may run."""
    server(concurrency=concurrency)
    running = running if "concurrency" in implementation.features else 1
    for ms in RUNNING_MS:
        jobs = [peer.job("wait", {"ms": ms, "n": n}) for n in range(running)]
        answer = proxy.hold(matches.command(*jobs))
        peer.push_job(*jobs)
        for job in jobs:
            wait_claimed(peer, redis, keys, proxy, job)
        for _ in range(2):
            opened = proxy.opened
            proxy.drop()
            proxy.notifier.happens_by_the_clock(lambda: proxy.opened > opened, NOTICED_S)  # noqa: B023 - asked in this turn only
        proxy.forget(answer)
        if answer.event is None:
            break  # the machine was fast enough: the handlers run
        answer.release()

    for job in jobs:
        require_answered_once(peer, job, "server.recovery.running")


@pytest.mark.requirement("server.recovery.running")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "held", "cut"),
    settings="several handlers",
)
def test_a_job_that_ends_while_the_list_is_looked_at_is_not_started_again(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """A job that is answered and removed after the list was read, and before that reply was sent, is answered once."""
    server(concurrency=2)
    for ms in RUNNING_MS:
        job = peer.push("wait", {"ms": ms})
        wait_claimed(peer, redis, keys, proxy, job)
        hold = proxy.hold(lambda each: each.kind == REPLY and job.id.encode() in each.frame)  # noqa: B023 - asked in this turn only
        proxy.drop()
        if not any(each.kind == COMMAND and each.carries(job.id) for each in proxy.events):
            break  # the machine was fast enough: the handler runs
        proxy.forget(hold)
        hold.release()

    proxy.notifier.happens_by_the_clock(
        lambda: bool(hold.event) and job.message not in peer.waiting(), ENDS_S
    )
    # By the clock, since a lease lapses by it, and what is answered then may be answered again.
    proxy.notifier.happens_by_the_clock(lambda: False, NOTICED_S)
    proxy.forget(hold)
    hold.release()
    require_answered_once(peer, job, "server.recovery.running")


@pytest.mark.requirement("server.recovery.running", "server.remove.again")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("publishing", "held", "cut"),
    settings="several handlers",
)
def test_a_job_whose_removal_is_not_confirmed_is_not_started_again(
    server: StartServer, peer: Peer, proxy: Proxy
) -> None:
    """A job that was answered as its connection died is answered again at most once, however long that takes."""
    server(concurrency=2)
    job = peer.job("echo", "unconfirmed")
    hold = proxy.hold(lambda event: event.answers is not None and event.answers.carries(job.id))
    peer.push_job(job)
    hold.wait()

    again = proxy.hold(matches.command(job))
    proxy.drop()
    proxy.notifier.happens_by_the_clock(lambda: len(peer.results(job)) > 2, TWICE_T_S)
    proxy.forget(again)
    again.release()
    peer.wait_gone(job.message, requirement="server.remove.again")
    peer.wait_settled(peer.push("echo", "behind"))
    results = peer.results(job)

    require(
        len(results) <= 2,
        "server.recovery.running",
        expected="the result that went before the loss, and one more",
        got=f"{len(results)} results",
    )


@pytest.mark.requirement("server.recovery.quiet")
@pytest.mark.dimensions(
    occasion="reconnect", moment=("after T", "after the second look"), connection=("claims", "held")
)
@pytest.mark.parametrize("lost", [False, True], ids=["", "after-a-loss"])
@pytest.mark.waits(5)
def test_an_entry_whose_reply_is_under_way_is_not_lost(
    server: StartServer, peer: Peer, proxy: Proxy, *, lost: bool
) -> None:
    """A job whose claim is answered late, after T has passed, is run once."""
    server()
    job = peer.job("echo", "under way")
    hold = proxy.hold(matches.reply(job))
    if lost:
        proxy.stop_accepting()
        proxy.drop()
    peer.push_job(job)
    if lost:
        proxy.accept_again()
    hold.wait()
    proxy.notifier.happens_by_the_clock(lambda: peer.results(job), TWICE_T_S)

    hold.release()
    require_answered_once(peer, job, "server.recovery.quiet")


@pytest.mark.requirement("server.recovery.block")
@pytest.mark.dimensions(occasion="again")
def test_a_claim_blocks_for_a_finite_time(
    server: StartServer, peer: Peer, keys: Keys, proxy: Proxy
) -> None:
    """On an empty queue, each claim is answered within five seconds."""
    server()
    peer.wait_settled(peer.push("echo", "before"))
    hold = proxy.hold(lambda event: event.kind == REPLY and keys.queue.encode() in event.arguments)
    try:
        proxy.notifier.wait(lambda: hold.event, "a claim's reply", LONGEST_T_S + SLACK_S)
    except Hung as hung:
        expected = f"a reply to a claim within {LONGEST_T_S:g} s"
        fail("server.recovery.block", expected=expected, got=str(hung))


def wait_claimed(peer: Peer, redis: Redis, keys: Keys, proxy: Proxy, job: Job) -> None:
    """Wait until the reply to the job's claim has been returned."""
    peer.wait(
        lambda: not redis.exists(keys.queue) and not proxy.under_way(job.id),
        "server.publish.once",
        "the job's claim to be answered",
        job,
    )


def require_answered_once(peer: Peer, job: Job, requirement: str) -> None:
    """The job has one result, also when a second run of it would be over."""
    peer.result(job, "server.connection.survives")
    behind = job.parameters if job.method == "wait" else "behind"
    peer.wait_settled(job, peer.push(job.method, behind))
    results = peer.results(job)
    require(
        len(results) == 1,
        requirement,
        expected="one result",
        got=f"{len(results)} results",
    )
