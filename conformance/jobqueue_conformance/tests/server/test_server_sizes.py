"""Sizes beyond every round number that a server could have in mind: of a list, of handlers at once, of times."""

import time

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Hung, Notifier
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job, equal, read_result
from jobqueue_conformance.spec.verdicts import fail, require

IN_PIECES = "in pieces " * 300
LIMITS = (256, 1000, 1024, 4096, 8192, 1 << 14, 1 << 16, 1 << 17)
SIZES = [*(limit + more for limit in LIMITS for more in (-1, 0, 1)), 1 << 20]
MANY = {
    "elements": [*range(1025)],
    "members": {f"{number}": number for number in range(1025)},
    "arrays": [[]] * 10_001,
}
NAMES = (257, 1025, 65_537)
ENTRIES, AT_LEAST = 5000, 1100
IN_TIME_S = 5.0  # for the rest of them
LONGEST_T_S = 5.0
IDLE_CLAIMS = 10
LONGEST_T_MS = 5000
SLACK_S = 2.0
LONG_STOP_MS = 13_000  # 10 s are a usual limit, and the spec has none
ALIKE_MS = 3000  # how long a job runs beside one that begins in the same way
STARTS_WITHIN_S = 0.5  # from the reply to a claim to the handler


@pytest.mark.requirement("server.run.handler", "server.result.value", "server.remove.exact-bytes")
@pytest.mark.dimensions(size=("100", "1,024", "65,536 bytes", "1 MiB"), occasion="again")
def test_jobs_of_any_size_are_run(server: StartServer, peer: Peer) -> None:
    """Jobs of exactly these sizes are run, answered and removed, up to what is portable."""
    server()

    for size in SIZES:
        job = of_size(peer, size)
        peer.push_job(job)
        result = peer.result(job, "server.run.handler")
        require(
            equal(result.get("result"), job.parameters),
            "server.result.value" if "result" in result else "server.run.handler",
            expected=f"the value of a job of {size} bytes",
            got=f"{result!r:.200}",
        )
        peer.wait_gone(job.message, requirement="server.remove.exact-bytes")


@pytest.mark.requirement("server.result.value", "server.run.parameters")
@pytest.mark.dimensions(size=("1,024", "10,000"), occasion="again")
def test_many_elements_come_back(server: StartServer, peer: Peer) -> None:
    """Arrays and objects of more elements than a round number come back as they went in."""
    server()

    for name, value in MANY.items():
        result = peer.result(peer.push("echo", value), "server.result.value")
        require(
            equal(result.get("result"), value),
            "server.result.value",
            expected=f"as many {name} as went in",
            got=f"{result!r:.200}",
        )


@pytest.mark.requirement("server.result.id", "server.publish.channel", "server.publish.once")
@pytest.mark.dimensions(size=("100", "1,024", "65,536 bytes"), occasion="again")
def test_long_names_come_back(server: StartServer, peer: Peer) -> None:
    """Results have the job's whole id and go to its whole channel, however long these are."""
    server()

    for length in NAMES:
        for requirement, named in (
            ("server.result.id", {"id": "i" * length}),
            ("server.publish.channel", {"channel": peer.channel.ljust(length, "c")}),
        ):
            job = peer.push("echo", length, **named)
            peer.wait_gone(job.message, requirement="server.remove.finished")
            require(
                len(peer.results(job)) == 1,
                requirement,
                expected=f"a result with the job's own {next(iter(named))} of {length} characters",
                got="none",
            )


@pytest.mark.requirement("server.run.handler", "server.remove.finished")
@pytest.mark.dimensions(size="8", occasion="again", connection="pieces")
def test_a_job_may_come_in_many_pieces(server: StartServer, peer: Peer, proxy: Proxy) -> None:
    """A job that arrives in more than 16 pieces is answered and removed."""
    started = server()
    peer.wait_settled(peer.push("echo", "in one piece"))

    proxy.return_in_pieces(started.endpoint.who)
    job = peer.push("echo", IN_PIECES)
    result = peer.result(job, "server.run.handler")
    peer.wait_gone(job.message, requirement="server.remove.finished")
    proxy.return_in_pieces(started.endpoint.who, over=True)

    require(
        result.get("result") == IN_PIECES,
        "server.run.handler",
        expected="the value of the job",
        got=f"{result!r:.200}",
    )


@pytest.mark.requirement("server.recovery.first", "server.recovery.order")
@pytest.mark.dimensions(size="1,024", occasion="restart", settings="long T")
def test_a_long_list_is_run_before_the_queue(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, notifier: Notifier
) -> None:
    """All of 5,000 entries, or as many as are run in time, are answered before the job that waits in the queue."""
    jobs = [peer.job("echo", number) for number in range(ENTRIES + 1)]
    *listed, queued = jobs
    redis.lpush(keys.in_process(), *(job.message for job in listed))
    peer.push_job(queued)

    # A second look comes too late to make good for the first.
    server(block_ms=LONGEST_T_MS, direct=True)
    for number in range(0, AT_LEAST, 50):
        peer.result(listed[number], "server.recovery.first")
    notifier.happens(lambda: peer.received(queued), IN_TIME_S)
    numbers = {job.id: number for number, job in enumerate(jobs)}
    heard = [read_result(each.data)["id"] for each in peer.messages()]
    got = [numbers[each] for each in heard]

    require(
        got == sorted(got),
        "server.recovery.order",
        expected="results in the order of the list, oldest first",
        got=f"{got!r:.500}",
    )
    require(
        got == list(range(len(got))),
        "server.recovery.first",
        expected=f"a result for each of {ENTRIES} entries before that of the queued job",
        got=f"that of the queued job behind {len(got) - 1} others",
    )


@pytest.mark.requirement("server.recovery.block")
@pytest.mark.dimensions(size="8", occasion="again", settings="short T")
@pytest.mark.waits(4)
def test_half_a_second_is_a_finite_time(
    server: StartServer, peer: Peer, keys: Keys, proxy: Proxy
) -> None:
    """A claim that is to block for half a second, no whole number of them, is answered, also after others in vain."""
    server(block_ms=500)
    peer.wait_settled(peer.push("echo", "before"))
    for number in range(1, IDLE_CLAIMS + 1):
        hold = proxy.hold(matches.reply_naming(keys.queue))
        try:
            proxy.notifier.wait(lambda: hold.event, "a claim's reply", LONGEST_T_S + SLACK_S)  # noqa: B023 - asked in this turn only
        except Hung as hung:
            expected = f"a reply to claim {number} on an empty queue within {LONGEST_T_S:g} s"
            fail("server.recovery.block", expected=expected, got=str(hung))
        hold.release()


@pytest.mark.requirement("server.stop.drains", "server.stop.exit", "server.recovery.running")
@pytest.mark.dimensions(
    size="10,000", occasion="stop", moment=("after T", "outstanding"), handler="late"
)
@pytest.mark.waits(13)
def test_a_handler_that_runs_for_long_is_waited_for(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """A job whose handler runs for 13 s after SIGTERM is answered once, and removed, before the exit."""
    started = server()
    peer.wait_settled(peer.push("echo", "before"))
    job = peer.push("wait", {"ms": LONG_STOP_MS})
    peer.wait(
        lambda: not redis.exists(keys.queue) and not proxy.under_way(job.id),
        "server.publish.once",
        "the job's claim to be answered",
        job,
    )
    proxy.notifier.pause(STARTS_WITHIN_S)

    begun_s = time.monotonic()
    started.terminate()
    status = started.wait_exit(proxy.notifier.deadline_s + LONG_STOP_MS / 1000)

    require(
        bool(peer.results(job)) and not redis.exists(started.in_process),
        "server.stop.drains",
        expected=f"the job answered and removed, {LONG_STOP_MS} ms after it was started",
        got=f"an exit after {time.monotonic() - begun_s:.1f} s: {started.explain_exit()}",
    )
    results = peer.results(job)
    require(len(results) == 1, "server.recovery.running", expected="one result", got=results)
    require(status == 0, "server.stop.exit", expected="the status 0", got=started.explain_exit())


@pytest.mark.requirement("server.recovery.reconnect")
@pytest.mark.dimensions(
    size="65,536 bytes",
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "cut"),
    settings="several handlers",
    repetition="messages",
)
@pytest.mark.waits(3)
def test_an_entry_that_ends_differently_from_a_running_one_is_recovered(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """After a loss an entry is recovered at once, though a running one has the same first 70,000 bytes."""
    server(concurrency=2)
    begin = {"begin": "x" * 70_000}
    running = peer.push("wait", {**begin, "ms": ALIKE_MS})
    peer.wait(
        lambda: not redis.exists(keys.queue) and not proxy.under_way(running.id),
        "server.publish.once",
        "the job's claim to be answered",
        running,
    )
    found = peer.job("wait", {**begin, "ms": 0})

    redis.rpush(keys.in_process(), found.message)  # where a look comes to it first
    proxy.drop("server")
    queued = peer.push("echo", "queued")
    peer.result(queued, "server.connection.survives")
    peer.result(found, "server.recovery.reconnect")
    peer.wait_settled(running, found, queued)

    # With one handler it comes before the job of the queue, with two it ends before the one that is running.
    last = peer.messages()[-1].data
    require(
        found.id.encode() not in last,
        "server.recovery.reconnect",
        expected="the entry answered before the job of the queue, or before the one that was running",
        got="its answer at last",
    )


def of_size(peer: Peer, size: int) -> Job:
    """A job whose message has so many bytes; blocks of any size end within a character."""
    envelope = len(peer.job("echo", "").message)
    rest = size - envelope
    return peer.job("echo", "\u20ac" * (rest // 3) + "x" * (rest % 3))
