"""What a test stops at the proxy: events about a job, recognized by the job's id and never by a command's name.

Pure. A transaction is one command, judged at its EXEC.
"""

from collections.abc import Callable

from jobqueue_conformance.proxy.events import COMMAND, MESSAGE, REPLY, Event
from jobqueue_conformance.spec.messages import Job


def command(*jobs: Job) -> Callable[[Event], bool]:
    """A command that carries the id of one of the jobs."""
    return lambda event: _about(event, COMMAND, jobs)


def reply(*jobs: Job) -> Callable[[Event], bool]:
    """A reply that carries the id of one of the jobs, or answers a command that does."""
    return lambda event: _about(event, REPLY, jobs)


def command_naming(key: str) -> Callable[[Event], bool]:
    """A command that has this key as an argument, as a claim has the queue's, or a transaction with such a one."""
    wanted = key.encode()
    return lambda event: (
        event.kind == COMMAND
        and not event.queued
        and any(wanted in each.arguments for each in (event, *event.transaction))
    )


def reply_naming(key: str) -> Callable[[Event], bool]:
    """A reply to a command that has this key as an argument: to a claim, or to a push."""
    return lambda event: event.kind == REPLY and key.encode() in event.arguments


def subscribed(event: Event) -> bool:
    """The reply that confirms a subscription."""
    return event.kind == REPLY and b"\r\nsubscribe\r\n" in event.frame


def message(*jobs: Job) -> Callable[[Event], bool]:
    """A published message that carries the id of one of the jobs, on its way to a subscriber."""
    return lambda event: _about(event, MESSAGE, jobs)


def _about(event: Event, kind: str, jobs: tuple[Job, ...]) -> bool:
    return event.kind == kind and not event.queued and any(event.carries(job.id) for job in jobs)
