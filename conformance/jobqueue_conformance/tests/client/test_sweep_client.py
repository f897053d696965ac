"""The fault sweep of a client: a call is hit at each boundary of its job."""

import pytest

from jobqueue_conformance.proxy.events import MESSAGE, Event
from jobqueue_conformance.proxy.proxy import How
from jobqueue_conformance.spec.verdicts import require
from jobqueue_conformance.sweep.client import AMPLE_MS, SHORT_MS, ClientSweep


@pytest.mark.parametrize("timed", [True, False], ids=["timed", "untimed"])
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.requirement(
    "client.lost.settles",
    "client.lost.waits",
    "client.lost.resubscribes",
    "client.push.once",
    "client.settle.once",
)
@pytest.mark.dimensions(
    occasion="reconnect",
    connection=("pushes", "subscription", "cut"),
    caller=("timeout", "no timeout"),
    repetition="faults",
)
@pytest.mark.waits(6)
def test_a_lost_connection_is_survived(client_sweep: ClientSweep, how: How, *, timed: bool) -> None:
    """The client settles a call once and pushes it once, whichever boundary a connection is lost at."""
    client_sweep.start()
    for attempt in client_sweep.attempts("client.settle.result"):
        ample_ms = AMPLE_MS if attempt.number > 1 else SHORT_MS
        call = client_sweep.call(ample_ms if timed else None, attempt)

        if client_sweep.reached(attempt, call):
            attempt.drop(how)
            client_sweep.check_after_fault(attempt, call)
            client_sweep.check_goes_on()
    client_sweep.check_once()


@pytest.mark.requirement(
    "client.lost.waits", "client.lost.resubscribes", "client.push.once", "client.settle.once"
)
@pytest.mark.dimensions(
    occasion="reconnect",
    connection=("all", "cut", "refused"),
    caller="timeout",
    repetition="faults",
)
@pytest.mark.waits(4)
def test_a_restart_of_redis_is_survived(client_sweep: ClientSweep) -> None:
    """The client settles a call once and pushes it once, whichever boundary Redis dies at."""
    client_sweep.keep_data()
    client_sweep.start()
    for attempt in client_sweep.attempts("client.settle.result"):
        ample_ms = AMPLE_MS if attempt.number > 1 else SHORT_MS
        call = client_sweep.call(ample_ms, attempt)

        if client_sweep.reached(attempt, call):
            client_sweep.restart_redis(attempt)
            client_sweep.check_after_fault(attempt, call)
            client_sweep.check_goes_on()
    client_sweep.check_once()


@pytest.mark.requirement("client.timeout.local", "client.settle.result", "client.push.once")
@pytest.mark.dimensions(
    occasion="again", connection=("pushes", "subscription", "held"), caller="timeout"
)
def test_a_stall_shorter_than_the_timeout_costs_nothing(client_sweep: ClientSweep) -> None:
    """The client has the result of a call that is stalled at any boundary for less than its timeout."""
    client_sweep.start()
    for attempt in client_sweep.attempts("client.settle.result"):
        call = client_sweep.call(AMPLE_MS, attempt)

        if client_sweep.reached(attempt, call):
            client_sweep.stall(attempt)

        client_sweep.check_settled_by_result(call, "client.settle.result")
    client_sweep.check_once()


@pytest.mark.parametrize("kind", ["command", "reply"])
@pytest.mark.requirement("client.subscribe.before-push")
@pytest.mark.dimensions(
    occasion="unconnected", connection=("subscription", "held"), caller="timeout"
)
def test_nothing_is_pushed_before_the_subscription(client_sweep: ClientSweep, kind: str) -> None:
    """The client pushes no job while it doesn't hold the reply to its SUBSCRIBE."""
    hold = client_sweep.proxy.hold(lambda each: each.kind == kind and _subscribes(each), "client")
    client_sweep.start_only()
    first = client_sweep.call(SHORT_MS)
    hold.wait("the client to subscribe")

    client_sweep.wait_for_no_push(first)
    pushed = [job.message for job in client_sweep.pushes(first)]
    pushed += [hold.behind] if first.mark.encode() in hold.behind else []

    require(
        not pushed,
        "client.subscribe.before-push",
        expected="no push while SUBSCRIBE isn't answered, nor one that is sent behind it",
        got=pushed,
    )
    hold.release()
    client_sweep.settled(first)
    client_sweep.check_goes_on()


@pytest.mark.parametrize("lost", [False, True], ids=["", "after-a-loss"])
@pytest.mark.parametrize("timed", [True, False], ids=["timed", "untimed"])
@pytest.mark.requirement("client.register.before-push", "client.settle.once")
@pytest.mark.dimensions(
    occasion="reconnect",
    moment="outstanding",
    connection=("pushes", "held"),
    caller=("timeout", "no timeout"),
)
def test_a_result_overtakes_the_reply_to_the_push(
    client_sweep: ClientSweep, *, timed: bool, lost: bool
) -> None:
    """The client settles a call by a result that arrives before the reply to the push, at first and after a loss."""
    client_sweep.start_only()
    if lost:
        client_sweep.check_goes_on()
        client_sweep.proxy.drop("client")
        client_sweep.check_goes_on()
    hold = client_sweep.hold_next("reply")
    call = client_sweep.call(AMPLE_MS if timed else None)
    hold.wait("the reply to the push")

    client_sweep.wait_for_message(call)
    hold.release()

    client_sweep.check_settled_by_result(call, "client.register.before-push")
    client_sweep.check_once()


@pytest.mark.requirement("client.settle.result", "client.settle.once")
@pytest.mark.dimensions(connection=("subscription", "held"), caller="timeout")
def test_a_result_follows_the_reply_to_the_push(client_sweep: ClientSweep) -> None:
    """The client settles a call by a result that arrives after the reply to the push."""
    client_sweep.start()
    hold = client_sweep.hold_next(MESSAGE)
    call = client_sweep.call(AMPLE_MS)

    client_sweep.serve_until(lambda: hold.event, "client.settle.result", "a result under way")
    client_sweep.wait_for_reply(call)
    hold.release()

    client_sweep.check_settled_by_result(call, "client.settle.result")
    client_sweep.check_once()


def _subscribes(event: Event) -> bool:
    return event.arguments[:1] in {(b"SUBSCRIBE",), (b"PSUBSCRIBE",), (b"SSUBSCRIBE",)}
