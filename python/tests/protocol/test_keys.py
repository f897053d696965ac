"""What the vectors don't say of keys."""

from jobqueue.protocol import keys
from jobqueue.protocol.keys import Keys


def test_a_whole_key_wins_over_the_processor() -> None:
    """server.list.name: a configured in-process list is taken as it is."""
    assert Keys.of("q", "web-1", "q:in-process") == Keys(b"q", b"q:in-process", b"q:dead")


def test_a_key_that_is_no_utf8_can_be_shown() -> None:
    """Foreign bytes appear as escapes, and text stays as it is."""
    assert keys.text(b"a\xff") == r"a\xff"
    assert keys.text("a") == "a"
