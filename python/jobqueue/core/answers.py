"""The answers to the jobs of a batch, from the start of each job to the replies of Redis.

An answer is sent before the next handler runs, so that it doesn't wait for that. The last ones are
sent together with what follows them. Answers to jobs that have expired start no handler, so one
TIME and one write are enough for any number of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jobqueue.core.handlers import expired
from jobqueue.core.log import Log
from jobqueue.core.steps import Decide, Exchange, Handle, Now, Send, TimedExchange, proceed
from jobqueue.protocol import commands
from jobqueue.protocol.commands import Unstored
from jobqueue.protocol.messages import Answer, Dead, Run, Timed, Work, has_expired

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.core.keeping import Keeping
    from jobqueue.core.reconnect import Backoff
    from jobqueue.core.steps import Moment, Steps
    from jobqueue.core.takeover import Takeover
    from jobqueue.protocol.commands import Command, Commands, Reply
    from jobqueue.protocol.keys import Keys

log = Log("jobqueue.server")


class Answers:
    """Used for one batch, and for those that are claimed one behind the other.

    Args:
        keys: The lists.
        unconfirmed: The outcomes whose removal isn't confirmed; new ones are added, confirmed ones removed.
        backoff: Is told that Redis serves; it knows the generation of the connection.
        takeover: Tells whether a job may be started.
        keeping: For how long results are stored, and what waits for that.
        transactions: Whether Redis allows them.
    """

    def __init__(
        self,
        keys: Keys,
        unconfirmed: list[Answer | Dead],
        backoff: Backoff,
        takeover: Takeover,
        keeping: Keeping,
        *,
        transactions: bool,
    ) -> None:
        self._keys = keys
        self._unconfirmed = unconfirmed
        self._backoff = backoff
        self._generation = backoff.generation
        self._takeover = takeover
        self._keeping = keeping
        self._transactions = transactions
        # With the number of its replies.
        self._unread: list[tuple[Answer | Dead, Commands[str | Unstored | None], int]] = []
        self._unsent: list[Command] = []
        self._due = 0
        self._ahead_ms: float | None = None
        self._now_ms = -math.inf  # by Redis's clock, when it was asked
        self._idle = False  # whether no handler has run since
        self.one_write = True  # whether no answer of the batch needs a second write

    def answer(self, batch: Sequence[Work | Answer | Dead], moment: Moment) -> Steps[Moment]:
        """Answer a batch: run the handlers of messages, give them up or refuse them.

        Args:
            batch: The messages, and outcomes that are sent again with the same bytes.
            moment: The time.

        Returns:
            The time when the last outcome was ready.
        """
        self._begin()
        tasks: Sequence[Work | Answer | Dead | Run] = batch
        if decided := self._idle:  # behind a batch that has expired: for all of them, one step
            claimed: Any = batch
            self._takeover.check(self._generation, moment)
            tasks, moment = yield Decide(claimed)
        # server.publish.in-order
        for task in tasks:
            if self._unsent and not self._idle:
                moment = yield self._send()
            outcome: Answer | Dead | Run
            if not isinstance(task, Work):
                outcome = task
            elif self._idle:
                (outcome,), moment = yield Decide([task])
            else:
                self._takeover.check(self._generation, moment)
                outcome, moment = yield Handle(task)
            if isinstance(outcome, Run):
                if has_expired(outcome, self._now_ms):
                    outcome = expired(outcome)
                else:
                    outcome, moment = yield from self._start(outcome, moment)
            if decided or outcome is not task:
                self._unconfirmed.append(outcome)
            self._add(outcome)
        return moment

    def ask_ahead(self) -> Commands[None] | None:
        """Read Redis's clock for the next batch, if the last job of this one has expired.

        It is asked right after the claim, in the same write: after an outage a queue is full of jobs
        that have expired, and each batch of them takes one round trip.
        """
        return self._ask_ahead() if self._idle and self._unread else None

    def _ask_ahead(self) -> Commands[None]:
        self._ahead_ms = yield from commands.clock()

    def last(self, more: list[Command]) -> TimedExchange:
        """Return the step that sends what is left and more commands; it reads all replies."""
        write, self._unsent = self._unsent + more, []
        return TimedExchange(write, self._due + len(more))

    def confirm(self, replies: list[Reply], moment: Moment) -> Steps[tuple[list[Reply], Moment]]:
        """Process the replies to the answers, which were read at that time.

        Returns:
            The replies that are left, and the time: a later one if an answer took another write.
        """
        read = 0
        unread, self._unread, self._due = self._unread, [], 0
        for outcome, finish, count in unread:
            try:
                write = finish.send(replies[read : read + count])
            except StopIteration as end:
                note = end.value
            else:
                note = yield from proceed(finish, (yield Exchange(write, len(write))))
                moment = yield Now()
            read += count
            if isinstance(note, Unstored):
                self._keeping.refused(outcome, moment)
                continue
            # server.publish.once, server.remove.again: sent until this moment, and never after it.
            self._unconfirmed.remove(outcome)
            self._keeping.confirmed(outcome)
            self._backoff.reset()
            if note:
                log.warning("%s: %.200r", note, outcome.message)
        return replies[read:], moment

    def _begin(self) -> None:
        ahead, self._ahead_ms = self._ahead_ms, None
        self._now_ms = -math.inf if ahead is None else ahead
        self._idle = ahead is not None
        self.one_write = True

    def _start(self, job: Run, moment: Moment) -> Steps[tuple[Answer | Dead, Moment]]:
        if not self._idle:
            # server.expiry.refuses: Redis is asked when no handler runs.
            clock = commands.clock()
            replies, moment = yield self.last(next(clock))
            left, moment = yield from self.confirm(replies, moment)
            self._now_ms = yield from proceed(clock, left)
            self._idle = True
        if has_expired(job, self._now_ms):
            return expired(job), moment
        if self._unsent:
            moment = yield self._send()
        self._idle = False
        self._takeover.check(self._generation, moment)
        ended: tuple[Answer | Dead, Moment] = yield Handle(Timed(job, self._now_ms))
        return ended

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
        self._due += len(write)
        self._unsent += write
        if not commands.one_write(outcome, transactions=self._transactions):
            self.one_write = False
