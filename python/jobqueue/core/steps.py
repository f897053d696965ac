"""The steps of a session with Redis: all that the core asks for, and all that it is told.

A session is a generator. It yields a step, and whoever drives it, in a thread, in an event loop or
in the virtual time of a test, takes the step and sends back what came of it. The core reads no clock,
draws no random number and waits for nothing in any other way, so that the same answers lead to the
same steps.

Where the connection is lost during a step, `ConnectionLost` is thrown in at that step. The driver
has aborted the connection by then, and the only step on a connection that may follow is `Connect`.
A session that is given up is closed; so it never yields in a `finally`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from jobqueue.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Generator

    from jobqueue.protocol.commands import Command, Commands, Reply, Returned


class Unreachable(ConnectionLost):
    """There is no Redis at this address, or it doesn't let us in; trying again may never help."""


class Connect(NamedTuple):
    """Abort the connection, if there is one, and make a new one.

    Raises `Unreachable`, or `ConnectionLost` where a connection was lost on the way in.
    """


class Send(NamedTuple):
    """Write the commands, and go on without their replies."""

    commands: list[Command]


class Exchange(NamedTuple):
    """Write the commands, and send back all replies that are due, to those and to earlier ones."""

    commands: list[Command]
    replies: int


class Handle(NamedTuple):
    """Run the handler of the message here, and send back the outcome: an `Answer` or `Dead`."""

    message: bytes


class Start(NamedTuple):
    """Have the handlers of the messages run elsewhere, in this order; they count as running."""

    messages: list[bytes]


class Outcomes(NamedTuple):
    """Wait for outcomes of what was started, and send back at most so many; none at the end."""

    limit: int


class Running(NamedTuple):
    """Send back the messages that were started and are not yet confirmed."""


class Room(NamedTuple):
    """Wait until fewer messages than the limit are running, and send back how many fewer."""

    limit: int


class Confirmed(NamedTuple):
    """Note that Redis has confirmed the removal of the messages: they no longer count as running."""

    messages: list[bytes]


class Sleep(NamedTuple):
    """Wait."""

    seconds: float


class Pause(NamedTuple):
    """Wait, but not beyond a request to stop."""

    seconds: float


class Now(NamedTuple):
    """Send back this `Moment`."""


class Jitter(NamedTuple):
    """Send back a random number from 0 to 1."""


class Moment(NamedTuple):
    """What the driver knows of the world at one moment."""

    seconds: float  # on a clock that never goes back
    stopping: bool  # whether a stop was requested


Step: TypeAlias = (
    Connect
    | Send
    | Exchange
    | Handle
    | Start
    | Outcomes
    | Running
    | Room
    | Confirmed
    | Sleep
    | Pause
    | Now
    | Jitter
)
Steps: TypeAlias = "Generator[Step, Any, Returned]"


def exchange(commands: Commands[Returned]) -> Steps[Returned]:
    """Have the commands executed, from the first to the last, and return what came of them."""
    first = next(commands)
    return (yield from proceed(commands, (yield Exchange(first, len(first)))))


def proceed(commands: Commands[Returned], replies: list[Reply]) -> Steps[Returned]:
    """Go on with commands whose first write has these replies."""
    try:
        while True:
            write = commands.send(replies)
            replies = yield Exchange(write, len(write))
    except StopIteration as end:
        returned: Returned = end.value
        return returned
