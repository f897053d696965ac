"""Transcripts: what passed the proxy, as redis-cli would show it."""

import pytest
from jobqueue_conformance.proxy import resp, transcript
from jobqueue_conformance.proxy.events import CLOSED, COMMAND, MESSAGE, OPENED, REPLY, STDIN, Event


def command(*parts: str) -> Event:
    """A command that has arrived."""
    return Event(0.0, "server", 1, COMMAND, resp.command(*parts))


def test_a_transcript_reads_like_redis_cli() -> None:
    """Every event is a line: when, who, on which connection, which way, what."""
    asked = command("LPUSH", "queue", '{"a": 1}', "it's\n")
    events = [
        Event(10.0, "server", 1, OPENED, b""),
        Event(10.001, "server", 1, COMMAND, asked.frame),
        Event(10.002, "server", 1, REPLY, b"*3\r\n:1\r\n$-1\r\n%1\r\n+a\r\n#t\r\n", asked),
        Event(10.003, "server", 1, REPLY, b"-OOM no\r\n", asked),
        Event(10.004, "client", 2, MESSAGE, b">2\r\n$7\r\nmessage\r\n*0\r\n"),
        Event(10.005, "client", 0, STDIN, b"{}"),
        Event(10.006, "server", 1, CLOSED, b""),
    ]

    assert [" ".join(line.split()) for line in transcript.lines(events)] == [
        "0.0 ms server#1 (opened)",
        '1.0 ms server#1 > LPUSH queue \'{"a": 1}\' "it\'s\\n"',
        "2.0 ms server#1 < [(integer) 1, (nil), {a: (true)}]",
        "3.0 ms server#1 < (error) OOM no",
        "4.0 ms client#2 ~ [message, (empty array)]",
        "5.0 ms client stdin {}",
        "6.0 ms server#1 (closed)",
    ]
    assert transcript.lines([]) == ["(nothing passed)"]


@pytest.mark.parametrize(
    "parts",
    [("AUTH", "hunter2"), ("AUTH", "me", "hunter2"), ("HELLO", "3", "AUTH", "me", "hunter2")],
)
def test_a_transcript_shows_no_password(parts: tuple[str, ...]) -> None:
    """What authenticates is hidden, however it is sent."""
    [line] = transcript.lines([command(*parts)])

    assert "hunter2" not in line
    assert "*****" in line


def test_a_long_argument_is_shortened() -> None:
    """A transcript shows the beginning and the end of a megabyte, and how much of it nobody sees."""
    [line] = transcript.lines([command("LPUSH", "queue", "x" * 1_000_000 + "end")])

    assert len(line) < 1000
    assert line.endswith("xend'")
    assert f"({1_000_003 - transcript.LONGEST} characters left out)" in line
