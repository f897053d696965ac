"""The answers to the jobs of a batch, from the start of each job to the replies of Redis.

An answer is sent before the next handler runs, so that it doesn't wait for that. The last ones are
sent together with what follows them. Answers to jobs that have expired start no handler, so one
TIME and one write are enough for any number of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jobqueue.core.log import Log
from jobqueue.core.steps import Begin, Decide, Exchange, Handle, Now, Send, proceed
from jobqueue.protocol import commands
from jobqueue.protocol.commands import Unstored
from jobqueue.protocol.messages import Answer, Dead, Run, Timed

if TYPE_CHECKING:
    from jobqueue.core.keeping import Keeping
    from jobqueue.core.reconnect import Backoff
    from jobqueue.core.steps import Steps
    from jobqueue.protocol.commands import Command, Commands, Reply
    from jobqueue.protocol.keys import Keys
    from jobqueue.protocol.messages import Work

log = Log("jobqueue.server")


class Answers:
    """Used for one batch after another, on one connection.

    Args:
        keys: The lists.
        unconfirmed: The outcomes whose removal isn't confirmed; new ones are added, confirmed ones removed.
        backoff: Is told that Redis serves.
        keeping: For how long results are stored, and what waits for that.
        transactions: Whether Redis allows them.
    """

    def __init__(
        self,
        keys: Keys,
        unconfirmed: list[Answer | Dead],
        backoff: Backoff,
        keeping: Keeping,
        *,
        transactions: bool,
    ) -> None:
        self._keys = keys
        self._unconfirmed = unconfirmed
        self._backoff = backoff
        self._keeping = keeping
        self._transactions = transactions
        # With the number of its replies.
        self._unread: list[tuple[Answer | Dead, Commands[str | Unstored | None], int]] = []
        self._unsent: list[Command] = []
        self._due = 0
        self._ahead_ms: float | None = None
        self.begin()

    def begin(self) -> None:
        """Begin a batch."""
        ahead, self._ahead_ms = self._ahead_ms, None
        self._now_ms = -math.inf if ahead is None else ahead  # by Redis's clock, when it was asked
        self._idle = ahead is not None  # whether no handler has run since
        self.one_write = True  # whether no answer needs a second write

    def ask_ahead(self) -> Commands[None] | None:
        """Read Redis's clock for the next batch, if the last job of this one has expired.

        It is asked right after the claim, in the same write: after an outage a queue is full of jobs
        that have expired, and each batch of them takes one round trip.
        """
        return self._ask_ahead() if self._idle and self._unread else None

    def _ask_ahead(self) -> Commands[None]:
        self._ahead_ms = yield from commands.clock()

    def handle(self, work: Work) -> Steps[None]:
        """Run the handler of a message, give it up, or refuse it; and answer it."""
        if self._unsent and not self._idle:
            yield self._send()
        outcome: Answer | Dead | Run = yield (Decide if self._idle else Handle)(work)
        if isinstance(outcome, Run):
            outcome = yield from self._start(outcome)
        self._unconfirmed.append(outcome)
        self._add(outcome)

    def repeat(self, outcome: Answer | Dead) -> Steps[None]:
        """Answer a message again, with the same bytes."""
        if self._unsent:
            yield self._send()
        self._add(outcome)

    def last(self, more: list[Command], replies: int = 0) -> Exchange:
        """Return the step that sends what is left and more commands; it reads all replies."""
        write, self._unsent = self._unsent + more, []
        return Exchange(write, self._due + replies)

    def confirm(self, replies: list[Reply]) -> Steps[list[Reply]]:
        """Process the replies to the answers, and return those that are left."""
        read = 0
        unread, self._unread, self._due = self._unread, [], 0
        for outcome, finish, count in unread:
            note = yield from proceed(finish, replies[read : read + count])
            read += count
            if isinstance(note, Unstored):
                self._keeping.refused(outcome, (yield Now()))
                continue
            # server.publish.once, server.remove.again: sent until this moment, and never after it.
            self._unconfirmed.remove(outcome)
            self._keeping.confirmed(outcome)
            self._backoff.reset()
            if note:
                log.warning("%s: %.200r", note, outcome.message)
        return replies[read:]

    def _start(self, job: Run) -> Steps[Answer | Dead]:
        timed = Timed(job, self._now_ms)
        if not (self._idle or timed.expired):
            # server.expiry.refuses: Redis is asked when no handler runs.
            clock = commands.clock()
            replies = yield self.last(next(clock), 1)
            self._now_ms = yield from proceed(clock, (yield from self.confirm(replies)))
            timed, self._idle = Timed(job, self._now_ms), True
        if not timed.expired:
            if self._unsent:
                yield self._send()
            self._idle = False
        outcome: Answer | Dead = yield Begin(timed)
        return outcome

    def _send(self) -> Send:
        write, self._unsent = self._unsent, []
        return Send(write)

    def _add(self, outcome: Answer | Dead) -> None:
        keep_ms = self._keeping.milliseconds(outcome)
        finish = commands.finish(
            self._keys, outcome, transactions=self._transactions, keep_ms=keep_ms
        )
        write = next(finish)
        self._unread.append((outcome, finish, len(write)))
        self._unsent = self._unsent + write if self._unsent else write
        self._due += len(write)
        if not commands.one_write(outcome, transactions=self._transactions):
            self.one_write = False
