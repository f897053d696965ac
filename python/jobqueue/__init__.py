"""JobQueue: run jobs on servers over Redis, and get their results.

`jobqueue.aio` has the same names for asyncio.
"""

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
from jobqueue.threads.client import Client
from jobqueue.threads.job import Job
from jobqueue.threads.server import Server

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
