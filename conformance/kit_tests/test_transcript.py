"""Transcripts: what passed the tap, as redis-cli would show it."""

import pytest
from jobqueue_conformance import frames, transcript
from jobqueue_conformance.passage import CLOSED, COMMAND, MESSAGE, NOTE, OPENED, REPLY, Passage


def command(*parts: str) -> Passage:
    """A command that has arrived."""
    return Passage(0.0, "server", 1, COMMAND, frames.command(*parts))


def test_a_transcript_reads_like_redis_cli() -> None:
    """Every passage is a line: when, who, on which connection, which way, what."""
    asked = command("LPUSH", "queue", '{"a": 1}', "it's\n")
    passages = [
        Passage(10.0, "server", 1, OPENED, b""),
        Passage(10.001, "server", 1, COMMAND, asked.frame),
        Passage(10.002, "server", 1, REPLY, b"*3\r\n:1\r\n$-1\r\n%1\r\n+a\r\n#t\r\n", asked),
        Passage(10.003, "server", 1, REPLY, b"-OOM no\r\n", asked),
        Passage(10.004, "client", 2, MESSAGE, b">2\r\n$7\r\nmessage\r\n*0\r\n"),
        Passage(10.005, "client", 0, NOTE, b"stdin {}"),
        Passage(10.006, "server", 1, CLOSED, b""),
    ]

    assert [" ".join(line.split()) for line in transcript.lines(passages)] == [
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
    """A transcript shows the beginning and the end of a megabyte."""
    [line] = transcript.lines([command("LPUSH", "queue", "x" * 1_000_000 + "end")])

    assert len(line) < 1000
    assert line.endswith("xend'")
