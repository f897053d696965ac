"""The handlers of a server by method, and the outcome of each message.

Whatever a message contains and whatever a handler raises, there is an outcome, and one log line with
the job's channel and id.
"""

from __future__ import annotations

import functools
import inspect
import logging
import traceback
from types import CoroutineType, TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from jobqueue.core.log import Log
from jobqueue.errors import JobError
from jobqueue.protocol import messages
from jobqueue.protocol.messages import Answer, Dead, Interrupts, Run, Timed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from jobqueue.protocol.messages import Work

Handler: TypeAlias = "Callable[[Any], Any]"
HandlerT = TypeVar("HandlerT", bound="Handler")
ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]

log = Log("jobqueue.server")

# An exception's class may override the attribute; this reads the real one.
_FRAMES: Any = BaseException.__dict__["__traceback__"]


class Handlers:
    """The handlers by method.

    Args:
        channel_prefixes: The prefixes of the channels that may be published on; None allows all.
        awaits: Whether coroutine functions can be handlers.
    """

    def __init__(self, channel_prefixes: Collection[str] | None, *, awaits: bool) -> None:
        self._awaits = awaits
        self._channel_prefixes = None if channel_prefixes is None else tuple(channel_prefixes)
        self._by_method: dict[str, Handler] = {}

    def register(self, method: str, handler: Handler) -> None:
        """Register the handler for the jobs of the method.

        Raises:
            TypeError: The handler is a coroutine function, and this server doesn't await it.
            ValueError: The method is empty, or has a handler already.
        """
        if _is_coroutine_function(handler) and not self._awaits:
            raise TypeError(
                f"the handler of {method!r} is a coroutine function: use jobqueue.aio.Server"
            )
        if not method:
            raise ValueError("method must be a non-empty string")
        if method in self._by_method:
            raise ValueError(f"a handler is already registered for method {method!r}")
        self._by_method[method] = handler

    def decide(self, work: Work | Timed) -> Run | Answer | Dead:
        """Decide what to do with a message, and log it if no handler is called."""
        decision: Run | Answer | Dead
        if isinstance(work, bytes):
            decision = messages.decide(work, self._by_method, self._channel_prefixes)
            if isinstance(decision, Run):
                return decision
        elif isinstance(work, Timed):
            return expired(work.job) if work.expired else work.job
        else:
            decision = messages.give_up(work, self._channel_prefixes)
        if isinstance(decision, Answer):
            log.warning("rejected channel=%s id=%s result=%s", *_described(decision))
        else:
            log.warning("dead message: %s: %.200r", decision.reason, decision.message)
        return decision

    def __getitem__(self, method: str) -> Handler:
        return self._by_method[method]


def expired(job: Run) -> Answer:
    """Refuse a job whose time is over."""
    # After an outage there are many of them; the words are made only if they are logged.
    if log.logger.isEnabledFor(logging.INFO):
        log.info("expired channel=%s id=%s", text(job.channel), text(job.id))
    return messages.expired(job)


def succeeded(job: Run, value: object, interrupts: Interrupts = ()) -> Answer:
    """Answer a job whose handler returned, by an error where the value can't be published."""
    try:
        if type(value) is CoroutineType:
            messages.read_safely(value.close, None, interrupts)
            # server.result.not-serializable
            sentence = (
                "the result is a coroutine; jobqueue.aio.Server awaits those that handlers return"
            )
            raise JobError("result-not-serializable", sentence)  # noqa: TRY301 - as if by `succeed`
        answer = messages.succeed(job, value, interrupts)
    except JobError as refusal:
        # What the value holds is the client's business, so the log has its type alone.
        log.error(  # noqa: TRY400 - and so without the words of what was raised
            "failed method=%s channel=%s id=%s: %s: the handler returned %s",
            *_names(job),
            refusal.code,
            text(messages.name_of(value, interrupts)),
        )
        return messages.fail(job, refusal)
    if log.logger.isEnabledFor(logging.DEBUG):
        log.debug("ran method=%s channel=%s id=%s", *_names(job))
    return answer


def failed(job: Run, error: BaseException, interrupts: Interrupts = ()) -> Answer:
    """Answer a job whose handler raised; the traceback goes to the log, never to the wire."""
    # server.run.handler-error, server.run.goes-on
    chosen = messages.is_job_error(error)
    describe = messages.text_of if chosen else messages.name_of
    log.log(
        logging.INFO if chosen else logging.ERROR,
        "failed method=%s channel=%s id=%s: %s",
        *_names(job),
        text(describe(error, interrupts)),
        exc_info=None if chosen else _traceback(error, interrupts),
    )
    return messages.fail(job, error, interrupts)


def _traceback(error: BaseException, interrupts: Interrupts) -> ExcInfo:
    """Return what the log prints for an exception; a substitute if formatting it fails."""
    frames = _FRAMES.__get__(error)

    def try_it() -> ExcInfo:
        traceback.format_exception(type(error), error, frames)
        return type(error), error, frames

    name = messages.name_of(error, interrupts)
    instead = RuntimeError(f"{name}, which can't be formatted")
    otherwise: ExcInfo = (RuntimeError, instead, frames)
    return messages.read_safely(try_it, otherwise, interrupts)


def _is_coroutine_function(handler: Handler) -> bool:
    """Tell whether calling the handler returns a coroutine, as far as its type shows."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    call = getattr(type(handler), "__call__", None)  # noqa: B004 - the method of an object's type
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def _names(job: Run) -> tuple[str, str, str]:
    return text(job.method), text(job.channel), text(job.id)


def _described(answer: Answer) -> tuple[str, str, str]:
    return text(answer.channel), text(answer.id), text(answer.result[:200])


def text(data: bytes | str) -> str:
    """Return untrusted text in a form that stays on one line of the log."""
    words = data if isinstance(data, str) else data.decode(errors="backslashreplace")
    return words if words.isprintable() else ascii(words)[1:-1]
