"""Sends bytes so that they are read in many pieces, as from a slow network.

A piece follows when the other end has read the one before, as the system's table of connections tells; after a moment
where there is no such table. The proxy does nothing else meanwhile, so a slow reader gets the rest of a frame at once.
"""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

PIECES, LEAST_BYTES = 24, 8
FRAME_S = 0.5  # for all pieces of a frame: a server that is slow to read has a lease to keep
PAUSE_S, BLIND_S = 0.0005, 0.02
TABLE = Path("/proc/net/tcp")  # of IPv4, which the proxy listens on
LOCAL, REMOTE, QUEUES = 1, 2, 4  # its columns


def send(sock: socket.socket, data: bytes) -> int:
    """Send as much as there is room for, and return how much it was."""
    sent = 0
    until = time.monotonic() + FRAME_S
    for piece in pieces(data):
        now = sock.send(piece)
        sent += now
        if now < len(piece):
            break
        _wait_until_read(sock, until)
    return sent


def pieces(data: bytes) -> Iterator[bytes]:
    """The data in about equal pieces; a short word is one."""
    size = max(LEAST_BYTES, -(-len(data) // PIECES))
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


def _wait_until_read(sock: socket.socket, until: float) -> None:
    if not TABLE.exists():
        time.sleep(BLIND_S)
        return
    while time.monotonic() < until and _unread(sock):
        time.sleep(PAUSE_S)


def _unread(sock: socket.socket) -> bool:
    """Whether the other end has bytes of this connection that it hasn't read."""
    try:
        ends = [sock.getpeername()[1], sock.getsockname()[1]]
    except OSError:
        return False
    for row in map(str.split, TABLE.read_text("ascii").splitlines()[1:]):
        if [int(row[each].partition(":")[2], 16) for each in (LOCAL, REMOTE)] == ends:
            return int(row[QUEUES].partition(":")[2], 16) > 0
    return True
