"""A TLS server in front of a Redis, as some providers have it: any Redis can be tested with TLS."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from trustme import CA

CHUNK_BYTES = 65_536


class TlsFront:
    """Forwards to a port of this machine, from a port of its own.

    Args:
        target: The port of Redis.
        authority: Signs its certificate.
        name: The host name in the certificate.
        clients: The authority that must have signed a client's certificate; None if none is asked for.
    """

    def __init__(
        self, target: int, authority: CA, name: str = "localhost", clients: CA | None = None
    ) -> None:
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(self._context)
        if clients is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            clients.configure_trust(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0  # whose handshake has succeeded
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def renew(self, authority: CA) -> None:
        """Use another certificate for new connections, and end those that there are."""
        authority.issue_cert("localhost").configure_cert(self._context)
        self._cut()

    def trust(self, clients: CA) -> None:
        """Accept, from new connections, certificates of another authority, too."""
        clients.configure_trust(self._context)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._open.append(sock)
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError), sock:
            # Blocking: a failed handshake has sent its alert when this raises.
            outer = self._context.wrap_socket(sock.dup(), server_side=True)
            self.connections += 1
            with outer, socket.create_connection(("127.0.0.1", self._target)) as inner:
                while True:
                    ready, _, _ = select.select([outer, inner], [], [])
                    for source, sink in ((outer, inner), (inner, outer)):
                        if source in ready:
                            data = source.recv(CHUNK_BYTES)
                            while outer.pending() and source is outer:
                                data += outer.recv(CHUNK_BYTES)
                            if not data:
                                return
                            sink.sendall(data)

    def _cut(self) -> None:
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._open.clear()
