"""A plain connection to Redis or to the proxy, for tests that need to know what is in which packet."""

import socket

import hiredis


class Line:
    """Sends commands, reads replies, and waits for neither."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._reader = hiredis.Reader()

    def send(self, *commands: str) -> None:
        """Send commands, words apart, in one packet."""
        packed = [hiredis.pack_command(tuple(command.split())) for command in commands]  # type: ignore[arg-type]
        self.socket.sendall(b"".join(packed))

    def read(self) -> object:
        """The next reply or message."""
        while (reply := self._reader.gets()) is False:
            received = self.socket.recv(65536)
            if not received:
                return EOFError
            self._reader.feed(received)
        return reply

    def ask(self, command: str) -> object:
        """The reply to one command."""
        self.send(command)
        return self.read()

    def close(self) -> None:
        """End the connection."""
        self.socket.close()
