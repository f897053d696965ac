"""One connection through the proxy: the program under test on one side, Redis on the other.

It lets one command at a time go to Redis, so that everything behind it is still in the proxy's hands, and watches both
sockets. It runs in the proxy's thread, and only there.
"""

import selectors
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from jobqueue_conformance.proxy import pieces, resp
from jobqueue_conformance.proxy.events import COMMAND, MESSAGE, REPLY, Event

CHUNK = 1 << 18
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST instead of FIN


class Gate(Protocol):
    """Decides which events may pass, and is notified of each."""

    selector: selectors.BaseSelector

    def passes(self, event: Event, connection: "Connection") -> bool:
        """Record the event; false holds it."""

    def answered(self, event: Event) -> None:
        """The last reply to a command has been returned."""

    def cut(self, connection: "Connection", how: str) -> None:
        """The kit ends the connection."""

    def closed(self, connection: "Connection") -> None:
        """Both sides are closed."""


class Side:
    """One of the two sockets: sends without blocking."""

    def __init__(
        self, sock: socket.socket, selector: selectors.BaseSelector, read: Callable[[], None]
    ) -> None:
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.open = True
        self.in_pieces = False
        self._selector = selector
        self._read = read
        self._unsent = bytearray()
        self._last = self._collects = False
        selector.register(sock, selectors.EVENT_READ, self.ready)

    def ready(self, events: int) -> None:
        """The selector's call: there is room to send, or something to read."""
        if self.open and events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ and self.open:
            self._read()

    def receive(self) -> bytes:
        """What has arrived; nothing when the other end has closed."""
        try:
            return self.socket.recv(CHUNK)
        except OSError:
            return b""

    def drain(self) -> bytes:
        """All that has arrived and wasn't read yet."""
        rest = bytearray()
        try:
            while self.open and (received := self.socket.recv(CHUNK)):
                rest += received
        except OSError:
            pass
        return bytes(rest)

    def send(self, frame: bytes) -> None:
        """Send it now, or as soon as there is room."""
        if self.open:
            self._unsent += frame
            self._flush()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Send what is sent meanwhile as one piece."""
        self._collects = True
        yield
        self._collects = False
        if self.open:
            self._flush()

    def finish(self) -> None:
        """Send FIN behind what is still to be sent; the other end's FIN will follow."""
        self._last = True
        if self.open:
            self._flush()

    def close(self, *, reset: bool = False) -> None:
        """Close at once, with FIN or RST."""
        if self.open:
            self.open = False
            self._selector.unregister(self.socket)
            if reset:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.socket.close()

    def _flush(self) -> None:
        if self._collects:
            return
        try:
            while self._unsent:
                if self.in_pieces:
                    del self._unsent[: pieces.send(self.socket, bytes(self._unsent))]
                else:
                    del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()  # reading finds out that it is closed
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if self._selector.get_key(self.socket).events != wanted:
            self._selector.modify(self.socket, wanted, self.ready)
        if self._last and not self._unsent:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)


class Connection:
    """The frames under way between the two sides, and what is held of them."""

    def __init__(
        self, gate: Gate, who: str, number: int, near: socket.socket, far: socket.socket
    ) -> None:
        """Join the side of what is under test, `near`, and that of Redis, `far`."""
        self.who = who
        self.number = number
        self.local_port: int = far.getsockname()[1]
        self.in_flight: Event | None = None
        self.held_command: Event | None = None
        self.held_reply: Event | None = None
        self._gate = gate
        self._near = Side(near, gate.selector, self._read_near)
        self._far = Side(far, gate.selector, self._read_far)
        self._commands = resp.Splitter(inline=True)
        self._replies = resp.Splitter()
        self._replies_left = 0
        self._transaction: list[Event] | None = None
        self._subscribed: set[tuple[bytes, bytes]] = set()
        self._resp3 = False
        self._muted = False
        self._half_closed = False
        self._ended = False

    # What the test decides, called in the proxy's thread.

    def release(self) -> None:
        """Let what is held pass, and with it what has arrived behind it."""
        if not self._near.open:
            self._doom(delivered=True)
            self._end_far()
            return
        command, self.held_command = self.held_command, None
        reply, self.held_reply = self.held_reply, None
        for each in filter(None, (command, reply)):
            each.fate = "held, then passed on"
        self._replies.feed(self._far.drain())
        with self._near.together():
            if reply is not None:
                self._return(reply)
            if command is not None:
                self._forward(command)
            self._pump()

    def drop(self, *, reset: bool, deliver: bool, half_open: bool = False) -> None:
        """End the connection of what is under test.

        Args:
            reset: with RST, not FIN.
            deliver: Redis still receives what is held or waits in the proxy, as bytes that were under way.
            half_open: Redis doesn't notice: it goes on serving a connection that is dead.
        """
        self._commands.feed(self._near.drain())
        self._near.close(reset=reset)
        self._doom(delivered=deliver)
        self._gate.cut(self, "RST" if reset else "FIN")
        if not deliver:
            self._commands.take()
            self.held_command = None
        if not half_open:
            self._end_far()

    def mute(self) -> None:
        """Return nothing more, as a peer that is gone without a FIN."""
        self._muted = True

    def return_in_pieces(self, *, over: bool) -> None:
        """Return every frame in many pieces, until that is over."""
        self._near.in_pieces = not over

    def half_close(self) -> None:
        """Send FIN to what is under test, and Redis what was under way; it is open until its own FIN comes."""
        self._commands.take()
        self._doom(delivered=False)
        self._gate.cut(self, "FIN")
        self.held_command = self.held_reply = self.in_flight = None
        self._muted = self._half_closed = True
        self._near.finish()
        self._end_far()

    def hang_up(self) -> None:
        """Let Redis notice that the connection is dead."""
        self._end_far()

    @property
    def dead(self) -> bool:
        """Whether what is under test has lost or left it."""
        return not self._near.open

    @property
    def waiting(self) -> bool:
        """Whether bytes wait behind what is held or in flight."""
        return len(self._commands) > 0

    @property
    def behind(self) -> bytes:
        """The bytes that wait behind what is held or in flight."""
        return self._commands.rest

    # What happens on the sockets.

    def _read_near(self) -> None:
        received = self._near.receive()
        if received and self._half_closed:
            return  # the peer has gone
        if received:
            self._commands.feed(received)
            self._pump()
        else:
            self._near.close()
            if not self._far.open:
                self._gate.closed(self)
            elif self.held_command is None and self.held_reply is None:
                self._end_far()

    def _read_far(self) -> None:
        received = self._far.receive()
        if received:
            self._replies.feed(received)
            self._pump()
        else:
            self._far.close()
            if not self._half_closed:
                self._near.close()
            self._doom(delivered=False)
            self.in_flight = self.held_command = self.held_reply = None
            if not self._near.open:
                self._gate.closed(self)

    def _doom(self, *, delivered: bool) -> None:
        """Say what becomes of what is held, as its connection ends."""
        if self.held_command is not None:
            self.held_command.fate = "reached Redis, unanswered" if delivered else "lost"
        if self.held_reply is not None:
            self.held_reply.fate = "lost"

    def _end_far(self) -> None:
        """What was under way still reaches Redis; then it sees FIN, and answers with its own."""
        command, self.held_command = self.held_command, None
        if self.held_reply is not None:
            self.held_reply = self.in_flight = None
        self._ended = True
        if command is not None:
            self._far.send(command.frame)
        self._far.send(self._commands.take())
        self._far.finish()

    def _pump(self) -> None:
        while self._down() or self._up():
            pass
        if not self._near.open and self.in_flight is None and self._far.open:
            self._end_far()

    def _up(self) -> bool:
        """Read the next command, where none is in flight."""
        if self.in_flight is not None or self.held_command is not None:
            return False
        frame = self._commands.next()
        if frame is None:
            return False
        event = Event(0.0, self.who, self.number, COMMAND, frame)
        name = event.arguments[0] if event.arguments else b""
        if self._transaction is not None:
            if name == b"EXEC":
                event.transaction = tuple(self._transaction)
            event.queued = name not in {b"EXEC", b"DISCARD", b"RESET"}
        if self._gate.passes(event, self):
            self._forward(event)
        else:
            self.held_command = event
        return True

    def _forward(self, event: Event) -> None:
        self.in_flight = event
        self._replies_left = resp.replies_to(event.arguments, len(self._subscribed))
        self._far.send(event.frame)

    def _down(self) -> bool:
        """Read the next reply or message, where none is held."""
        if self.held_reply is not None or self._muted:
            return False
        if self._ended and self.in_flight is None:
            return False  # it answers what nobody waits for any more
        frame = self._replies.next()
        if frame is None:
            return False
        command = None if self._is_message(frame) else self.in_flight
        kind = MESSAGE if command is None else REPLY
        queued = command is not None and command.queued
        event = Event(0.0, self.who, self.number, kind, frame, answers=command, queued=queued)
        if self._gate.passes(event, self):
            self._return(event)
        else:
            self.held_reply = event
        return True

    def _return(self, event: Event) -> None:
        self._near.send(event.frame)
        command = event.answers
        if command is None:
            return
        self._learn(command, event.frame)
        self._replies_left -= 1
        if self._replies_left <= 0 or event.frame[:1] == b"-":
            self.in_flight = None
            self._gate.answered(command)

    def _is_message(self, frame: bytes) -> bool:
        pushed = frame[:1] == b">" or (bool(self._subscribed) and not self._resp3)
        return pushed and resp.first_word(frame) in resp.MESSAGES

    def _learn(self, command: Event, reply: bytes) -> None:
        """Remember what decides how later frames are read."""
        name, *rest = command.arguments or (b"",)
        if name == b"MULTI" and reply == b"+OK\r\n":
            self._transaction = []
        elif name in {b"EXEC", b"DISCARD", b"RESET"}:
            self._transaction = None
        elif self._transaction is not None and reply == b"+QUEUED\r\n":
            self._transaction.append(command)
        elif name.endswith(b"SUBSCRIBE") and reply[:1] in b"*>":
            said = resp.value(reply)
            if isinstance(said, list):
                what, channel, _ = said
                family, on = what.removesuffix(b"subscribe").removesuffix(b"un"), b"un" not in what
                (self._subscribed.add if on else self._subscribed.discard)((family, channel))
        elif name == b"HELLO" and rest and reply[:1] != b"-":
            self._resp3 = rest[0] == b"3"
        if name == b"RESET":
            self._subscribed.clear()
            self._resp3 = False
