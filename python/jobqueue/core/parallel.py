"""A server that runs several jobs at the same time: one session claims, another one confirms.

Each has its own connection, since a claim may block. The handlers run in threads or tasks. A job
counts as running from its claim until its removal is confirmed, whichever connections are lost in
between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.core import recovery
from jobqueue.core.attempts import Attempts, Suspect
from jobqueue.core.keeping import Keeping
from jobqueue.core.log import Log
from jobqueue.core.reconnect import run_with_reconnect
from jobqueue.core.recovery import Looks
from jobqueue.core.steps import (
    Admit,
    Confirmed,
    Exchange,
    Now,
    Outcomes,
    Room,
    Running,
    Sleep,
    Start,
    TimedExchange,
    Withdraw,
    exchange,
    proceed,
)
from jobqueue.core.takeover import Takeover
from jobqueue.errors import ConnectionLost, ProcessorLost
from jobqueue.protocol import commands, keys
from jobqueue.protocol.commands import Unstored
from jobqueue.protocol.messages import Run, Timed

if TYPE_CHECKING:
    from jobqueue.core.attempts import Entry
    from jobqueue.core.reconnect import Backoff
    from jobqueue.core.steps import Moment, Release, Steps
    from jobqueue.protocol.commands import Commands
    from jobqueue.protocol.keys import Keys
    from jobqueue.protocol.messages import Answer, Dead, Work

log = Log("jobqueue.server")

BATCH = 100  # outcomes per write


class Parallel:
    """One run of a server. Two drivers may run `claiming` and `confirming` in two threads.

    Args:
        keys: The lists.
        concurrency: The number of handlers that run at the same time.
        prefetch: The number of claimed jobs, if that is more.
        block_seconds: T, how long a claim may block.
        attempts: How often an entry is started after servers have ended; 0 is without limit.
        takeover: The right to claim, and what is adopted; None if that feature is off.
        keep_ms: The longest time for which a result is stored; 0 stores none.
    """

    _unconfirmable: Release | None = None  # the step when the connection that confirms is lost

    def __init__(
        self,
        keys: Keys,
        *,
        concurrency: int,
        prefetch: int,
        block_seconds: float,
        attempts: int = 0,
        takeover: Takeover | None = None,
        keep_ms: int = 0,
    ) -> None:
        self._keys = keys
        self._concurrency = concurrency
        self._limit = max(concurrency, prefetch)
        self._takeover = takeover or Takeover(keys)
        self._looks = Looks(block_seconds, self._takeover.look_seconds)
        self._attempts = Attempts(keys, attempts)
        self._keeping = Keeping(keep_ms)
        self._unconfirmed: list[Answer | Dead | Run] = []  # a Run: its place waits for the time
        self._held: Entry | None = None  # adopted, and not started yet

    def claiming(self) -> Steps[None]:
        """Recover and claim until a stop is requested and everything that is running is confirmed."""
        try:
            yield from run_with_reconnect(self._claim, self._takeover.lease)
        except (ConnectionLost, ProcessorLost):  # Redis may be reachable when the last handler ends
            yield Room(1)
            raise

    def confirming(self) -> Steps[None]:
        """Publish and remove, until there are no more outcomes."""
        # There is no connection until there is something to send.
        self._unconfirmed = yield Outcomes(BATCH)
        if self._unconfirmed:
            yield from run_with_reconnect(
                self._confirm, self._takeover.lease, persist=True, on_loss=self._unconfirmable
            )

    def _claim(self, backoff: Backoff) -> Steps[None]:
        looks, takeover, generation = self._looks, self._takeover, backoff.generation
        moment: Moment = yield Now()
        looks.connected(moment.seconds)
        if takeover.on:
            yield Withdraw()  # what may have been taken over meanwhile
        if not (yield from takeover.begin(generation)):
            return
        # server.recovery.first, server.recovery.reconnect
        yield from self._look(moment, generation)
        while True:
            room = yield Room(self._limit)
            free = self._held is None and room > self._limit - self._concurrency
            moment = yield Now()
            if looks.due(moment.seconds):
                yield from self._look(moment, generation)
            elif self._held is not None and not (yield from self._start(self._held, generation)):
                self._held = None
            elif self._held is not None and (moment.stopping or room == 1):
                yield Room(self._limit - room)  # until one more has ended
            elif not moment.stopping and free and takeover.due(moment.seconds):
                # server.takeover.first
                yield from self._adopt(generation)
            elif not moment.stopping:
                # server.stop.no-claim
                limit = takeover.wait_seconds(moment.seconds) if free else float("inf")
                yield from takeover.before_claim(generation, moment)
                block = looks.claiming(moment.seconds, limit)
                claim = commands.claim(self._keys, room - (self._held is not None), block)
                yield Start((yield from self._claimed(claim, backoff)))
            elif (seconds := looks.last_look(moment.seconds)) is None:
                # server.stop.drains
                yield Room(1)
                yield from takeover.end(looks)
                return
            else:
                yield Sleep(seconds)
                yield from self._look((yield Now()), generation)

    def _claimed(self, claim: Commands[list[bytes]], backoff: Backoff) -> Steps[list[bytes]]:
        """Claim, and return the jobs, which may be started now."""
        write = next(claim)
        replies, moment = yield TimedExchange(write, len(write))
        self._looks.claimed()
        jobs = yield from proceed(claim, replies)
        backoff.reset()
        self._takeover.check(backoff.generation, moment)
        return jobs

    def _adopt(self, generation: int) -> Steps[None]:
        adopted = yield from self._takeover.look_after(generation, self._looks)
        if adopted is None:
            return
        entry = self._attempts.adopted(adopted)
        if (yield from self._start(entry, generation)):
            self._held = entry

    def _start(self, entry: Entry, generation: int) -> Steps[int]:
        """Start an entry, unless it may not start beside those that are running.

        Returns:
            The number of those; 0 if it was started.
        """
        work: Work
        if isinstance(entry, Suspect):
            running = yield Running()
            if not (yield from self._attempts.may_start(entry, running)):
                return len(running)
            work = yield from self._attempts.start(entry, running)
        else:
            work = entry
        yield from self._takeover.check_now(generation)
        yield Start([work])
        return 0

    def _look(self, moment: Moment, generation: int) -> Steps[None]:
        self._held = None
        # server.recovery.first: each waits for a handler that is free, the last one too.
        found = yield from self._found(moment, generation)
        for entry in found:
            yield Room(self._concurrency)
            while beside := (yield from self._start(entry, generation)):
                yield Room(beside)
        if found:
            yield Room(self._concurrency)

    def _found(self, moment: Moment, generation: int) -> Steps[list[Entry]]:
        """Return what is on the list and isn't running."""
        yield from self._takeover.check_now(generation)
        # server.recovery.quiet: the running jobs are read first, and no claim is outstanding.
        running = yield Running()
        entries = yield from exchange(commands.look(self._keys))
        strays = recovery.strays(entries, running)
        if strays and not self._looks.first:
            # server.recovery.running: the other connection may be of a newer primary, and this one of a
            # replica, which learns late what was removed there.
            raise ConnectionLost(
                "the list has unknown entries, which a new connection has to confirm"
            )
        adopted = self._looks.looked(moment.seconds)
        found = self._attempts.found(strays, adopted=adopted)
        if found:
            log.info("recovering %d messages from %s", len(found), keys.text(self._keys.in_process))
        return found

    def _confirm(self, backoff: Backoff) -> Steps[None]:
        transactions = yield from exchange(commands.may_transact())
        while True:
            self._takeover.check_connection(backoff.generation)
            finished = [each for each in self._unconfirmed if not isinstance(each, Run)]
            expiring = [each for each in self._unconfirmed if isinstance(each, Run)]
            self._unconfirmed = [*finished, *expiring]
            # server.publish.again: after a lost connection, the same bytes are sent again.
            finishing = [
                commands.finish(
                    self._keys,
                    outcome,
                    transactions=transactions,
                    keep_ms=self._keeping.milliseconds(outcome),
                )
                for outcome in finished
            ]
            # server.expiry.refuses: the places of those that can expire are free.
            clock = commands.clock()
            writes = [next(finish) for finish in finishing]
            asked = next(clock) if expiring else []
            write = [command for each in (*writes, asked) for command in each]
            replies = yield Exchange(write, len(write))
            removed: list[bytes] = []
            processed = read = 0
            try:
                for outcome, finish, each in zip(finished, finishing, writes, strict=True):
                    note = yield from proceed(finish, replies[read : read + len(each)])
                    read += len(each)
                    processed += 1
                    if isinstance(note, Unstored):
                        self._keeping.refused(outcome, (yield Now()))
                        continue
                    self._keeping.confirmed(outcome)
                    # server.publish.once, server.remove.again: sent until this moment, and never after it.
                    removed.append(outcome.message)
                    if note:
                        log.warning("%s: %.200r", note, outcome.message)
                now_ms = (yield from proceed(clock, replies[read:])) if expiring else 0.0
            except ConnectionLost:
                del self._unconfirmed[:processed]
                yield Confirmed(removed)
                raise
            backoff.reset()
            self._unconfirmed = []
            yield Confirmed(removed)
            if expiring:
                yield Admit([Timed(job, now_ms) for job in expiring])
            self._unconfirmed = yield from self._outcomes()
            if not self._unconfirmed:
                return

    def _outcomes(self) -> Steps[list[Answer | Dead | Run]]:
        """Wait for outcomes, or for those whose results Redis may have memory for now."""
        outcomes: list[Answer | Dead | Run] | None
        while self._keeping.waits:
            moment: Moment = yield Now()
            # server.kept.again, server.kept.refused
            if unstored := self._keeping.due(moment):
                return [*unstored]
            outcomes = yield Outcomes(BATCH, self._keeping.wait_seconds(moment.seconds))
            if outcomes is not None:
                return outcomes
        outcomes = yield Outcomes(BATCH)
        return outcomes or []
