"""The frame splitter: any stream of RESP, cut anywhere, gives the same frames."""

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobqueue_conformance.proxy import resp
from jobqueue_conformance.proxy.resp import InvalidFrame, Splitter

FRAMES = [
    b"+OK\r\n",
    b"-ERR no\r\n",
    b":42\r\n",
    b"$0\r\n\r\n",
    b"$-1\r\n",
    b"$5\r\na\r\nbc\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
    b"_\r\n",
    b"#t\r\n",
    b",1.5\r\n",
    b"%1\r\n+key\r\n*1\r\n+value\r\n",
    b"~2\r\n:1\r\n:2\r\n",
    b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n{}\r\n",
    b"=7\r\ntxt:one\r\n",
    b"!5\r\nERR x\r\n",
    b"|1\r\n+ttl\r\n:9\r\n*1\r\n:1\r\n",
]


@given(st.lists(st.sampled_from(FRAMES), max_size=8), st.data())
def test_a_stream_cut_anywhere_gives_its_frames(sent: list[bytes], data: st.DataObject) -> None:
    """The splitter gives every frame, whole, whatever packets it came in."""
    stream = b"".join(sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6).map(sorted))
    splitter = Splitter()

    received = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        splitter.feed(stream[begin:end])
        while (frame := splitter.next()) is not None:
            received.append(frame)

    assert received == sent
    assert not len(splitter)


def test_commands_can_be_inline() -> None:
    """The splitter takes a line of words for a command, between two that are arrays."""
    splitter = Splitter(inline=True)
    splitter.feed(b"*1\r\n$4\r\nPING\r\nset key 'two words'\r\n*1\r\n$4\r\nQUIT\r\n")

    commands = [resp.arguments(frame) for frame in iter(splitter.next, None)]

    assert commands == [(b"PING",), (b"SET", b"key", b"two words"), (b"QUIT",)]


def test_what_is_no_frame_is_refused() -> None:
    """The splitter raises where a length is not a number."""
    splitter = Splitter()
    splitter.feed(b"$many\r\n")

    with pytest.raises(InvalidFrame, match="many"):
        splitter.next()


def test_taking_gives_what_is_cut_and_what_is_not() -> None:
    """The splitter gives up everything that waits, also a frame that isn't complete."""
    splitter = Splitter()
    splitter.feed(b"+OK\r\n$5\r\nab")

    assert splitter.next() == b"+OK\r\n"
    assert splitter.take() == b"$5\r\nab"
    assert not len(splitter)


def test_a_command_reads_back() -> None:
    """A command that is written has the arguments that it was written with."""
    assert resp.arguments(resp.command("auth", "", "ü")) == (b"AUTH", b"", "ü".encode())


def test_values_are_read() -> None:
    """A reply's value is what hiredis makes of it."""
    assert resp.value(b"*2\r\n$1\r\na\r\n:1\r\n") == [b"a", 1]
    assert isinstance(resp.value(b"-ERR no\r\n"), hiredis.ReplyError)


@pytest.mark.parametrize(
    "command, subscribed, replies",
    [
        ((b"GET", b"key"), 0, 1),
        ((b"SUBSCRIBE", b"a", b"b"), 0, 2),
        ((b"UNSUBSCRIBE", b"a"), 3, 1),
        ((b"UNSUBSCRIBE",), 3, 3),
        ((b"PUNSUBSCRIBE",), 0, 1),
    ],
)
def test_each_channel_has_a_reply(
    command: tuple[bytes, ...], subscribed: int, replies: int
) -> None:
    """A command that subscribes or leaves is answered once for each channel."""
    assert resp.replies_to(command, subscribed) == replies


@pytest.mark.parametrize(
    "frame, word",
    [
        (b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n", b"message"),
        (b">2\r\n$10\r\ninvalidate\r\n*0\r\n", b"invalidate"),
        (b"*1\r\n:1\r\n", b""),
        (b"+OK\r\n", b""),
    ],
)
def test_a_message_is_known_by_its_first_word(frame: bytes, word: bytes) -> None:
    """The first word of an array or push is found without reading the rest."""
    assert resp.first_word(frame) == word
