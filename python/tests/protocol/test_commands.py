"""The commands of a server, led by hand: what is sent, and what each reply leads to."""

from typing import Any

import pytest
from jobqueue.protocol import commands
from jobqueue.protocol.commands import Commands, ErrorReply, Unavailable
from jobqueue.protocol.keys import Keys
from jobqueue.protocol.messages import Answer, Dead

KEYS = Keys.of("q", "p")
ANSWER = Answer(b"job", b"channel", "1", b"result")
DEAD = Dead(b"junk", "$ is not valid JSON")

PUBLISH = (b"PUBLISH", b"channel", b"result")
REMOVE = (b"LREM", b"q:in-process:p", b"-1", b"job")
TRANSACTION = [(b"MULTI",), PUBLISH, REMOVE, (b"EXEC",)]
BURY = (b"LPUSH", b"q:dead", b"job")

CHANGED = (
    "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC "
    "call. This command is no longer allowed for the following reason: "
)
FORBIDS_CHANNEL = [  # to a command that is queued or alone in 6.2 and 7.0, and inside EXEC
    "NOPERM this user has no permissions to access one of the channels used as arguments",
    "NOPERM No permissions to access a channel",
    f"{CHANGED}no permission to access one of the channels used as arguments to the command",
]
FORBIDS_COMMAND = [  # 6.2, 7.0, Redis 8 and Valkey, and inside EXEC
    "NOPERM this user has no permissions to run the 'publish' command or its subcommand",
    "NOPERM This user has no permissions to run the 'publish' command",
    "NOPERM User a-channel has no permissions to run the 'publish' command",
    f"{CHANGED}no permission to execute the command or subcommand",
]
NOPERM = ErrorReply("NOPERM", FORBIDS_CHANNEL[1])
OOM = ErrorReply("OOM", "OOM command not allowed")
READONLY = ErrorReply("READONLY", "READONLY a replica")
ABORTED = ErrorReply("EXECABORT", "EXECABORT Transaction discarded")


def lead(led: Commands[Any], *replies: list[Any]) -> tuple[list[Any], Any]:
    """Answer the writes with the replies; return the writes, and what it returns."""
    writes = [next(led), *(led.send(reply) for reply in replies[:-1])]
    with pytest.raises(StopIteration) as end:
        led.send(replies[-1])
    return writes, end.value.value


def test_publish_and_removal_are_one_transaction() -> None:
    """server.publish.before-remove, server.publish.refused: one write, all of it or nothing."""
    led = commands.finish(KEYS, ANSWER, transactions=True)

    assert lead(led, ["OK", "QUEUED", "QUEUED", [1, 1]]) == ([TRANSACTION], None)


def test_a_removal_that_finds_nothing_is_told() -> None:
    """server.remove.gone: the server goes on, and logs a warning."""
    led = commands.finish(KEYS, ANSWER, transactions=True)

    _, warning = lead(led, ["OK", "QUEUED", "QUEUED", [0, 0]])

    assert warning == "the message had already been removed"


@pytest.mark.parametrize("queued", [OOM, b"QUEUED"])
def test_a_refused_transaction_is_taken_apart(queued: object) -> None:
    """server.publish.refused: Redis 7.0 refuses MULTI at its memory limit, but not the commands."""
    led = commands.finish(KEYS, ANSWER, transactions=True)

    writes, warning = lead(led, ["OK", queued, queued, ABORTED], [1], [1])

    assert (writes, warning) == ([TRANSACTION, [PUBLISH], [REMOVE]], None)


def test_without_transactions_publish_is_looked_at_first() -> None:
    """server.publish.refused: the removal is sent after the reply to PUBLISH."""
    led = commands.finish(KEYS, ANSWER, transactions=False)

    assert lead(led, [0], [1]) == ([[PUBLISH], [REMOVE]], None)


@pytest.mark.parametrize(
    "transactions,replies",
    [
        (True, [["OK", NOPERM, "QUEUED", ABORTED]]),
        (True, [["OK", "QUEUED", "QUEUED", [NOPERM, 0]]]),
        (True, [["OK", OOM, OOM, ABORTED], [NOPERM]]),
        (False, [[NOPERM]]),
    ],
    ids=["queued", "executed", "apart", "alone"],
)
def test_a_forbidden_channel_makes_a_message_dead(
    transactions: bool, replies: list[list[Any]]
) -> None:
    """server.publish.noperm, server.dead-list.keeps: moved to the dead list, at whichever command Redis says NOPERM."""
    led = commands.finish(KEYS, ANSWER, transactions=transactions)

    writes, warning = lead(led, *replies, [1], [1])

    assert writes[-2:] == [[BURY], [REMOVE]]
    assert warning is not None
    assert warning.startswith("dead message: NOPERM")


@pytest.mark.parametrize("text", FORBIDS_CHANNEL)
def test_a_forbidden_channel_is_told_by_the_words(text: str) -> None:
    """server.publish.noperm: each error message of Redis and Valkey."""
    led = commands.finish(KEYS, ANSWER, transactions=False)

    writes, _ = lead(led, [ErrorReply("NOPERM", text)], [1], [1])

    assert writes == [[PUBLISH], [BURY], [REMOVE]]


@pytest.mark.parametrize("text", FORBIDS_COMMAND)
@pytest.mark.parametrize("transactions", [True, False])
def test_a_forbidden_command_is_no_fault_of_the_job(text: str, transactions: bool) -> None:
    """server.publish.forbidden-command: no message is moved or removed, and Redis counts as away."""
    led = commands.finish(KEYS, ANSWER, transactions=transactions)
    next(led)
    refused = ErrorReply("NOPERM", text)

    with pytest.raises(Unavailable, match="NOPERM"):
        led.send(["OK", refused, "QUEUED", ABORTED] if transactions else [refused])


@pytest.mark.parametrize("text", [FORBIDS_CHANNEL[2], FORBIDS_COMMAND[3]])
def test_what_a_transaction_removed_and_didnt_publish_is_returned(text: str) -> None:
    """server.publish.refused: the ACL was changed before EXEC; the job is on the list again."""
    led = commands.finish(KEYS, ANSWER, transactions=True)
    next(led)

    write = led.send(["OK", "QUEUED", "QUEUED", [ErrorReply("NOPERM", text), 1]])

    assert write == [(b"LPUSH", b"q:in-process:p", b"job")]
    if text in FORBIDS_CHANNEL:
        assert led.send([1]) == [BURY]
    else:
        with pytest.raises(Unavailable, match="NOPERM"):
            led.send([1])


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
    led = commands.finish(KEYS, outcome, transactions=transactions)
    next(led)
    for reply in replies[:-1]:
        led.send(reply)

    with pytest.raises(Unavailable, match=r"OOM|READONLY"):
        led.send(replies[-1])


@pytest.mark.parametrize("transactions", [True, False])
def test_a_dead_message_is_removed_after_it_is_kept(transactions: bool) -> None:
    """server.dead-list.keeps, server.dead.removed: the push's reply is there before the removal."""
    led = commands.finish(KEYS, DEAD, transactions=transactions)

    writes, _ = lead(led, [1], [1])

    remove = (b"LREM", b"q:in-process:p", b"-1", b"junk")
    assert writes == [[(b"LPUSH", b"q:dead", b"junk")], [remove]]


@pytest.mark.parametrize("published", [0, NOPERM])
def test_what_is_given_up_is_answered_before_it_is_kept(published: object) -> None:
    """server.attempts.limit: the client learns of it first, where the server may publish there."""
    led = commands.finish(KEYS, Dead(b"job", "given up", ANSWER), transactions=True)

    writes, _ = lead(led, [published], [1], [1])

    publish, push = (b"PUBLISH", b"channel", b"result"), (b"LPUSH", b"q:dead", b"job")
    assert writes == [[publish], [push], [(b"LREM", b"q:in-process:p", b"-1", b"job")]]


def test_what_is_given_up_stays_while_its_answer_is_refused() -> None:
    """server.publish.refused: an answer that Redis can't publish now is sent again."""
    led = commands.finish(KEYS, Dead(b"job", "given up", ANSWER), transactions=True)
    next(led)

    with pytest.raises(Unavailable):
        led.send([ErrorReply("NOPERM", "NOPERM this user has no permissions to run 'publish'")])


@pytest.mark.parametrize("value", [b"abc", b"", b"-1", b"1.5", b"9" * 5_000, None, NOPERM])
def test_what_is_no_count_is_none(value: object) -> None:
    """server.attempts.refused: INCR then decides."""
    led = commands.attempts(KEYS, b"job")
    next(led)

    with pytest.raises(StopIteration) as end:
        led.send([value])
    assert end.value.value == 0


@pytest.mark.parametrize(
    "outcome,transactions,alone",
    [(ANSWER, True, True), (ANSWER, False, False), (DEAD, True, False), (DEAD, False, False)],
)
def test_a_claim_follows_only_what_is_over_with_one_write(
    outcome: Answer | Dead, transactions: bool, alone: bool
) -> None:
    """A claim behind a removal that isn't sent yet would overtake it."""
    assert commands.one_write(outcome, transactions=transactions) is alone


def test_a_claim_takes_the_oldest() -> None:
    """server.claim.atomic, server.claim.order: from the right end to the left, the oldest first."""
    move = (b"q", b"q:in-process:p", b"RIGHT", b"LEFT")

    writes, jobs = lead(commands.claim(KEYS, 3, 2.0), [b"a", b"b", None])

    more = (b"LMOVE", *move)
    assert (writes, jobs) == ([[(b"BLMOVE", *move, b"2.000"), more, more]], [b"a", b"b"])


@pytest.mark.parametrize("block,said", [(2.0, b"2.000"), (0.0, b"0.001"), (0.0001, b"0.001")])
def test_a_claim_never_blocks_for_ever(block: float, said: bytes) -> None:
    """server.recovery.block: for Redis a timeout of 0 means forever."""
    writes, jobs = lead(commands.claim(KEYS, 1, block), [None])

    blocking = (b"BLMOVE", b"q", b"q:in-process:p", b"RIGHT", b"LEFT", said)
    assert (writes, jobs) == ([[blocking]], [])


def test_a_refused_claim_is_a_lost_connection() -> None:
    """At a failover a blocked claim is answered with UNBLOCKED: nothing was claimed."""
    led = commands.claim(KEYS, 1, 1.0)
    next(led)

    with pytest.raises(Unavailable, match="UNBLOCKED"):
        led.send([ErrorReply("UNBLOCKED", "UNBLOCKED force unblock")])


def test_a_look_gives_the_oldest_first() -> None:
    """server.recovery.order: the oldest entry stands at the right."""
    writes, entries = lead(commands.look(KEYS), [[b"newest", b"oldest"]])

    assert writes == [[(b"LRANGE", b"q:in-process:p", b"0", b"-1")]]
    assert entries == [b"oldest", b"newest"]


@pytest.mark.parametrize("replies,may", [([b"OK", []], True), ([NOPERM, NOPERM], False)])
def test_whether_transactions_are_allowed_is_asked(replies: list[Any], may: bool) -> None:
    """An empty transaction tells before anything depends on it."""
    assert lead(commands.may_transact(), replies) == ([[(b"MULTI",), (b"EXEC",)]], may)


def test_a_transaction_that_can_begin_and_not_end_is_a_refusal() -> None:
    """A user that may MULTI and not EXEC can't go on with this connection."""
    led = commands.may_transact()
    next(led)

    with pytest.raises(Unavailable, match="NOPERM"):
        led.send([b"OK", NOPERM])
