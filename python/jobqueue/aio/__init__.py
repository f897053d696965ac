"""JobQueue for asyncio: the same names as in `jobqueue`, to be awaited.

A client or a server belongs to the event loop in which it is used first.
"""

from jobqueue.aio.client import Client
from jobqueue.aio.job import Job
from jobqueue.aio.server import Server
from jobqueue.errors import (
    ConnectionLost,
    InvalidHandle,
    InvalidMessage,
    JobError,
    JobQueueError,
    JobTimeout,
    NotQueued,
    ProcessorInUse,
    ProcessorLost,
)

__all__ = [
    "Client",
    "ConnectionLost",
    "InvalidHandle",
    "InvalidMessage",
    "Job",
    "JobError",
    "JobQueueError",
    "JobTimeout",
    "NotQueued",
    "ProcessorInUse",
    "ProcessorLost",
    "Server",
]
