"""What a server does that runs one job at a time, as steps that somebody else takes.

One round trip per job: the result of one job and its removal travel in the same write as the claim
of the next, which blocks only where the queue is empty. Where Redis refuses the result, what follows
from that waits for the claim, T at most. Of several jobs claimed at once, each is answered before
the next is started.

`Serial.steps` is a generator: it yields a step and is sent what came of it. Nothing here waits, or
knows whether a thread or an event loop takes the steps.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from jobqueue.core import recovery
from jobqueue.core.recovery import SecondLook
from jobqueue.protocol import commands as flows

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from jobqueue.protocol.commands import Command, Flow, Reply, Returned
    from jobqueue.protocol.keys import Keys
    from jobqueue.protocol.messages import Answer, Dead

log = logging.getLogger("jobqueue.server")


class Send(NamedTuple):
    """Write the commands, and go on without their replies."""

    commands: list[Command]


class Exchange(NamedTuple):
    """Write the commands, and send back all replies that are due, to those and to earlier ones."""

    commands: list[Command]
    replies: int


class Handle(NamedTuple):
    """Run the handler of the message, and send back the outcome."""

    message: bytes


class Sleep(NamedTuple):
    """Wait."""

    seconds: float


Step: TypeAlias = Send | Exchange | Handle | Sleep
Steps: TypeAlias = "Generator[Step, Any, Returned]"
Work: TypeAlias = "bytes | Answer | Dead"


class Stopping(Protocol):
    """Tells whether a stop was requested."""

    @property
    def requested(self) -> bool:
        """Whether it was."""


class Serial:
    """What is known across connections: the jobs that are finished and not yet seen removed.

    Args:
        keys: The lists.
        stop: Whether to stop is asked before each claim.
        prefetch: How many jobs a claim takes at most.
        block_seconds: T, how long a claim may block.
        clock: Returns the time in seconds.
        works: Called whenever Redis has taken a claim.
    """

    def __init__(
        self,
        keys: Keys,
        stop: Stopping,
        *,
        prefetch: int,
        block_seconds: float,
        clock: Callable[[], float],
        works: Callable[[], None],
    ) -> None:
        self._keys = keys
        self._stop = stop
        self._prefetch = prefetch
        self._block_seconds = block_seconds
        self._clock = clock
        self._works = works
        self._finished: deque[Answer | Dead] = deque()  # in the order of their flows
        self._transactions = False
        self._second_look: SecondLook | None = None

    def steps(self) -> Steps[None]:
        """Recover, then serve on one connection until everything claimed before a stop is answered.

        Whoever takes the steps gives up on them where the connection is lost, and begins anew with
        the next connection.
        """
        again = self._second_look is not None
        self._second_look = second_look = SecondLook(self._clock(), self._block_seconds)
        self._transactions = yield from _run(flows.may_transact())
        # server.recovery.first, server.recovery.reconnect
        waiting = yield from self._look()
        while True:
            if not waiting and second_look.due(self._clock()):
                second_look.done = True
                waiting = yield from self._look()
            if waiting or not self._stop.requested:
                batch, waiting = waiting[: self._prefetch], waiting[self._prefetch :]
                waiting += yield from self._exchange(second_look, batch, last=not waiting)
            elif again and not second_look.done:
                # server.stop.drains: a lost claim of this life can move one more job until then.
                yield Sleep(second_look.remaining(self._clock()))
            else:
                return

    def _look(self) -> Steps[list[Work]]:
        # server.recovery.quiet: the replies to a claim are read before anything else is sent.
        entries = yield from _run(flows.look(self._keys))
        work = recovery.unfinished(entries, self._finished)
        self._finished.clear()
        if work:
            log.info("recovering %d messages from %s", len(work), self._keys.in_process.decode())
        return work

    def _exchange(
        self, second_look: SecondLook, batch: list[Work], *, last: bool
    ) -> Steps[list[bytes]]:
        """Answer a batch, claim what comes after it, and return that."""
        transactions = self._transactions
        finishing: list[tuple[Flow[str | None], int]] = []  # and how many replies each waits for
        commands: list[Command] = []
        due = 0
        for work in batch:
            if commands:  # no result waits for the next handler
                yield Send(commands)
            outcome = (yield Handle(work)) if isinstance(work, bytes) else work
            self._finished.append(outcome)
            flow = flows.finish(self._keys, outcome, transactions=transactions)
            commands = next(flow)
            finishing.append((flow, len(commands)))
            due += len(commands)
            last = last and flows.one_write(outcome, transactions=transactions)
        claim = None
        # server.stop.no-claim, server.recovery.quiet
        if last and not self._stop.requested and not second_look.due(now := self._clock()):
            claim = flows.claim(self._keys, self._prefetch, second_look.block_seconds(now))
            commands = commands + next(claim)
            due += self._prefetch
        replies = yield Exchange(commands, due)
        read = 0
        for flow, count in finishing:
            odd = yield from _proceed(flow, replies[read : read + count])
            read += count
            outcome = self._finished.popleft()
            if odd:
                log.warning("%s: %.200r", odd, outcome.message)
        if claim is None:
            return []
        jobs = yield from _proceed(claim, replies[read:])
        self._works()
        return jobs


def _run(flow: Flow[Returned]) -> Steps[Returned]:
    commands = next(flow)
    return (yield from _proceed(flow, (yield Exchange(commands, len(commands)))))


def _proceed(flow: Flow[Returned], replies: list[Reply]) -> Steps[Returned]:
    try:
        while True:
            commands = flow.send(replies)
            replies = yield Exchange(commands, len(commands))
    except StopIteration as end:
        returned: Returned = end.value
        return returned
