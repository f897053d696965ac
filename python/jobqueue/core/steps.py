"""The steps of a session with Redis: the whole interface between the core and its driver.

A session is a generator. It yields a step; its driver (in a thread, in an event loop, or in the
virtual time of a test) performs it and sends back the result. The core has no other input: it reads
no clock and draws no random number, so the same results lead to the same steps.

If the connection is lost during a step, the driver aborts it and throws `ConnectionLost` into the
generator. The next step that uses a connection must then be `Connect`. A driver closes a session
that it abandons; so a session never yields in a `finally`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from jobqueue.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from jobqueue.protocol.commands import Command, Commands, Reply, Returned
    from jobqueue.protocol.messages import Timed, Work


class Unreachable(ConnectionLost):
    """There is no Redis at this address, or it refuses the login; trying again may never help."""


class Refused(Unreachable):
    """Redis refuses this user what the server needs from its start; trying again doesn't help."""


class Connect(NamedTuple):
    """Abort the connection, if there is one, and make a new one.

    Raises `Unreachable`, or `ConnectionLost` if the connection was lost during the handshake.
    """


class Send(NamedTuple):
    """Write the commands, and send back the `Moment` when that was done: a Redis that doesn't read lets it wait.

    The replies are read by a later `Exchange`.
    """

    commands: list[Command]


class Exchange(NamedTuple):
    """Write the commands, and send back all outstanding replies, those of earlier `Send`s included."""

    commands: list[Command]
    replies: int


class TimedExchange(NamedTuple):
    """Do the same, and send back with the replies the `Moment` when they were read."""

    commands: list[Command]
    replies: int


class Handle(NamedTuple):
    """Run the handler of a message in place, or give it up.

    Sends back the outcome, `Answer` or `Dead`, and the `Moment` when it was ready. If the job can expire,
    the outcome is the job itself, a `Run`; it is handled when its time is known.
    """

    work: Work | Timed


class Decide(NamedTuple):
    """Do the same for several messages, but start no handler: the outcome of each job is a `Run`."""

    work: Sequence[Work]


class Start(NamedTuple):
    """Start the handlers of the messages in threads or tasks, in this order; they count as running."""

    work: Sequence[Work]


class Withdraw(NamedTuple):
    """Take back the started messages that wait for a handler: they no longer count as running."""


class Outcomes(NamedTuple):
    """Wait for outcomes of started messages, and send back at most `limit`; none at the end.

    A job that can expire, a `Run`, may be among them: its place is free, and waits for `Admit`.
    None is sent back if there are none within the seconds.
    """

    limit: int
    seconds: float | None = None


class Admit(NamedTuple):
    """Tell those that wait the time by which their jobs have expired or may start."""

    jobs: list[Timed]


class Running(NamedTuple):
    """Send back the messages that were started and are not yet confirmed."""


class Room(NamedTuple):
    """Wait until fewer messages than the limit are running, and send back the difference."""

    limit: int


class Turn(NamedTuple):
    """Wait until this queue may claim so many jobs, and send back how many: a hand is kept for each.

    The hands are kept until the next `Turn`, `Room` or `Rest`; `Start` uses them. Only for a server of
    several queues, like the next three.
    """

    wants: int
    suspect: bool  # whether the hand is for an entry that may have ended a server
    alone: bool  # whether that was counted before


class Take(NamedTuple):
    """Keep a hand for a job that has arrived without a turn, and send back whether one was free."""


class Rest(NamedTuple):
    """Give back the hands that are kept, and let other queues go first."""


class Release(NamedTuple):
    """Give back the hands of jobs whose handlers have ended; they count as running until `Confirmed`."""


class Confirmed(NamedTuple):
    """Note that Redis has confirmed the removal of the messages: they no longer count as running."""

    messages: list[bytes]


class Sleep(NamedTuple):
    """Wait."""

    seconds: float


class Pause(NamedTuple):
    """Wait, at most until a stop is requested."""

    seconds: float


class Now(NamedTuple):
    """Send back this `Moment`."""


class Jitter(NamedTuple):
    """Send back a random number from 0 to 1."""


class Moment(NamedTuple):
    """The time, and whether a stop was requested."""

    seconds: float  # on a clock that never goes back
    stopping: bool  # whether a stop was requested


Step: TypeAlias = (
    Connect
    | Send
    | Exchange
    | TimedExchange
    | Handle
    | Decide
    | Start
    | Withdraw
    | Outcomes
    | Admit
    | Running
    | Room
    | Turn
    | Take
    | Rest
    | Release
    | Confirmed
    | Sleep
    | Pause
    | Now
    | Jitter
)
Steps: TypeAlias = "Generator[Step, Any, Returned]"


def exchange(commands: Commands[Returned]) -> Steps[Returned]:
    """Execute the commands, from the first write to the last, and return their result."""
    first = next(commands)
    return (yield from proceed(commands, (yield Exchange(first, len(first)))))


def proceed(commands: Commands[Returned], replies: list[Reply]) -> Steps[Returned]:
    """Continue commands whose first write has these replies, and return their result."""
    try:
        while True:
            write = commands.send(replies)
            replies = yield Exchange(write, len(write))
    except StopIteration as end:
        returned: Returned = end.value
        return returned
