"""What a server counts, and which entries it gives up: the feature `attempts`."""

from dataclasses import replace

import pytest
from redis import Redis

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.proxy import Hold, Proxy
from jobqueue_conformance.redis_servers.acl import EVERYTHING, PASSWORD, execute, set_user
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import require

KEPT_S = 259_200  # how long a count lives
LATE_S = 600  # how much of it may have passed on a slow machine
WITHOUT_TAKEOVER = 12  # the limit of a server that has no lease
HANDLER_MS = 300
ENDLESS_MS = 600_000  # longer than any test waits


@pytest.mark.requirement("server.attempts.counts")
@pytest.mark.dimensions(occasion=("restart", "recovery"), moment="outstanding", size="8")
def test_an_entry_is_counted_when_it_starts(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """Of twelve entries that a server finds, it has counted only the one that it runs, for three days."""
    jobs = [peer.job("echo", number) for number in range(12)]
    peer.place(*jobs)

    hold = hold_first_answer(server, peer, redis, keys, proxy, jobs[0])
    lifetime_s = redis.ttl(keys.count(jobs[0].message))
    while_held = [count(redis, keys, job) for job in jobs]
    hold.release()
    peer.wait_settled(*jobs)
    at_the_end = [count(redis, keys, job) for job in jobs]

    require(
        while_held == [1] + [None] * 11,
        "server.attempts.counts",
        expected="1 for the entry that is run, and no count of those behind it",
        got=while_held,
    )
    require(
        KEPT_S - LATE_S <= lifetime_s <= KEPT_S,
        "server.attempts.counts",
        expected=f"a count that lives for {KEPT_S} s",
        got=lifetime_s,
    )
    require(
        at_the_end == [1] * 12,
        "server.attempts.counts",
        expected="a count of 1 for each of the 12 entries that were found",
        got=at_the_end,
    )


@pytest.mark.requirement("server.attempts.counts")
@pytest.mark.dimensions(occasion="restart", moment="outstanding", handler="late")
def test_an_entry_is_counted_before_its_handler_ends(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys
) -> None:
    """While the handler of an entry that a server found runs, the entry is counted."""
    job = peer.job("wait", {"ms": ENDLESS_MS})
    peer.place(job)

    server()

    counted = peer.wait(
        lambda: count(redis, keys, job), "server.attempts.counts", "a count of the entry"
    )
    require(
        counted == 1,
        "server.attempts.counts",
        expected="1 as the count of the entry that it found at its start",
        got=counted,
    )


@pytest.mark.requirement("server.attempts.counts")
@pytest.mark.dimensions(occasion=("again", "reconnect"), moment="after the second look")
def test_what_a_server_claims_is_not_counted(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """Neither jobs that a server claims nor entries that it finds after a lost connection have a count."""
    started = server()
    peer.wait_settled(*(peer.push("echo", number) for number in range(3)))
    started.wait_idle()

    job = peer.job("echo", "found after a loss")
    peer.place(job)
    proxy.drop()
    peer.wait_settled(job, peer.push("echo", "claimed after a loss"))
    counts = sorted(redis.scan_iter(f"{keys.queue}:attempts:*"))

    require(not counts, "server.attempts.counts", expected="no count", got=counts)


@pytest.mark.requirement("server.attempts.counts")
@pytest.mark.dimensions(
    occasion=("reconnect", "recovery"), connection=("publishing", "all", "cut"), repetition="faults"
)
def test_a_life_counts_an_entry_once(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """An entry whose answer is lost, twice, and that is answered again, is counted once, as are those behind it."""
    jobs = [peer.job("echo", number) for number in range(3)]
    job = jobs[0]
    peer.place(*jobs)

    hold = hold_first_answer(server, peer, redis, keys, proxy, job)
    for _ in range(2):
        following = proxy.hold(matches.command(job))
        hold.drop()
        hold = following
        hold.wait()
    proxy.drop("server")
    peer.wait_settled(*jobs)
    counted = [count(redis, keys, each) for each in jobs]

    require(
        counted == [1, 1, 1],
        "server.attempts.counts",
        expected="a count of 1 for each of three entries that it found at its start",
        got=counted,
    )


@pytest.mark.requirement("server.attempts.counts")
@pytest.mark.dimensions(size="65,536 bytes", occasion="restart")
def test_long_entries_have_counts_of_their_own(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys
) -> None:
    """Entries that differ only behind their first 128 KiB, or in white space, are counted each by itself."""
    jobs = [peer.job("echo", "x" * (1 << 17)) for _ in range(2)]
    jobs.append(replace(jobs[1], message=jobs[1].message + b"\n"))
    peer.place(*jobs)

    server()
    peer.wait_settled(*jobs)
    counted = [count(redis, keys, job) for job in jobs]

    require(
        counted == [1, 1, 1],
        "server.attempts.counts",
        expected="[1, 1, 1] as the counts of the three entries",
        got=counted,
    )


@pytest.mark.requirement("server.attempts.limit", "server.attempts.counts")
@pytest.mark.dimensions(settings="limit", occasion=("restart", "again"))
@pytest.mark.parametrize("limit, before", [(3, 0), (3, 2), (2, 1), (12, 11), (0, 5)])
def test_an_entry_within_the_limit_is_run(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, limit: int, before: int
) -> None:
    """An entry whose count comes to the limit, or is counted where nothing is limited, is run, and isn't buried."""
    job = peer.job("echo", "the last attempt")
    redis.set(keys.count(job.message), before, ex=LATE_S)
    peer.place(job)

    server(max_attempts=limit)
    result = peer.result(job, "server.attempts.limit")
    peer.wait_settled(job)
    lifetime_s = redis.ttl(keys.count(job.message))

    require(
        result.get("result") == job.parameters and not redis.exists(keys.dead),
        "server.attempts.limit",
        expected="the value, and an empty dead list",
        got=(result, redis.lrange(keys.dead, 0, -1)),
    )
    require(
        lifetime_s > LATE_S or not limit,
        "server.attempts.counts",
        expected=f"a count that lives for {KEPT_S} s from now on",
        got=f"{lifetime_s} s",
    )


@pytest.mark.requirement("server.attempts.limit")
@pytest.mark.dimensions(settings="limit", occasion=("restart", "recovery"))
@pytest.mark.parametrize("limit", [3, 2, WITHOUT_TAKEOVER])
def test_an_entry_beyond_the_limit_is_given_up(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, limit: int
) -> None:
    """An entry whose count exceeds the limit is answered, buried and removed; those beside it are run.

    A server has `attempts` with and without `takeover`.
    """
    neighbours = [peer.job("echo", "older"), peer.job("echo", "younger")]
    job = peer.job("echo", "given up")
    redis.set(keys.count(job.message), limit)
    peer.place(neighbours[0], job, neighbours[1])

    server(max_attempts=limit, lease_ms=0 if limit == WITHOUT_TAKEOVER else None)
    peer.wait_settled(*neighbours)
    result = peer.result(job, "server.attempts.limit")
    peer.wait_gone(job.message, requirement="server.attempts.limit")
    dead, results = redis.lrange(keys.dead, 0, -1), peer.received(job)

    require(
        result.get("error", {}).get("code") == "too-many-attempts" and len(results) == 1,
        "server.attempts.limit",
        expected="too-many-attempts, once",
        got=results,
    )
    require(
        dead == [job.message],
        "server.attempts.limit",
        expected="the message on the dead list",
        got=dead,
    )


@pytest.mark.requirement("server.attempts.limit", "server.attempts.counts")
@pytest.mark.dimensions(occasion="restart", moment="outstanding", repetition="faults")
def test_a_job_that_kills_its_server_is_given_up_before_its_fifth_run(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """A server that dies in four runs of a job gives it up in its fifth life, and the jobs behind it are run."""
    killer, *behind = jobs = [peer.job("echo", number) for number in range(4)]
    peer.push_job(killer)

    for life in range(4):
        hold = proxy.hold(matches.command(killer))
        started = server()
        if life > 0:
            hold = past_the_count(peer, redis, keys, proxy, hold, life - 1, killer)
        peer.wait(lambda: hold.event, "server.attempts.limit", f"run {life + 1}", killer)  # noqa: B023 - asked in this turn only
        if life == 0:
            peer.place(*behind)  # now that no look of this life can find them
        started.kill()
        hold.drop()
    server()
    peer.wait_settled(*behind)
    result = peer.result(killer, "server.attempts.limit")
    peer.wait_gone(killer.message, requirement="server.attempts.limit")

    require(
        result.get("error", {}).get("code") == "too-many-attempts",
        "server.attempts.limit",
        expected="too-many-attempts in place of the fifth run",
        got=result,
    )
    counts = [count(redis, keys, job) for job in jobs]
    require(
        counts == [4, 1, 1, 1],
        "server.attempts.counts",
        expected="4 for the job that kills, and 1 for those behind it",
        got=counts,
    )


@pytest.mark.requirement("server.attempts.unread")
@pytest.mark.dimensions(settings="limit", occasion=("restart", "recovery"), size="2³¹")
@pytest.mark.parametrize("limit, before", [(3, 4), (2, 3), (3, 5), (3, 2**31)])
def test_an_entry_that_killed_while_it_was_given_up_is_not_answered(
    server: StartServer, peer: Peer, redis: Redis, keys: Keys, limit: int, before: int
) -> None:
    """An entry whose count exceeds the limit by more than one is on the dead list, and nobody has an answer."""
    job, neighbour = peer.job("echo", "unread"), peer.job("echo", "younger")
    redis.set(keys.count(job.message), before)
    peer.place(job, neighbour)

    server(max_attempts=limit)
    peer.wait_gone(job.message, requirement="server.attempts.unread")
    peer.wait_settled(neighbour)
    dead, results = redis.lrange(keys.dead, 0, -1), peer.received(job)

    require(
        (dead, results) == ([job.message], []),
        "server.attempts.unread",
        expected="the message on the dead list, and no result",
        got=(dead, results),
    )


@pytest.mark.requirement("server.attempts.alone")
@pytest.mark.dimensions(settings="several handlers", moment="outstanding", handler="late")
@pytest.mark.parametrize("before", [(1, 1, 1), (1, 0, 0), (0, 1, 0)], ids=str)
def test_an_entry_that_was_counted_before_runs_alone(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    keys: Keys,
    proxy: Proxy,
    before: tuple[int, ...],
) -> None:
    """Beside an entry that another life had counted, no other entry that was found is started."""
    jobs = [peer.job("wait", {"ms": HANDLER_MS, "number": n}) for n in range(3)]
    for job, counted in zip(jobs, before, strict=True):
        if counted:
            redis.set(keys.count(job.message), counted)
    peer.place(*jobs)

    hold = hold_first_answer(server, peer, redis, keys, proxy, *jobs, concurrency=3)
    # What was started together has run as long as this one, whose handler has ended.
    started = [(count(redis, keys, job) or 0) - was for job, was in zip(jobs, before, strict=True)]
    hold.release()

    suspects = [has and was for has, was in zip(started, before, strict=True)]
    require(
        sum(started) == 1 or not any(suspects),
        "server.attempts.alone",
        expected=f"one entry alone, of those that were counted {before}",
        got=f"started: {started}",
    )
    peer.wait_settled(*jobs)


@pytest.mark.requirement("server.attempts.refused", "server.attempts.counts")
@pytest.mark.dimensions(
    occasion="recovery", answer=("error", "another error", "another type"), settings="rights"
)
@pytest.mark.parametrize("refusal", ["wrong type", "not a number", "out of memory", "forbidden"])
def test_an_entry_that_can_not_be_counted_is_run(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    keys: Keys,
    proxy: Proxy,
    refusal: str,
) -> None:
    """Where Redis refuses the count of an entry, it is run, and so is the next one, which is counted if it can be."""
    first, job, last = jobs = [peer.job("echo", number) for number in range(3)]
    peer.place(*jobs)
    set_user(redis_server, "somebody", PASSWORD, *EVERYTHING)
    hold = hold_first_answer(server, peer, redis, keys, proxy, first, user="somebody")

    if refusal == "out of memory":
        execute(redis_server, "CONFIG", "SET", "maxmemory", "1")
    elif refusal == "forbidden":
        set_user(redis_server, "somebody", PASSWORD, "-incr", "-incrby", "-expire")
    elif refusal == "wrong type":
        redis.rpush(keys.count(job.message), "an entry")
    else:
        redis.set(keys.count(job.message), "many")
    hold.release()
    results = [peer.result(each, "server.attempts.refused") for each in (job, last)]
    execute(redis_server, "CONFIG", "SET", "maxmemory", "0")

    require(
        [result.get("result") for result in results] == [1, 2],
        "server.attempts.refused",
        expected="the values 1 and 2",
        got=results,
    )
    peer.wait_settled(*jobs)
    counted = count(redis, keys, last)
    require(
        counted == (None if refusal in {"out of memory", "forbidden"} else 1),
        "server.attempts.counts",
        expected="a count of 1 for the last entry, unless Redis has no memory, or forbids it",
        got=counted,
    )


def count(redis: Redis, keys: Keys, job: Job) -> int | None:
    """The count of a job; None where there is none."""
    counted = redis.get(keys.count(job.message))
    return None if counted is None else int(counted)


def hold_first_answer(
    server: StartServer,
    peer: Peer,
    redis: Redis,
    keys: Keys,
    proxy: Proxy,
    *jobs: Job,
    concurrency: int = 1,
    user: str | None = None,
) -> Hold:
    """Start a server that finds the jobs, and hold its answer to the first one that it has counted and run."""
    before = sum(count(redis, keys, job) or 0 for job in jobs)
    hold = proxy.hold(matches.command(*jobs))
    server(concurrency=concurrency, user=user, password=PASSWORD if user else "")
    return past_the_count(peer, redis, keys, proxy, hold, before, *jobs)


def past_the_count(
    peer: Peer, redis: Redis, keys: Keys, proxy: Proxy, hold: Hold, before: int, *jobs: Job
) -> Hold:
    """Wait until an answer is held: where the count itself carries the entry, as a script may, it passes."""
    expected = "an entry that is counted and answered"
    peer.wait(lambda: hold.event, "server.attempts.counts", expected)
    if sum(count(redis, keys, job) or 0 for job in jobs) > before:
        return hold
    following = proxy.hold(matches.command(*jobs))
    hold.release()
    peer.wait(lambda: following.event, "server.attempts.counts", expected)
    return following
