"""Who owns which jobs: on whose list they are, whose lease lasts, and what a server's end leaves.

These laws are about takeover. A server that lives and renews its lease is robbed of nothing; what a
dead one has left is adopted, and its name is forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulation.broken import Broken

if TYPE_CHECKING:
    from simulation.clock import Clock
    from simulation.laws import Job
    from simulation.server import Life
    from simulation.store import Store

SHORT = 0.002  # what is rounded to milliseconds
LEASES, REGISTRY = b"q:lease:", b"q:processors"


class Owners:
    """The lives that own lists, and what is moved between these.

    Args:
        clock: The world's.
        jobs: Those of the world, by their bytes.
    """

    def __init__(self, clock: Clock, jobs: dict[bytes, Job]) -> None:
        self.late = False  # whether the command that is executed is of a connection that is gone
        self.adoptions = 0
        self.longest_rerun = 0.0  # the seconds from a server's end to the next start of what it had
        self.clock_was_set = False  # Redis's, or it has older data: leases may last for any time
        self._clock = clock
        self._jobs = jobs
        self._lives: dict[bytes, Life] = {}
        self._renewed: dict[Life, float] = {}  # when Redis did it last
        self._left_at: dict[bytes, float] = {}
        self._excused_until = 0.0

    def excuse(self, seconds: float) -> None:
        """Note a fault by which leases may lapse, or lapsed ones be noticed late, for some seconds."""
        self._excused_until = max(self._excused_until, self._clock.now + seconds)

    def renewed(self, key: bytes, *, taken: bool) -> None:
        """Note that the lease with this key was taken or renewed."""
        life = self._lives.get(key.removeprefix(LEASES))
        if life is None or self.late:
            return
        if taken and life in self._renewed and self._clock.now > self._excused_until:
            raise Broken("renews", f"{life} takes its lease again, which has ended")
        self._renewed[life] = self._clock.now

    def begins(self, life: Life) -> None:
        """Note that a server starts."""
        self._lives[life.keys.in_process] = life

    def ends(self, life: Life, store: Store) -> None:
        """Note that a server has ended or died: what is on its list may have killed it."""
        if self._lives.get(life.keys.in_process) is life:
            del self._lives[life.keys.in_process]
        for message in store.entries(life.keys.in_process):
            self._suspect(message)
            self._left_at[message] = self._clock.now

    def moved(self, source: bytes, target: bytes, message: bytes) -> None:
        """Check what Redis moves from one list to another."""
        if b":in-process:" not in source:
            # Whoever finds it can't tell it from one during which a server has died.
            if self.late or target not in self._lives:
                self._suspect(message)
            return
        self.adoptions += 1
        self._suspect(message)
        owner = self._lives.get(source)
        if owner is None:
            return
        if self._clock.now > self._excused_until:
            raise Broken("robs nobody", f"{source.decode()} loses a job, and {owner} serves")
        seconds = self._clock.now - self._renewed.get(owner, 0.0)
        if seconds < 2 * owner.world.plan.lease_seconds - SHORT and not self.clock_was_set:
            raise Broken(
                "robs nobody early",
                f"{owner} loses a job {seconds:.3f} s after a renewal, sooner than L + C",
            )
        job = self._jobs.get(message)
        if job is not None and job.running is owner:
            job.running = None  # what it has started may end, too

    def started(self, life: Life, job: Job, store: Store) -> None:
        """Check that a life starts what is its own."""
        if (left_at := self._left_at.pop(job.message, None)) is not None:
            self.longest_rerun = max(self.longest_rerun, self._clock.now - left_at)
        if job.restored or life.lease is None or life.checked_at < life.stood_still_until:
            return  # a process that is stopped between its check and the start can't know
        if job.message not in store.entries(life.keys.in_process):
            raise Broken("starts its own", f"{life} starts {job.name}, which isn't on its list")

    def nobodys(self, store: Store) -> set[bytes]:
        """Return the lists that are registered, and of no server that lives."""
        return store.fields(REGISTRY) - self._registering()

    def at_rest(self, store: Store) -> None:
        """Check that each name is of a server that lives, G + 4 L after the last one has ended."""
        for key in self.nobodys(store):
            raise Broken("no name is left", f"{key.decode()} is registered, and is nobody's")
        for key in self._registering() - store.fields(REGISTRY):
            raise Broken("registers", f"{self._lives[key]} serves, and isn't registered")

    def when_all_have_stopped(self, store: Store, now_ms: int) -> None:
        """Check that no lease is left."""
        for key in sorted(store.keys()):
            if key.startswith(LEASES) and store.execute((b"EXISTS", key), now_ms):
                raise Broken("releases", f"{key.decode()} is left when all servers have stopped")

    def _registering(self) -> set[bytes]:
        return {key for key, life in self._lives.items() if life.lease is not None}

    def _suspect(self, message: bytes) -> None:
        job = self._jobs.get(message)
        if job is not None:
            job.suspicions += 1
