"""A module with a server, for `jobqueue serve served:server`."""

from typing import Any

from jobqueue import Server

server = Server(block_timeout=0.2)


@server.on("echo")
def echo(parameters: Any) -> Any:
    """Return the parameters."""
    return parameters
