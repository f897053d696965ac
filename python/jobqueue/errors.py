"""The exceptions of this package.

    JobQueueError
    ├── JobError         the job was answered with an error; handlers raise it to choose one
    ├── JobTimeout       no result came within the job's timeout (also a TimeoutError)
    ├── ConnectionLost   the connection was lost, and perhaps the result or the push with it
    ├── NotQueued        the job was not pushed, so it never runs
    ├── ProcessorInUse   the in-process list is another server's, or may become so
    ├── ProcessorLost    another server has taken over the in-process list
    ├── InvalidHandle    a text that is not a handle (also a ValueError)
    └── InvalidMessage   bytes that are not a valid job or result (also a ValueError)

Invalid arguments raise TypeError or ValueError, as everywhere in Python. `python/README.md` says in
which state each of them leaves a client, a job and a server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One code of the registry, spec/errors.json: where it occurs, and whether the job may have run."""

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
        ErrorCode("too-many-attempts", "wire", may_have_run=True),
        ErrorCode("expired", "wire", may_have_run=True),
        ErrorCode("timeout", "client", may_have_run=True),
        ErrorCode("connection-lost", "client", may_have_run=True),
        ErrorCode("not-queued", "client", may_have_run=False),
        ErrorCode("invalid-handle", "client", may_have_run=True),
    )
}


def publishable(code: str) -> bool:
    """Tell whether a server may publish the code: it has a dot, or is in the registry for the wire."""
    # server.result.code
    return "." in code or (code in REGISTRY and REGISTRY[code].where == "wire")


class JobQueueError(Exception):
    """The base class of all errors of this package."""


class JobError(JobQueueError):
    """The job was answered with an error. The job is settled; client and server go on.

    A handler raises it to choose the error that is published (server.result.error). A code without
    a dot must be in the registry of error codes; any other is published as `handler-error`
    (server.result.code).

    Args:
        code: For programs, as `billing.card-declined`.
        message: For people.
        data: Any value that `json` can write; None means no data.
    """

    def __init__(self, code: str, message: str, data: object = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class JobTimeout(JobQueueError, TimeoutError):  # noqa: N818 - the name that the protocol gives it
    """No result came within the job's timeout (client.timeout.settles).

    The job is settled for its caller. It may have run, or may run later; its result is ignored.
    """

    code: ClassVar = "timeout"


class ConnectionLost(JobQueueError):  # noqa: N818 - the name that the protocol gives it
    """The connection was lost, and perhaps the result or the push with it (client.lost.settles).

    The job is settled for its caller; it may have run, or may run later. The client connects again
    for its next job. Raised by a server's `run`, see there.
    """

    code: ClassVar = "connection-lost"


class NotQueued(JobQueueError):  # noqa: N818 - the name that the protocol gives it
    """Redis refused the push, or there was no connection (client.settle.not-queued).

    The job is settled, and never runs: to run it again is safe. The client stays usable.
    """

    code: ClassVar = "not-queued"


class InvalidHandle(JobQueueError, ValueError):  # noqa: N818 - names the state, as its siblings do
    """A text is not the handle of a job (client.kept.malformed).

    Nothing was sent to Redis.
    """

    code: ClassVar = "invalid-handle"

    def __init__(self) -> None:
        super().__init__("the text is not a handle of a job: it must be exactly as it was given")


class ProcessorInUse(JobQueueError):  # noqa: N818 - names the state, as its siblings do
    """Another server on this host uses the same in-process list (server.list.own).

    Or this server has no takeover, and servers with takeover would adopt from the list.
    Nothing was claimed; `run` may be called again.
    """


class ProcessorLost(JobQueueError):  # noqa: N818 - names the state, as its siblings do
    """Another life of this processor holds the lease of the list (server.takeover.lost-name).

    The server has finished what it was running, has started nothing else, and has ended.
    """


class InvalidMessage(JobQueueError, ValueError):  # noqa: N818 - names the state, as its siblings do
    """Bytes are not a valid job or result.

    Args:
        path: The place of the mistake, as in `$.error.code`.
        reason: A sentence without its subject, as in `must be a string`.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"
