"""What a test stops at the tap: passages about a job, told by the job's id and never by a command's name.

Pure. A transaction is one command, judged at its EXEC.
"""

from collections.abc import Callable

from jobqueue_conformance.passage import COMMAND, MESSAGE, REPLY, Passage
from jobqueue_conformance.wire import Job


def command(*jobs: Job) -> Callable[[Passage], bool]:
    """A command that carries the id of one of the jobs."""
    return lambda passage: _about(passage, COMMAND, jobs)


def reply(*jobs: Job) -> Callable[[Passage], bool]:
    """A reply that carries the id of one of the jobs, or answers a command that does."""
    return lambda passage: _about(passage, REPLY, jobs)


def reply_naming(key: str) -> Callable[[Passage], bool]:
    """A reply to a command that has this key as an argument: to a claim, or to a push."""
    return lambda passage: passage.kind == REPLY and key.encode() in passage.arguments


def subscribed(passage: Passage) -> bool:
    """The reply that a subscription stands."""
    return passage.kind == REPLY and b"\r\nsubscribe\r\n" in passage.frame


def message(*jobs: Job) -> Callable[[Passage], bool]:
    """A published message that carries the id of one of the jobs, on its way to a subscriber."""
    return lambda passage: _about(passage, MESSAGE, jobs)


def _about(passage: Passage, kind: str, jobs: tuple[Job, ...]) -> bool:
    return (
        passage.kind == kind and not passage.queued and any(passage.carries(job.id) for job in jobs)
    )
