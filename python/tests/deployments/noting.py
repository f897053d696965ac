"""A server as a program that notes each job that it runs: `python noting.py KIND QUEUE FILE`.

The URL is in $REDIS_URL.
"""

import asyncio
import os
import sys
from typing import Any

from jobqueue import Server, aio

kind, queue, notes = sys.argv[1:]
make = aio.Server if kind == "asyncio" else Server
server = make(
    os.environ["REDIS_URL"], queue=queue, processor=kind, block_timeout=0.5, concurrency=4
)
file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


@server.on("note")
def note(number: Any) -> Any:
    """Note the number, and return it."""
    os.write(file, f"{number}\n".encode())
    return number


if isinstance(server, aio.Server):
    asyncio.run(server.run())
else:
    server.run()
