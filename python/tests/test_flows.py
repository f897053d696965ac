"""The conversations with Redis, led by hand: what is sent, and what each reply leads to."""

from typing import Any

import pytest
from jobqueue.protocol import commands as flows
from jobqueue.protocol.commands import ErrorReply, Flow, Unavailable
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Answer, Dead

KEYS = Keys.of("q", "p")
ANSWER = Answer(b"job", b"channel", "1", b"result")
DEAD = Dead(b"junk", "$ is no JSON")

PUBLISH = (b"PUBLISH", b"channel", b"result")
REMOVE = (b"LREM", b"q:in-process:p", b"-1", b"job")
TRANSACTION = [(b"MULTI",), PUBLISH, REMOVE, (b"EXEC",)]
BURY = (b"LPUSH", b"q:dead", b"job")

NOPERM = ErrorReply("NOPERM", "NOPERM no permissions")
OOM = ErrorReply("OOM", "OOM command not allowed")
READONLY = ErrorReply("READONLY", "READONLY a replica")
ABORTED = ErrorReply("EXECABORT", "EXECABORT Transaction discarded")


def lead(flow: Flow[Any], *replies: list[Any]) -> tuple[list[Any], Any]:
    """Answer a flow's writes with the replies; return the writes, and what it returns."""
    writes = [next(flow), *(flow.send(reply) for reply in replies[:-1])]
    with pytest.raises(StopIteration) as end:
        flow.send(replies[-1])
    return writes, end.value.value


def test_publish_and_removal_are_one_transaction() -> None:
    """server.publish.before-remove, server.publish.refused: one write, all of it or nothing."""
    flow = flows.finish(KEYS, ANSWER, transactions=True)

    assert lead(flow, ["OK", "QUEUED", "QUEUED", [1, 1]]) == ([TRANSACTION], None)


def test_a_removal_that_finds_nothing_is_told() -> None:
    """server.remove.gone: the server goes on, and the log says so."""
    flow = flows.finish(KEYS, ANSWER, transactions=True)

    _, odd = lead(flow, ["OK", "QUEUED", "QUEUED", [0, 0]])

    assert odd == "somebody else had removed it"


@pytest.mark.parametrize("queued", [OOM, b"QUEUED"])
def test_a_refused_transaction_is_taken_apart(queued: object) -> None:
    """server.publish.refused: Redis 7.0 refuses MULTI at its memory limit, but not the commands."""
    flow = flows.finish(KEYS, ANSWER, transactions=True)

    writes, odd = lead(flow, ["OK", queued, queued, ABORTED], [1], [1])

    assert (writes, odd) == ([TRANSACTION, [PUBLISH], [REMOVE]], None)


def test_without_transactions_publish_is_looked_at_first() -> None:
    """server.publish.refused: the removal is sent after the reply to PUBLISH."""
    flow = flows.finish(KEYS, ANSWER, transactions=False)

    assert lead(flow, [0], [1]) == ([[PUBLISH], [REMOVE]], None)


@pytest.mark.parametrize(
    "transactions,replies",
    [
        (True, [["OK", NOPERM, "QUEUED", ABORTED]]),
        (True, [["OK", "QUEUED", "QUEUED", [NOPERM, 1]]]),
        (True, [["OK", OOM, OOM, ABORTED], [NOPERM]]),
        (False, [[NOPERM]]),
    ],
    ids=["queued", "executed", "apart", "alone"],
)
def test_a_forbidden_channel_makes_a_message_dead(
    transactions: bool, replies: list[list[Any]]
) -> None:
    """server.publish.noperm, server.dead-list.keeps: buried, wherever Redis has said NOPERM."""
    flow = flows.finish(KEYS, ANSWER, transactions=transactions)

    writes, odd = lead(flow, *replies, [1], [1])

    assert (writes[-2:], odd) == ([[BURY], [REMOVE]], None)


@pytest.mark.parametrize(
    "outcome,transactions,replies",
    [
        (ANSWER, True, [["OK", OOM, OOM, ABORTED], [OOM]]),
        (ANSWER, True, [["OK", "QUEUED", READONLY, ABORTED], [0], [READONLY]]),
        (ANSWER, True, [["OK", "QUEUED", "QUEUED", [1, READONLY]]]),
        (ANSWER, False, [[OOM]]),
        (DEAD, True, [[OOM]]),
        (DEAD, True, [[1], [READONLY]]),
    ],
)
def test_any_other_refusal_is_a_lost_connection(
    outcome: Answer | Dead, transactions: bool, replies: list[list[Any]]
) -> None:
    """server.publish.again: nothing more is sent, and the message stays where it is."""
    flow = flows.finish(KEYS, outcome, transactions=transactions)
    next(flow)
    for reply in replies[:-1]:
        flow.send(reply)

    with pytest.raises(Unavailable, match=r"OOM|READONLY"):
        flow.send(replies[-1])


@pytest.mark.parametrize("transactions", [True, False])
def test_a_dead_message_is_removed_after_it_is_kept(transactions: bool) -> None:
    """server.dead-list.keeps, server.dead.removed: the push's reply is there before the removal."""
    flow = flows.finish(KEYS, DEAD, transactions=transactions)

    writes, _ = lead(flow, [1], [1])

    remove = (b"LREM", b"q:in-process:p", b"-1", b"junk")
    assert writes == [[(b"LPUSH", b"q:dead", b"junk")], [remove]]


@pytest.mark.parametrize(
    "outcome,transactions,alone",
    [(ANSWER, True, True), (ANSWER, False, False), (DEAD, True, False), (DEAD, False, False)],
)
def test_a_claim_follows_only_what_is_over_with_one_write(
    outcome: Answer | Dead, transactions: bool, alone: bool
) -> None:
    """A claim behind a removal that isn't sent yet would overtake it."""
    assert flows.one_write(outcome, transactions=transactions) is alone


def test_a_claim_takes_the_oldest() -> None:
    """server.claim.atomic, server.claim.order: from the right end to the left, the oldest first."""
    move = (b"q", b"q:in-process:p", b"RIGHT", b"LEFT")

    writes, jobs = lead(flows.claim(KEYS, 3, 2.0), [b"a", b"b", None])

    more = (b"LMOVE", *move)
    assert (writes, jobs) == ([[(b"BLMOVE", *move, b"2.000"), more, more]], [b"a", b"b"])


@pytest.mark.parametrize("block,said", [(2.0, b"2.000"), (0.0, b"0.001"), (0.0001, b"0.001")])
def test_a_claim_never_blocks_for_ever(block: float, said: bytes) -> None:
    """server.recovery.block: Redis reads a timeout of 0 as for ever."""
    writes, jobs = lead(flows.claim(KEYS, 1, block), [None])

    blocking = (b"BLMOVE", b"q", b"q:in-process:p", b"RIGHT", b"LEFT", said)
    assert (writes, jobs) == ([[blocking]], [])


def test_a_refused_claim_is_a_lost_connection() -> None:
    """At a failover a blocked claim is answered with UNBLOCKED: nothing was claimed."""
    flow = flows.claim(KEYS, 1, 1.0)
    next(flow)

    with pytest.raises(Unavailable, match="UNBLOCKED"):
        flow.send([ErrorReply("UNBLOCKED", "UNBLOCKED force unblock")])


def test_a_look_gives_the_oldest_first() -> None:
    """server.recovery.order: the oldest entry stands at the right."""
    writes, entries = lead(flows.look(KEYS), [[b"newest", b"oldest"]])

    assert writes == [[(b"LRANGE", b"q:in-process:p", b"0", b"-1")]]
    assert entries == [b"oldest", b"newest"]


@pytest.mark.parametrize("replies,may", [([b"OK", []], True), ([NOPERM, NOPERM], False)])
def test_whether_transactions_are_allowed_is_asked(replies: list[Any], may: bool) -> None:
    """An empty transaction tells before anything depends on it."""
    assert lead(flows.may_transact(), replies) == ([[(b"MULTI",), (b"EXEC",)]], may)


def test_a_transaction_that_can_begin_and_not_end_is_a_refusal() -> None:
    """A user that may MULTI and not EXEC can't go on with this connection."""
    flow = flows.may_transact()
    next(flow)

    with pytest.raises(Unavailable, match="NOPERM"):
        flow.send([b"OK", NOPERM])
