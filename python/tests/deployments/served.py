"""A module with a server of each colour, for `jobqueue serve served:server`."""

from typing import Any

from jobqueue import Server, aio

server = Server(block_timeout=0.2)
aio_server = aio.Server(block_timeout=0.2)


@aio_server.on("echo")
@server.on("echo")
def echo(parameters: Any) -> Any:
    """Return the parameters."""
    return parameters
