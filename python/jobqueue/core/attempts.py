"""Which entries may have ended a server, and what becomes of them: a job that kills is given up.

A suspect is an entry that was found at the start or adopted: some server ended while it was on its
list. When the reply to an adoption is lost, what the next looks find may have been adopted. Each one
is counted in Redis right before its start, once in each life. One that was counted before is started
alone, so that it takes no other suspect with it. A job that this life has claimed itself is never
counted.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from jobqueue.core.log import Log
from jobqueue.core.steps import exchange
from jobqueue.protocol import commands
from jobqueue.protocol.messages import Spent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.core.steps import Steps
    from jobqueue.protocol.keys import Keys
    from jobqueue.protocol.messages import Work

log = Log("jobqueue.server")


class Suspect(NamedTuple):
    """An entry to count before it is started."""

    message: bytes


Entry: TypeAlias = bytes | Suspect


class Attempts:
    """The suspects of one life of a server.

    Args:
        keys: The keys of the queue.
        limit: How often an entry is counted before it is given up; 0 counts nothing.
    """

    def __init__(self, keys: Keys, limit: int) -> None:
        self._keys = keys
        self._limit = limit
        self._looked = False
        self._given_up = 0
        self._unstarted: Counter[bytes] = Counter()
        self._started: Counter[bytes] = Counter()  # and perhaps finished
        self._alone = False  # whether the last suspect that was started has to run alone
        self._before: dict[bytes, int] = {}  # the count before an INCR whose reply is outstanding

    def found(self, entries: list[bytes], *, adopted: bool = False) -> list[Entry]:
        """Tell the suspects among the entries that a look has found and that aren't running.

        Args:
            entries: What it has found.
            adopted: Whether an adoption whose reply was lost may have moved entries there.
        """
        here = Counter(entries)
        # server.attempts.counts: no claim precedes the first look, so what it finds is of other lives.
        if (adopted or not self._looked) and self._limit:
            self._unstarted |= here - self._started
        self._looked = True
        self._unstarted &= here  # others were taken away
        left = self._unstarted.copy()
        work: list[Entry] = []
        for entry in entries:
            suspected = left[entry] > 0
            left[entry] -= suspected
            work.append(Suspect(entry) if suspected else entry)
        return work

    def adopted(self, message: bytes) -> Entry:
        """Tell what to do with a message that was adopted."""
        if not self._limit:
            return message
        self._unstarted[message] += 1
        return Suspect(message)

    def may_start(self, suspect: Suspect, running: Iterable[bytes]) -> Steps[bool]:
        """Tell whether a suspect may start beside the messages that the server is running."""
        # server.attempts.alone
        if not self._still_running(running):
            return True
        if self._alone:
            return False
        return not (yield from exchange(commands.attempts(self._keys, suspect.message)))

    def start(self, suspect: Suspect, running: Iterable[bytes] = ()) -> Steps[Work]:
        """Count a suspect, and return what to start at once: the job, or how to give it up."""
        message = suspect.message
        self._started = self._still_running(running)
        before = yield from exchange(commands.attempts(self._keys, message))
        if self._before.setdefault(message, before) < before:
            count = before  # the INCR took effect, although its connection was lost
        else:
            count = yield from exchange(commands.attempt(self._keys, message))
        del self._before[message]
        self._unstarted[message] -= 1
        self._started[message] += 1
        self._alone = count > 1
        if count <= self._limit:
            return message
        # server.attempts.limit, server.attempts.unread
        self._given_up += 1
        log.warning("giving up a job after %d starts (%d in this life)", count, self._given_up)
        return Spent(message, readable=count == self._limit + 1)

    def _still_running(self, running: Iterable[bytes]) -> Counter[bytes]:
        return self._started & Counter(running)
