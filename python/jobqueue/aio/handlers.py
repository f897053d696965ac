"""Running handlers in the event loop: coroutine functions are awaited, plain ones are called.

A plain handler that blocks holds up everything else in the loop; `asyncio.to_thread` is for those.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

from jobqueue.core.handlers import failed, succeeded
from jobqueue.host.signals import interrupts
from jobqueue.protocol.messages import Answer, Dead, Run

if TYPE_CHECKING:
    from jobqueue.core.handlers import Handlers


async def outcome(handlers: Handlers, message: bytes) -> Answer | Dead:
    """Run the handler of a message, where it has one, and return what is to be published."""
    job = handlers.decide(message)
    if not isinstance(job, Run):
        return job
    try:
        # server.run.handler
        value = handlers[job.method](job.parameters)
        if inspect.isawaitable(value):
            value = await value
    except BaseException as error:
        if interrupts(error) or _cancelled(error):
            raise
        return failed(job, error)
    return succeeded(job, value)


def _cancelled(error: BaseException) -> bool:
    """Tell a server that is being cancelled from a handler whose own work was."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
