"""The handlers of a server: which method has which, and what a message comes to.

Whatever a message holds and whatever a handler raises, there is an outcome, and one line in the log
that names the job's channel and id.
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from jobqueue.errors import JobError
from jobqueue.protocol import messages
from jobqueue.protocol.messages import Answer, Dead, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

Handler: TypeAlias = "Callable[[Any], Any]"
HandlerT = TypeVar("HandlerT", bound="Handler")

log = logging.getLogger("jobqueue.server")


class Handlers:
    """The functions by method.

    Args:
        channel_prefixes: The beginnings of the channels that may be answered on; None allows all.
        awaits: Whether coroutine functions can be handlers.
    """

    def __init__(self, channel_prefixes: Collection[str] | None, *, awaits: bool) -> None:
        self._awaits = awaits
        self._channel_prefixes = None if channel_prefixes is None else tuple(channel_prefixes)
        self._by_method: dict[str, Handler] = {}

    def register(self, method: str, handler: Handler) -> None:
        """Make the handler answer the jobs of the method.

        Raises:
            TypeError: The handler is a coroutine function, and nobody awaits it here.
            ValueError: The method is empty, or has a handler.
        """
        if inspect.iscoroutinefunction(handler) and not self._awaits:
            raise TypeError(
                f"the handler of {method!r} is a coroutine: that takes jobqueue.aio.Server"
            )
        if not method:
            raise ValueError("a method is named by a non-empty string")
        if method in self._by_method:
            raise ValueError(f"the method {method!r} has a handler")
        self._by_method[method] = handler

    def decide(self, message: bytes) -> Run | Answer | Dead:
        """Decide what becomes of a message, and log what needs no handler."""
        decision = messages.decide(message, self._by_method, self._channel_prefixes)
        if type(decision) is Answer:
            log.warning("refused channel=%s id=%s result=%s", *_described(decision))
        elif type(decision) is Dead:
            log.warning("dead message: %s: %.200r", decision.reason, message)
        return decision

    def __getitem__(self, method: str) -> Handler:
        return self._by_method[method]


def succeeded(job: Run, value: object) -> Answer:
    """Answer a job whose handler returned."""
    answer = messages.succeed(job, value)
    if log.isEnabledFor(logging.DEBUG):
        log.debug("ran method=%s channel=%s id=%s", *_names(job))
    return answer


def failed(job: Run, error: BaseException) -> Answer:
    """Answer a job whose handler raised; the traceback is for the log, never for the wire."""
    # server.run.handler-error, server.run.goes-on
    chosen = isinstance(error, JobError)
    log.log(
        logging.INFO if chosen else logging.ERROR,
        "failed method=%s channel=%s id=%s: %s",
        *_names(job),
        error if chosen else type(error).__name__,
        exc_info=None if chosen else error,
    )
    return messages.fail(job, error)


def _names(job: Run) -> tuple[str, str, str]:
    return text(job.method), text(job.channel), text(job.id)


def _described(answer: Answer) -> tuple[str, str, str]:
    return text(answer.channel), text(answer.id), text(answer.result[:200])


def text(data: bytes | str) -> str:
    """Write what somebody else chose so that it stays within its line of the log."""
    words = data if isinstance(data, str) else data.decode(errors="backslashreplace")
    return words if words.isprintable() else ascii(words)[1:-1]
