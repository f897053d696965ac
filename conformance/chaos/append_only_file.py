"""What Redis's append-only file says: the commands that changed its data, in their order.

Pure. With `appendfsync always` Redis executes a push, writes it to the file, and only then answers. So a push that
isn't in the file never reached Redis, whatever its client knows.
"""

from collections.abc import Iterator

from jobqueue_conformance.proxy import resp


def commands(written: bytes) -> Iterator[tuple[bytes, ...]]:
    """Every whole command; what a kill cut off at the end isn't one."""
    at = 0
    while (end := resp.frame_end(written, at)) is not None and end > at:
        if written[at : at + 1] == b"*":  # other lines are Redis's own notes
            yield resp.arguments(written[at:end])
        at = end


def pushed(written: bytes, queue: bytes) -> list[bytes]:
    """Every message that was pushed to the left end of this queue."""
    return [
        message
        for name, *arguments in commands(written)
        if name == b"LPUSH" and arguments[:1] == [queue]
        for message in arguments[1:]
    ]
