"""The results that a server stores for clients that miss them: for how long, and what if Redis refuses.

A result that Redis has no memory for is stored later, while other jobs go on; after 5 seconds, or when
a stop is requested, it is published without being stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobqueue.core.log import Log
from jobqueue.core.steps import exchange
from jobqueue.protocol import commands
from jobqueue.protocol.commands import Unstored

if TYPE_CHECKING:
    from collections.abc import Collection

    from jobqueue.core.steps import Moment, Steps
    from jobqueue.protocol.keys import Keys
    from jobqueue.protocol.messages import Answer, Dead

log = Log("jobqueue.server")

LIMIT_SECONDS = 3_600.0
AGAIN_SECONDS = 5.0  # for how long a result is tried to be stored
FIRST_SECONDS = 0.05
LONGEST_SECONDS = 0.5  # also until a stop is noticed


@dataclass
class _Refused:
    """An outcome whose result Redis refused to store, and when that is tried again."""

    outcome: Answer | Dead
    until: float
    at: float = 0.0
    tries: int = 0
    waiting: bool = False
    given_up: bool = False


class Keeping:
    """Belongs to one run of a server; it outlives lost connections.

    Args:
        limit_ms: The longest time for which a result is stored; 0 stores none.
    """

    def __init__(self, limit_ms: int = 0) -> None:
        self._limit_ms = limit_ms
        self._refused: dict[bytes, _Refused] = {}  # by message

    def milliseconds(self, outcome: Answer | Dead) -> int:
        """Return for how long to store a result now; 0 is not at all."""
        answer = commands.answer_of(outcome)
        if answer is None or not answer.keep_ms:
            return 0
        refused = self._refused.get(outcome.message)
        # server.kept.value, server.kept.refused
        return 0 if refused and refused.given_up else min(answer.keep_ms, self._limit_ms)

    def refused(self, outcome: Answer | Dead, moment: Moment) -> None:
        """Note that Redis had no memory to store a result."""
        entry = self._refused.get(outcome.message)
        if entry is None:
            entry = _Refused(outcome, moment.seconds + AGAIN_SECONDS)
            self._refused[outcome.message] = entry
        # server.kept.again
        wait = min(FIRST_SECONDS * 2**entry.tries, LONGEST_SECONDS)
        entry.tries += 1
        entry.at = min(moment.seconds + wait, entry.until)
        entry.waiting = True

    def confirmed(self, outcome: Answer | Dead) -> None:
        """Note that an outcome's message is removed."""
        if self._refused:
            entry = self._refused.pop(outcome.message, None)
            if entry is not None and entry.given_up:
                log.warning("Redis had no memory to keep a result: %.200r", outcome.message)

    def looked(self, unfinished: Collection[Answer | Dead]) -> None:
        """Note that a look has found these outcomes, which are sent again now, and no others."""
        if self._refused:
            messages = {outcome.message for outcome in unfinished}
            self._refused = {key: each for key, each in self._refused.items() if key in messages}
            for entry in self._refused.values():
                entry.waiting = False

    def due(self, moment: Moment) -> list[Answer | Dead]:
        """Return the outcomes to send again now."""
        due = [
            entry
            for entry in self._refused.values()
            if entry.waiting and (moment.stopping or moment.seconds >= entry.at)
        ]
        for entry in due:
            entry.waiting = False
            entry.given_up = moment.stopping or moment.seconds >= entry.until
        return [entry.outcome for entry in due]

    @property
    def waits(self) -> bool:
        """Whether an outcome is due later."""
        return any(entry.waiting for entry in self._refused.values())

    def wait_seconds(self, now: float) -> float:
        """Return in how many seconds an outcome is due; infinite if there is none."""
        if not self._refused:
            return math.inf
        times = [entry.at - now for entry in self._refused.values() if entry.waiting]
        return max(0.0, min(times, default=math.inf))


def finish_now(
    keys: Keys, outcome: Answer | Dead, keeping: Keeping, *, transactions: bool
) -> Steps[None]:
    """Finish an outcome at once, without storing its result if Redis has no memory for it."""
    keep_ms = keeping.milliseconds(outcome)
    finish = commands.finish(keys, outcome, transactions=transactions, keep_ms=keep_ms)
    if isinstance((yield from exchange(finish)), Unstored):
        # server.kept.refused
        yield from exchange(commands.finish(keys, outcome, transactions=transactions))
