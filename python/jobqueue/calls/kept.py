"""Jobs whose results are kept: which stored results a client looks up, and on which channels it waits.

A stored result is looked up when Redis has confirmed the subscription to its channel: what was
published before is found, what is published later arrives. One GET is outstanding at a time, since
Redis disconnects a subscriber for whom too many large replies wait.

A job whose handle is wanted, and a job that is collected by its handle, has a channel of its own.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from jobqueue.protocol.handles import Handle

if TYPE_CHECKING:
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
    """The channels of single jobs, and the stored results that are to be looked up."""

    def __init__(self) -> None:
        self._jobs: dict[bytes, dict[str, Keep]] = {}  # by channel and by the client's id
        self._asked: set[bytes] = set()  # channels to which SUBSCRIBE was sent
        self._confirmed: set[bytes] = set()
        self._looks: deque[str] = deque()
        self._looking = False
        self._deletes: list[bytes] = []
        self.busy = False  # whether something may have to be asked

    def add(self, channel: bytes, job_id: str, keep: Keep) -> None:
        """Add a job that has this channel of its own."""
        self.busy = True
        self._jobs.setdefault(channel, {})[job_id] = keep
        if channel in self._confirmed:
            keep.ready = True
            self.look(job_id)

    def remove(self, channel: bytes, job_id: str) -> None:
        """Remove a job that is settled or cancelled."""
        del self._jobs[channel][job_id]
        if not self._jobs[channel]:
            del self._jobs[channel]

    def waiting(self, channel: bytes, result_id: str) -> list[str]:
        """Return the jobs that a result with this id on this channel settles."""
        jobs = self._jobs.get(channel, {})
        return [job_id for job_id, keep in jobs.items() if keep.id == result_id]

    def unconfirmed(self) -> list[str]:
        """Return the jobs whose channels aren't subscribed to."""
        return [
            job_id
            for each, jobs in self._jobs.items()
            if each not in self._confirmed
            for job_id in jobs
        ]

    def subscriptions(self) -> list[Command]:
        """Return the commands that are due."""
        # An unsubscription waits for the reply to the subscription, so that this isn't taken for a later one's.
        gone = [channel for channel in self._confirmed if channel not in self._jobs]
        new = [channel for channel in self._jobs if channel not in self._asked]
        self._confirmed.difference_update(gone)
        self._asked.difference_update(gone)
        self._asked.update(new)
        unsubscribe: list[Command] = [(b"UNSUBSCRIBE", channel) for channel in gone]
        return unsubscribe + [(b"SUBSCRIBE", channel) for channel in new]

    def subscribed(self, channel: bytes) -> list[str]:
        """Note that a channel is subscribed to, and return the ids of its jobs."""
        self._confirmed.add(channel)
        jobs = self._jobs.get(channel, {})
        for keep in jobs.values():
            keep.ready = True
        return list(jobs)

    def refused(self, channel: bytes) -> list[str]:
        """Note that Redis refuses the subscription to a channel, and return the ids of its jobs."""
        self._asked.discard(channel)
        return list(self._jobs.get(channel, {}))

    def lost(self) -> None:
        """Note that the connection is lost, and with it all subscriptions and questions."""
        self._asked.clear()
        self._confirmed.clear()
        self._looks.clear()
        self._deletes.clear()
        self._looking = False

    def look(self, job_id: str) -> None:
        """Have the stored result of a job looked up."""
        # client.kept.looks, client.kept.collects
        self.busy = True
        self._looks.append(job_id)

    def next_look(self) -> str | None:
        """Return the next job to look up, if no answer is outstanding."""
        if self._looking or not self._looks:
            return None
        self._looking = True
        return self._looks.popleft()

    def asked(self) -> None:
        """Note that all was asked that can be asked now."""
        self.busy = bool(self._jobs or self._asked or self._looks)

    def looked(self) -> None:
        """Note that the answer is there."""
        self._looking = False

    def delete(self, digest: bytes) -> None:
        """Have a stored result deleted."""
        self.busy = True
        self._deletes.append(digest)

    def take_deletes(self) -> list[bytes]:
        """Return the digests of the stored results to delete now."""
        deletes, self._deletes = self._deletes, []
        return deletes
