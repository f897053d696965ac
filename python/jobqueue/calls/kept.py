"""Jobs whose results are kept: which stored results a client looks up, and on which channels it waits.

A stored result is looked up when Redis has confirmed the subscription to its channel: what was
published before is found, what is published later arrives. One GET is outstanding at a time, since
Redis disconnects a subscriber for whom too many large replies wait.

A job whose handle is wanted, and a job that is collected by its handle, has a channel of its own.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from jobqueue.protocol.handles import Handle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobqueue.protocol.commands import Command


class Keep:
    """What is known of a job whose result is kept.

    Args:
        job_id: The id that its result carries.
        seconds: For how long the result is kept, as far as the client knows.
        channel: The channel of its own, if it has one.
        handle: By which it is collected, if it isn't pushed here.
        delete: Whether its result is deleted when it was collected.
    """

    __slots__ = ("channel", "delete", "handle", "id", "lost", "pushed", "ready", "seconds")

    def __init__(
        self,
        job_id: str,
        seconds: float = 0.0,
        *,
        channel: str | None = None,
        handle: Handle | None = None,
        delete: bool = False,
    ) -> None:
        self.id = job_id
        self.seconds = seconds
        self.channel = None if channel is None else channel.encode()
        self.handle = handle
        self.delete = delete
        self.pushed = handle is not None  # and Redis has confirmed that, or somebody else did it
        self.lost = False  # whether a connection was lost since then
        self.ready = False  # whether the channel of its own was ever subscribed to

    @classmethod
    def collected(cls, handle: Handle, *, delete: bool) -> Keep:
        """Return what a handle says of a job."""
        return cls(handle.id, channel=handle.channel, handle=handle, delete=delete)

    def name(self, message: bytes, shared: bytes) -> None:
        """Note the bytes that are pushed, whose digest names the stored result."""
        self.handle = Handle.of(message, self.id, (self.channel or shared).decode())

    @property
    def collects(self) -> bool:
        """Whether somebody else has pushed the job."""
        return self.seconds == 0


class Own:
    """The channels of single jobs, and the stored results that are to be looked up.

    Args:
        shared: The channel of the other jobs; a forged handle may name it, too.
    """

    def __init__(self, shared: bytes) -> None:
        self._shared = shared
        self._jobs: dict[bytes, dict[str, Keep]] = {}  # by channel and by the client's id
        self._asked: set[bytes] = set()  # channels to which SUBSCRIBE was sent
        self._confirmed: set[bytes] = set()
        # Channels to subscribe to, and to unsubscribe from; in their order, so that a run can be repeated.
        self._new: dict[bytes, None] = {}
        self._gone: dict[bytes, None] = {}
        self._looks: deque[str] = deque()
        self._looking = False
        self._later: deque[tuple[float, str, Keep]] = deque()  # what is asked again, and when
        self._deletes: list[bytes] = []

    @property
    def busy(self) -> bool:
        """Whether something is to be asked now."""
        looks = self._looks and not self._looking
        return bool(self._new or self._gone or looks or self._deletes)

    def add(self, channel: bytes, job_id: str, keep: Keep) -> None:
        """Add a job that has this channel of its own."""
        self._jobs.setdefault(channel, {})[job_id] = keep
        self._gone.pop(channel, None)
        if channel in self._confirmed:
            keep.ready = True
            self.look(job_id)
        elif channel not in self._asked:
            self._new[channel] = None

    def remove(self, channel: bytes, job_id: str) -> None:
        """Remove a job that is settled or cancelled."""
        del self._jobs[channel][job_id]
        if self._jobs[channel]:
            return
        del self._jobs[channel]
        self._new.pop(channel, None)
        # An unsubscription waits for the reply to the subscription, so that this isn't taken for a later one's.
        if channel in self._confirmed:
            self._leave(channel)

    def waiting(self, channel: bytes, result_id: str) -> Sequence[str]:
        """Return the jobs that a result with this id on this channel settles."""
        jobs = self._jobs.get(channel)
        if jobs is None:
            return ()
        return [job_id for job_id, keep in jobs.items() if keep.id == result_id]

    def unconfirmed(self) -> Iterator[str]:
        """Return the jobs whose channels aren't subscribed to."""
        for channel, jobs in self._jobs.items():
            if channel not in self._confirmed:
                yield from jobs

    def subscriptions(self) -> list[Command]:
        """Return the commands that are due."""
        new, self._new, gone, self._gone = self._new, {}, self._gone, {}
        self._confirmed.difference_update(gone)
        self._asked.difference_update(gone)
        self._asked.update(new)
        unsubscribe: list[Command] = [(b"UNSUBSCRIBE", channel) for channel in gone]
        return unsubscribe + [(b"SUBSCRIBE", channel) for channel in new]

    def subscribed(self, channel: bytes) -> list[str]:
        """Note that a channel is subscribed to, and return the ids of its jobs."""
        self._confirmed.add(channel)
        jobs = self._jobs.get(channel, {})
        if not jobs:
            self._leave(channel)
        for keep in jobs.values():
            keep.ready = True
        return list(jobs)

    def refused(self, channel: bytes) -> list[str]:
        """Note that Redis refuses the subscription to a channel, and return the ids of its jobs."""
        self._asked.discard(channel)
        return list(self._jobs.get(channel, ()))

    def lost(self) -> None:
        """Note that the connection is lost, and with it all subscriptions and questions."""
        self._asked.clear()
        self._confirmed.clear()
        self._new = dict.fromkeys(self._jobs)
        self._gone.clear()
        self._looks.clear()
        self._later.clear()
        self._deletes.clear()
        self._looking = False

    def look(self, job_id: str) -> None:
        """Have the stored result of a job looked up."""
        # client.kept.looks, client.kept.collects
        self._looks.append(job_id)

    def again(self, job_id: str, keep: Keep, at: float) -> None:
        """Have a job subscribed to or looked up again, at a time that is never before the last one."""
        self._later.append((at, job_id, keep))

    def next_time(self) -> float:
        """Return when something is asked again, or infinity."""
        return self._later[0][0] if self._later else math.inf

    def wake(self, now: float) -> None:
        """Ask again what is due."""
        while self._later and self._later[0][0] <= now:
            _, job_id, keep = self._later.popleft()
            channel = keep.channel
            if channel is None or channel in self._confirmed:
                self.look(job_id)
            elif channel in self._jobs and channel not in self._asked:
                self._new[channel] = None

    def next_look(self) -> str | None:
        """Return the next job to look up, if no answer is outstanding."""
        if self._looking or not self._looks:
            return None
        self._looking = True
        return self._looks.popleft()

    def looked(self) -> None:
        """Note that the answer is there."""
        self._looking = False

    def delete(self, digest: bytes) -> None:
        """Have a stored result deleted."""
        self._deletes.append(digest)

    def take_deletes(self) -> list[bytes]:
        """Return the digests of the stored results to delete now."""
        deletes, self._deletes = self._deletes, []
        return deletes

    def _leave(self, channel: bytes) -> None:
        if channel != self._shared:  # without which no other job would be settled
            self._gone[channel] = None
