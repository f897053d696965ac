"""A server that runs one job at a time.

One round trip per job: the result of one job, its removal and the claim of the next are one write.
The claim blocks only if the queue is empty. If Redis refuses the result, the server learns of it
when the claim returns, after T at most. If several jobs are claimed at once, each is answered before
the next one is started.

State that survives a lost connection is in the object: an outcome is dropped only when its removal
is confirmed, or when the list no longer contains its message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from jobqueue.core import recovery
from jobqueue.core.answers import Answers
from jobqueue.core.attempts import Attempts, Suspect
from jobqueue.core.keeping import Keeping, finish_now
from jobqueue.core.log import Log
from jobqueue.core.recovery import Looks
from jobqueue.core.steps import Now, Sleep, exchange, proceed
from jobqueue.core.takeover import Takeover
from jobqueue.errors import ProcessorLost
from jobqueue.protocol import commands, keys
from jobqueue.protocol.messages import Answer, Dead, Spent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.core.reconnect import Backoff
    from jobqueue.core.steps import Moment, Steps
    from jobqueue.protocol.keys import Keys

# A message to run or to give up, or an outcome to send again.
Task: TypeAlias = bytes | Spent | Answer | Dead

log = Log("jobqueue.server")


class Serial:
    """One run of a server; `session` is what it does on one connection.

    Args:
        keys: The lists.
        prefetch: The largest number of jobs per claim.
        block_seconds: T, how long a claim may block.
        attempts: How often an entry is started after servers have ended; 0 is without limit.
        takeover: The right to claim, and what is adopted; None if that feature is off.
        keep_ms: The longest time for which a result is stored; 0 stores none.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        prefetch: int,
        block_seconds: float,
        attempts: int = 0,
        takeover: Takeover | None = None,
        keep_ms: int = 0,
    ) -> None:
        self._keys = keys
        self._prefetch = prefetch
        self._takeover = takeover or Takeover(keys)
        self._looks = Looks(block_seconds, self._takeover.look_seconds)
        self._attempts = Attempts(keys, attempts)
        self._keeping = Keeping(keep_ms)
        self._unconfirmed: list[Answer | Dead] = []

    def session(self, backoff: Backoff) -> Steps[None]:
        """Recover, then serve until a stop is requested and all claimed jobs are answered."""
        looks, takeover, generation = self._looks, self._takeover, backoff.generation
        moment: Moment = yield Now()
        looks.connected(moment.seconds)
        transactions = yield from exchange(commands.may_transact())
        try:
            if not (yield from takeover.begin(generation)):
                return
        except ProcessorLost:
            yield from self._finish_unconfirmed(transactions=transactions)
            raise
        waiting: list[Task | Suspect] = []
        while True:
            if waiting:
                batch = yield from self._batch(waiting)
                waiting = waiting[len(batch) :]
                yield from self._serve(batch, backoff, last=not waiting, transactions=transactions)
                continue
            moment = yield Now()
            if looks.due(moment.seconds):
                # server.recovery.first, server.recovery.reconnect
                waiting = yield from self._look(moment, generation)
            elif unstored := self._keeping.due(moment):
                # server.kept.again, server.kept.refused
                waiting = [*unstored]
            elif not moment.stopping and takeover.due(moment.seconds):
                # server.takeover.first
                adopted = yield from takeover.look_after(generation, looks)
                waiting = [] if adopted is None else [self._attempts.adopted(adopted)]
            elif not moment.stopping:
                yield from takeover.before_claim(generation, moment)
                yield from self._serve([], backoff, last=True, transactions=transactions)
            elif (seconds := looks.last_look(moment.seconds)) is None:
                yield from takeover.end(looks)
                return
            else:
                yield Sleep(seconds)
                waiting = yield from self._look((yield Now()), generation)

    def _batch(self, waiting: list[Task | Suspect]) -> Steps[list[Task]]:
        """Return what to do at once: up to the next suspect, since that is counted right before it."""
        batch: list[Task] = []
        for task in waiting[: self._prefetch]:
            if not isinstance(task, Suspect):
                batch.append(task)
            elif batch:
                break
            else:
                batch.append((yield from self._attempts.start(task)))
        return batch

    def _look(self, moment: Moment, generation: int) -> Steps[list[Task | Suspect]]:
        self._takeover.check(generation, moment)
        # server.recovery.quiet: the replies to a claim are read before anything else is sent.
        adopted = self._looks.looked(moment.seconds)
        entries = yield from exchange(commands.look(self._keys))
        work = recovery.unfinished(entries, self._unconfirmed)
        self._unconfirmed[:] = [each for each in work if not isinstance(each, bytes)]
        self._keeping.looked(self._unconfirmed)
        if work:
            log.info("recovering %d messages from %s", len(work), keys.text(self._keys.in_process))
        unread = [each for each in work if isinstance(each, bytes)]
        unfinished = iter(self._attempts.found(unread, adopted=adopted))
        return [next(unfinished) if isinstance(each, bytes) else each for each in work]

    def _serve(
        self, batch: Sequence[Task], backoff: Backoff, *, last: bool, transactions: bool
    ) -> Steps[None]:
        """Answer a batch; after the last one, claim jobs and answer these, until a claim brings none."""
        looks, takeover, keeping = self._looks, self._takeover, self._keeping
        answers = Answers(
            self._keys, self._unconfirmed, backoff, takeover, keeping, transactions=transactions
        )
        moment: Moment = yield Now()
        while True:
            moment = yield from answers.answer(batch, moment)
            now = moment.seconds
            may_claim = not moment.stopping and not looks.due(now)
            # server.stop.no-claim, server.recovery.quiet
            if not (
                last
                and answers.one_write
                and may_claim
                and takeover.claimable(backoff.generation, now)
            ):
                if batch:
                    replies, moment = yield answers.last([])
                    yield from answers.confirm(replies, moment)
                return
            block = looks.claiming(now, min(takeover.wait_seconds(now), keeping.wait_seconds(now)))
            claim = commands.claim(self._keys, self._prefetch, block)
            more = next(claim)
            # server.expiry.refuses
            if (clock := answers.ask_ahead()) is not None:
                more = more + next(clock)
            replies, moment = yield answers.last(more)
            looks.claimed()
            left, moment = yield from answers.confirm(replies, moment)
            if clock is not None:
                yield from proceed(clock, [left.pop()])
            batch = yield from proceed(claim, left)
            backoff.reset()
            if not batch:
                return

    def _finish_unconfirmed(self, *, transactions: bool) -> Steps[None]:
        # server.takeover.lost-name: what was running is finished, and nothing else is started.
        for outcome in self._unconfirmed:
            yield from finish_now(self._keys, outcome, self._keeping, transactions=transactions)
