"""What can go wrong, and whose fault it is.

    JobQueueError
    ├── JobError         the job was answered with an error; handlers raise it to choose theirs
    ├── JobTimeout       no result came within the job's timeout (a TimeoutError, too)
    ├── ConnectionLost   a connection was lost, and with it perhaps the result or the push
    ├── NotQueued        the job wasn't pushed, so it never runs
    ├── ProcessorInUse   another server on this host uses the in-process list
    └── InvalidMessage   bytes that are not a valid job or result (a ValueError, too)

A caller's own mistakes are TypeError and ValueError, as everywhere in Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One code of the registry, spec/errors.json: where it occurs and what it leaves open."""

    code: str
    where: Literal["wire", "client"]
    may_have_run: bool


REGISTRY = {
    code.code: code
    for code in (
        ErrorCode("method-not-found", "wire", may_have_run=False),
        ErrorCode("invalid-job", "wire", may_have_run=False),
        ErrorCode("handler-error", "wire", may_have_run=True),
        ErrorCode("result-not-serializable", "wire", may_have_run=True),
        ErrorCode("result-too-large", "wire", may_have_run=True),
        ErrorCode("timeout", "client", may_have_run=True),
        ErrorCode("connection-lost", "client", may_have_run=True),
        ErrorCode("not-queued", "client", may_have_run=False),
    )
}


def publishable(code: str) -> bool:
    """Tell whether a server may publish the code: it has a dot, or the registry knows it."""
    # server.result.code
    return "." in code or (code in REGISTRY and REGISTRY[code].where == "wire")


class JobQueueError(Exception):
    """The base of all errors of this package."""


class JobError(JobQueueError):
    """The answer to a job is an error: the code, the message and the data that the server gave.

    A handler raises it to choose its answer. Its code is one of the registry's for the wire, or
    contains a dot, as in `billing.card-declined`; any other is published as `handler-error`.
    """

    def __init__(self, code: str, message: str, data: object = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class JobTimeout(JobQueueError, TimeoutError):  # noqa: N818 - the name that the protocol gives it
    """No result came within the job's timeout; the job may have run, or may run yet."""

    code: ClassVar = "timeout"


class ConnectionLost(JobQueueError):  # noqa: N818 - the name that the protocol gives it
    """A connection was lost, and with it perhaps the result or the push; the job may have run."""

    code: ClassVar = "connection-lost"


class NotQueued(JobQueueError):  # noqa: N818 - the name that the protocol gives it
    """Redis refused the push, or there was no connection to push on; the job never runs."""

    code: ClassVar = "not-queued"


class ProcessorInUse(JobQueueError):  # noqa: N818 - says what is true, as its siblings do
    """Another server on this host uses the same in-process list; nothing was claimed."""


class InvalidMessage(JobQueueError, ValueError):  # noqa: N818 - says what is true, as its siblings do
    """Bytes are not a valid job or result; `path` says where, as in `$.error.code`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"
