"""How a client connects: it subscribes first, notices silence, closes what it replaces, and uses the URL's database."""

import time

import pytest
from redis import Redis

from jobqueue_conformance.peer.calls import run_after_a_loss
from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.starting import StartClient
from jobqueue_conformance.proxy import matches
from jobqueue_conformance.proxy.events import COMMAND, MESSAGE
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.redis_servers.base import RedisServer
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.verdicts import Unsupported, require

PATIENCE_S = 0.4
LONGEST_S = 30.0  # for which a client may try to connect, or take a silent Redis for alive
SLACK_S = 5.0
LOSSES = 6


@pytest.mark.requirement("client.subscribe.before-push")
@pytest.mark.dimensions(occasion="again", connection=("subscription", "held", "cut"))
@pytest.mark.waits(3)
def test_nothing_is_pushed_before_the_next_subscription_stands(
    client: StartClient, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy
) -> None:
    """When a subscription was lost, or given up, a job is pushed only once the next one stands."""
    driver = client()
    seq = driver.submit("echo", "before")
    job = peer.claim()
    noise = proxy.hold(lambda event: event.kind == MESSAGE and event.carries("noise"))
    subscribed = proxy.hold(matches.subscribed)
    peer.answer(job, result=None)
    driver.outcome(seq)
    given_up = proxy.notifier.happens_while_held(lambda: subscribed.event, PATIENCE_S)
    if not given_up:
        peer.publish(job.channel, b"noise")
    heard = proxy.notifier.happens_while_held(lambda: noise.event, PATIENCE_S)
    if lost := heard is not None:
        noise.drop()  # the subscription alone
    proxy.notifier.happens_while_held(lambda: subscribed.event, PATIENCE_S)

    driver.submit("echo", "behind")
    proxy.notifier.happens_while_held(lambda: redis.exists(keys.queue), PATIENCE_S)
    sent = [each for each in proxy.events if each.kind == COMMAND and each.carries("behind")]
    renewed = subscribed.event.answers if subscribed.event is not None else None
    early = [each for each in sent if lost or (renewed is not None and each.at_s > renewed.at_s)]

    require(
        not early,
        "client.subscribe.before-push",
        expected="no push while the reply to the next SUBSCRIBE is held",
        got=[each.arguments for each in early],
    )


@pytest.mark.requirement("client.push.settled")
@pytest.mark.dimensions(
    size="100",
    occasion=("unconnected", "reconnect"),
    connection=("all", "cut"),
    caller="timeout",
    repetition="faults",
)
@pytest.mark.parametrize("before", [False, True], ids=["never-connected", "after-a-loss"])
def test_a_job_that_was_settled_is_not_pushed(
    client: StartClient, peer: Peer, proxy: Proxy, *, before: bool
) -> None:
    """Jobs that are settled while the client waits for a connection are not pushed when it has one."""
    driver = client()
    if before:
        run_after_a_loss(driver, peer, proxy.notifier, "before the loss")
    proxy.stop_accepting()
    proxy.drop()
    seqs = [driver.submit("echo", "settled", timeout_ms=ms) for ms in [10] * 130 + [400]]
    for seq in seqs:
        driver.outcome(seq)

    proxy.accept_again()
    outcome, pushed = run_after_a_loss(driver, peer, proxy.notifier, "behind")
    got = [job.parameters for job in pushed]

    require(
        set(got) == {"behind"},
        "client.push.settled",
        expected="what was run afterwards on the queue, and nothing else",
        got=f"{got}, until {outcome}",
    )


@pytest.mark.requirement("client.settle.unconnected")
@pytest.mark.dimensions(
    occasion=("unconnected", "reconnect"), connection=("all", "refused"), caller="no timeout"
)
@pytest.mark.parametrize("before", [False, True], ids=["at-the-start", "after-a-loss"])
def test_a_job_without_a_connection_is_settled(
    client: StartClient,
    peer: Peer,
    redis: Redis,
    redis_server: RedisServer,
    proxy: Proxy,
    *,
    before: bool,
) -> None:
    """A job without a timeout that is run while Redis is away is settled as not-queued."""
    driver = client()
    if before:
        run_after_a_loss(driver, peer, proxy.notifier, "before the loss")
    # A proxy that accepts and hangs up could take a push before it does.
    proxy.refuse(driver.name)
    redis_server.kill()
    try:
        proxy.wait_all_closed(driver.name)
        outcome = driver.outcome(driver.submit("echo", "no Redis"), LONGEST_S + SLACK_S)
        if outcome.code == "connection-lost":  # it was pushed before the client noticed the loss
            outcome = driver.outcome(driver.submit("echo", "still none"), LONGEST_S + SLACK_S)
    finally:
        redis_server.start()
        proxy.accept_again(driver.name)
        redis.connection_pool.disconnect()
        peer.listen_again()

    require(
        (outcome.kind, outcome.code) == ("error", "not-queued"),
        "client.settle.unconnected",
        expected="the error not-queued",
        got=outcome,
    )


@pytest.mark.requirement("client.connection.silent", "client.push.once")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("all", "pushes", "silent", "held"),
    caller="no timeout",
)
@pytest.mark.parametrize("which", ["all", "pushes"])
@pytest.mark.waits(10)
def test_a_silent_connection_is_lost(
    client: StartClient, peer: Peer, redis: Redis, keys: Keys, proxy: Proxy, which: str
) -> None:
    """A job without a timeout is settled as lost when its later connections fall silent; it is pushed once."""
    driver = client()
    run_after_a_loss(driver, peer, proxy.notifier, "before")
    proxy.drop()
    run_after_a_loss(driver, peer, proxy.notifier, "behind a loss")
    if which == "pushes":
        proxy.hold(matches.reply_naming(keys.queue))
    seq = driver.submit("echo", "silent")
    job = peer.claim()
    if which == "all":
        proxy.wait_pushed(job.id)
        proxy.mute(driver.name)

    proxy.notifier.happens(
        lambda: driver.outcomes(seq) or redis.exists(keys.queue), LONGEST_S + SLACK_S
    )
    outcome = driver.outcomes(seq)

    require(
        not redis.exists(keys.queue),
        "client.push.once",
        expected="the job, which was claimed, not on the queue again",
        got=redis.lrange(keys.queue, 0, -1),
    )
    require(
        bool(outcome) and outcome[0].code == "connection-lost",
        "client.connection.silent",
        expected=f"the error connection-lost within {LONGEST_S:g} s",
        got=outcome,
    )


@pytest.mark.requirement("client.connection.closes")
@pytest.mark.dimensions(
    occasion="reconnect", connection=("pushes", "subscription", "half-open"), repetition="faults"
)
@pytest.mark.parametrize("kind", [COMMAND, MESSAGE], ids=["pushes", "subscription"])
def test_a_replaced_connection_is_closed(
    client: StartClient, peer: Peer, proxy: Proxy, kind: str
) -> None:
    """However often the connection on which it pushes or listens is lost, a client has no more of them open."""
    driver = client()
    run_after_a_loss(driver, peer, proxy.notifier, "before")
    before = proxy.open_connections(driver.name)

    for n in range(LOSSES):
        lost = f"lost {n}"
        hold = proxy.hold(lambda event: event.kind == kind and event.carries(lost))  # noqa: B023 - asked in this turn only
        seq = driver.submit("echo", lost)
        if kind == MESSAGE:
            peer.publish(peer.claim().channel, lost.encode())
        hold.wait()
        hold.half_close()
        proxy.notifier.wait(lambda: peer.take() or driver.outcomes(seq), "the job to be lost")  # noqa: B023 - asked in this turn only
        run_after_a_loss(driver, peer, proxy.notifier, f"behind {n}")
    more = LOSSES // 2
    proxy.notifier.happens(lambda: proxy.open_connections(driver.name) < before + more, SLACK_S)
    after = proxy.open_connections(driver.name)

    require(
        after < before + more,
        "client.connection.closes",
        expected=f"about {before} open connections after {LOSSES} losses",
        got=after,
    )


@pytest.mark.requirement("client.connection.database")
@pytest.mark.dimensions(occasion="reconnect", connection=("all", "cut"), settings="database")
@pytest.mark.parametrize("path", ["/3", "/10", ""])
def test_the_urls_database_is_used(
    client: StartClient, redis_server: RedisServer, keys: Keys, proxy: Proxy, path: str
) -> None:
    """A job is pushed in the database that the URL names, and in no other, also after a loss."""
    if not redis_server.private:
        raise Unsupported("the other databases of the user's own Redis are not the suite's")
    named = int(path[1:] or 0)
    driver = client(database=path)
    connected = {number: redis_server.connect(database=number) for number in (0, 1, 3, 10)}

    def pushed() -> list[int]:
        driver.check()
        return [number for number, each in connected.items() if each.exists(keys.queue)]

    for occasion in ("first", "after a loss"):
        end_s = time.monotonic() + LONGEST_S
        while not (got := pushed()) and time.monotonic() < end_s:  # a loss can settle some
            seq = driver.submit("echo", occasion)
            proxy.notifier.happens(lambda: pushed() or driver.outcomes(seq), LONGEST_S)  # noqa: B023 - asked in this turn only
        require(
            got == [named],
            "client.connection.database",
            expected=f"the job in the database {named}, {occasion}",
            got=f"jobs in {got}, and {driver.lines}",
        )
        proxy.drop()
        connected[named].delete(keys.queue)
