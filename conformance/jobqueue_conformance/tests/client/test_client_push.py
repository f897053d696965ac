"""What a client pushes, where, how often, and not before what."""

import re
import time
from collections import Counter

import pytest
from redis import Redis

from jobqueue_conformance.peer.calls import GUARD_MS, guard_ms, let_time_out, run_after_a_loss
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.proxy.waiting import Notifier
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import read_job
from jobqueue_conformance.spec.verdicts import require

UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# Valid method names that careless clients handle wrongly.
METHODS = [
    "echo",
    "Echo",
    " echo ",
    "e\u0301cho",
    "a.b:c/d",
    "a\u0000b",
    "\U0001f600",
    "null",
    "0",
    "__proto__",
    "long" * 257,
]
LONG_LIFE, SHORT_LIFE = (140, 1030), (5, 30)  # at least, and as many more as come within a time
LIFE_S = 6.0
LONG = "x" * 66_000
AT_ONCE, PUSHED_S = 330, 0.5  # a client that has one job in flight pushes one


@pytest.mark.requirement("client.job.form")
@pytest.mark.dimensions(size="100", occasion="again")
def test_a_job_names_the_callers_method(client: StartClient, peer: Peer) -> None:
    """Whatever a method is called, the pushed job is a strict JSON object that names it, a channel and an id."""
    driver = client()

    for method in METHODS:
        seq = driver.submit(method, [method])
        job = peer.claim()
        peer.answer(job, result=None)
        driver.outcome(seq)

        require(
            job.method == method,
            "client.job.form",
            expected=f"the method {method!r}",
            got=job.message,
        )


@pytest.mark.requirement("client.job.id")
@pytest.mark.dimensions(size="100", occasion=("again", "restart"), repetition="messages")
def test_ids_are_never_used_again(client: StartClient, peer: Peer) -> None:
    """Over hundreds of jobs of few contents, in two lives of the client, no id is used twice on one channel."""
    used: Counter[tuple[str, str]] = Counter()
    for least, most in (LONG_LIFE, SHORT_LIFE):
        driver = client()
        end_s = time.monotonic() + LIFE_S
        for number in range(most):
            if number > least and time.monotonic() > end_s:
                break
            seq = driver.submit("echo", number % 3)
            job = peer.claim()
            peer.answer(job, result=None)
            driver.outcome(seq)
            used[job.channel, job.id] += 1
        driver.kill()

    twice = [each for each, times in used.items() if times > 1]
    require(
        not twice,
        "client.job.id",
        expected="another pair of channel and id for each job",
        got=f"{len(twice)} pairs again, such as {twice[:1]}",
    )


@pytest.mark.requirement("client.job.id")
@pytest.mark.dimensions(moment="outstanding")
def test_two_clients_are_told_apart(client: StartClient, peer: Peer) -> None:
    """Jobs of two clients that live at the same time differ in their channel or their id."""
    drivers = [client(), client()]
    seqs = [driver.submit("echo", number) for number, driver in enumerate(drivers)]
    jobs = sorted((peer.claim() for _ in drivers), key=lambda job: bool(job.parameters))

    require(
        (jobs[0].channel, jobs[0].id) != (jobs[1].channel, jobs[1].id),
        "client.job.id",
        expected="two pairs of channel and id",
        got=(jobs[0].channel, jobs[0].id),
    )
    for job, driver, seq in zip(jobs, drivers, seqs, strict=True):
        peer.answer(job, result=job.parameters)
        require(
            driver.outcome(seq).value == job.parameters,
            "client.settle.result",
            expected=f"each client settled by its own result, {job.parameters}",
            got=driver.outcome(seq),
        )


@pytest.mark.requirement("client.channel.name")
@pytest.mark.dimensions(occasion="restart")
def test_the_channel_is_fresh_at_every_start(client: StartClient, peer: Peer, keys: Keys) -> None:
    """The channel is `<queue>:results:` and a UUID, and another one in the next life."""
    channels = []
    for life in range(2):
        driver = client()
        driver.submit("echo", life)
        channels.append(peer.claim().channel)
        driver.kill()

    well_named = [
        channel
        for channel in channels
        if re.fullmatch(re.escape(f"{keys.queue}:results:") + UUID, channel, re.IGNORECASE)
    ]
    require(
        len(set(well_named)) == 2,
        "client.channel.name",
        expected=f"{keys.queue}:results:<uuid>, fresh at every start",
        got=channels,
    )


@pytest.mark.requirement("client.push.left")
@pytest.mark.dimensions(
    size="65,536 bytes",
    occasion="reconnect",
    connection=("all", "cut"),
    caller=("timeout", "no timeout"),
)
@pytest.mark.parametrize("lost", [False, True], ids=["", "after-a-loss"])
@pytest.mark.parametrize("timeout_ms", [None, GUARD_MS])
def test_a_job_goes_to_the_left_end(
    client: StartClient,
    peer: Peer,
    redis: Redis,
    keys: Keys,
    proxy: Proxy,
    timeout_ms: int | None,
    *,
    lost: bool,
) -> None:
    """A pushed job, of a few bytes or of more than 64 KiB, stands left of everything that waits already."""
    driver = client()
    if lost:
        run_after_a_loss(driver, peer, proxy.notifier, "before the loss")
        proxy.drop()
        run_after_a_loss(driver, peer, proxy.notifier, "behind it")
    waiting = [peer.push("echo", number).message for number in range(3)]

    for parameters in ("new", LONG):
        seq = driver.submit("echo", parameters, timeout_ms=timeout_ms and guard_ms())
        proxy.notifier.wait(lambda: redis.llen(keys.queue) > len(waiting), "the client's push")
        listed = redis.lrange(keys.queue, 0, -1)
        require(
            listed[1:] == waiting[::-1],
            "client.push.left",
            expected=f"the new job, then {waiting[::-1]}",
            got=f"{listed!r:.1000}",
        )
        message = redis.lpop(keys.queue)
        assert isinstance(message, bytes)
        peer.answer(read_job(message), result=None)
        driver.outcome(seq)


@pytest.mark.requirement("client.push.left")
@pytest.mark.dimensions(
    size="100",
    occasion="unconnected",
    moment="outstanding",
    connection=("subscription", "held"),
    caller="timeout",
)
def test_jobs_of_one_moment_go_to_the_left_end(
    client: StartClient, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """Jobs that the client is given at once, all before it is connected, stand left of everything that waits."""
    waiting = [peer.push("echo", number).message for number in range(3)]
    proxy.endpoint("client", keys.queue)
    hold = proxy.hold(matches.subscribed)

    driver = client()
    for number in range(AT_ONCE):
        driver.submit("echo", number, timeout_ms=guard_ms())
    hold.wait("the client to subscribe")
    hold.release()
    proxy.notifier.happens(lambda: redis.llen(keys.queue) == len(waiting) + AT_ONCE, PUSHED_S)
    listed = redis.lrange(keys.queue, 0, -1)

    require(
        len(listed) > len(waiting) and listed[-len(waiting) :] == waiting[::-1],
        "client.push.left",
        expected=f"new jobs, and then {waiting[::-1]}",
        got=listed,
    )


@pytest.mark.requirement("client.push.once")
@pytest.mark.dimensions(occasion="again", caller=("timeout", "no timeout"))
def test_a_job_is_pushed_once(
    client: StartClient, peer: Peer, redis: Redis, keys: Keys, notifier: Notifier
) -> None:
    """A job is on the queue once, whether it is answered or times out."""
    driver = client()

    for number in range(3):
        seq = driver.submit("echo", ["answered", number])
        answered = peer.claim()
        peer.answer(answered, result=number)
        driver.outcome(seq)
        _, timed_out, _ = let_time_out(driver, peer, notifier, ["timed out", number])
        waiting = redis.lrange(keys.queue, 0, -1)

        require(
            (answered.parameters, timed_out.parameters)
            == (["answered", number], ["timed out", number])
            and not waiting,
            "client.push.once",
            expected="each job once",
            got=f"{answered.message!r}, {timed_out.message!r}, and then {waiting}",
        )
