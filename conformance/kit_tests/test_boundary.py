"""Boundaries: the places where a fault can hit a job, counted the same for every way to write a server."""

import pytest
from jobqueue_conformance.proxy import boundary, resp
from jobqueue_conformance.proxy.boundary import Nth, NthOfHandshake
from jobqueue_conformance.proxy.events import COMMAND, MESSAGE, REPLY, Event

JOB = '{"id":"job-7"}'
RESULT = '{"id":"job-7","result":1}'


def command(*parts: str, queued: bool = False, connection: int = 1) -> Event:
    """A command that has arrived."""
    return Event(0.0, "server", connection, COMMAND, resp.command(*parts), queued=queued)


def reply(frame: str, answers: Event) -> Event:
    """The reply to a command."""
    return Event(
        0.0, "server", answers.connection, REPLY, frame.encode(), answers, queued=answers.queued
    )


def bulk(text: str) -> str:
    """The frame of a string."""
    return f"${len(text)}\r\n{text}\r\n"


def plain_server() -> list[Event]:
    """A handshake, an empty claim, a claim, a publication, a removal, a ping."""
    exchanges = [
        (command("HELLO", "3"), "%0\r\n"),
        (command("LMOVE", "q", "l", "RIGHT", "LEFT"), "_\r\n"),
        (command("BLMOVE", "q", "l", "RIGHT", "LEFT", "2"), bulk(JOB)),
        (command("PUBLISH", "c", RESULT), ":1\r\n"),
        (command("LREM", "l", "-1", JOB), ":1\r\n"),
        (command("PING"), "+PONG\r\n"),
    ]
    return [each for asked, said in exchanges for each in (asked, reply(said, asked))]


def transaction_server() -> list[Event]:
    """A claim, and both other steps in a transaction."""
    claim = command("BLMOVE", "q", "l", "RIGHT", "LEFT", "2")
    publish = command("PUBLISH", "c", RESULT, queued=True)
    remove = command("LREM", "l", "-1", JOB, queued=True)
    multi, done = command("MULTI"), command("EXEC")
    done.transaction = (publish, remove)
    return [
        claim,
        reply(bulk(JOB), claim),
        multi,
        reply("+OK\r\n", multi),
        publish,
        reply("+QUEUED\r\n", publish),
        remove,
        reply("+QUEUED\r\n", remove),
        done,
        reply("*2\r\n:1\r\n:1\r\n", done),
    ]


def script_server() -> list[Event]:
    """A claim by a script, and both other steps in another."""
    claim = command("EVALSHA", "1f", "2", "q", "l")
    finish = command("EVALSHA", "2e", "1", "l", "c", RESULT, JOB)
    return [claim, reply(bulk(JOB), claim), finish, reply(":1\r\n", finish)]


@pytest.mark.parametrize(
    "events, boundaries",
    [(plain_server(), 5), (transaction_server(), 3), (script_server(), 3)],
    ids=["plain", "transaction", "script"],
)
def test_boundaries_belong_to_the_job(events: list[Event], boundaries: int) -> None:
    """Handshakes, pings, empty claims and queued commands are not boundaries."""
    assert sum(boundary.is_boundary(each, b"job-7") for each in events) == boundaries


def test_the_nth_boundary_matches_once() -> None:
    """A number matches one boundary, and zero matches each."""
    second, each = Nth(2, "job-7"), Nth(0, "job-7")

    assert [second(event) for event in script_server()] == [False, False, True, False]
    assert [each(event) for event in script_server()] == [False, True, True, True]


def test_a_handshake_ends_where_the_queue_is_named() -> None:
    """An event of a handshake is on a new connection, before it names the queue."""
    third = NthOfHandshake(3, "queue-1", after_connection=4)
    hello = command("HELLO", "3", connection=5)
    ping = command("PING", connection=5)

    matched = [
        third(command("PING", connection=4)),
        third(hello),
        third(reply("%0\r\n", hello)),
        third(ping),
        third(command("LRANGE", "queue-1:in-process:x", "0", "-1", connection=5)),
        third(reply("+PONG\r\n", ping)),
    ]

    assert matched == [False, False, False, True, False, False]


def test_a_boundary_says_where_it_is() -> None:
    """A label names the command, what it executes, and which way it goes."""
    *_, done, answer = transaction_server()

    assert boundary.label(done) == (
        "the command EXEC of PUBLISH, LREM has arrived and isn't forwarded"
    )
    assert boundary.label(answer) == (
        "the reply to EXEC of PUBLISH, LREM has arrived and isn't returned"
    )
    message = Event(0.0, "client", 1, MESSAGE, b">0\r\n")
    assert boundary.label(message) == "a message has arrived and isn't returned"
