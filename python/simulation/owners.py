"""Who owns which jobs: on whose list they are, whose lease lasts, and what a server's end leaves.

These laws are about takeover. A server that lives and renews its lease is robbed of nothing; what a
dead one has left is adopted, and its name is forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
        self.store: Store | None = None  # of the Redis that serves
        self.late = False  # whether the command that is executed is of a connection that is gone
        self.adoptions = 0
        self.longest_rerun = 0.0  # the seconds from a server's end to the next start of what it had
        self.clock_was_set = False  # Redis's, or it has older data: leases may last for any time
        self._clock = clock
        self._jobs = jobs
        self._lives: dict[bytes, Life] = {}
        self._with_takeover: set[bytes] = set()  # the lists of lives that are over, too
        self._renewed: dict[Life, float] = {}  # when Redis did it last
        self._left_at: dict[bytes, float] = {}
        self._excused_until = 0.0
        self._full_until = 0.0

    def excuse(self, seconds: float) -> None:
        """Note a fault by which leases may lapse, or lapsed ones be noticed late, for some seconds."""
        self._excused_until = max(self._excused_until, self._clock.now + seconds)

    @property
    def excused(self) -> bool:
        """Whether such a fault may still show."""
        return self._clock.now <= self._excused_until

    def full(self, seconds: float) -> None:
        """Note that Redis has no memory for some seconds: adopting waits, and no lease lapses."""
        self._full_until = max(self._full_until, self._clock.now + seconds)

    def claims(self, life: Life) -> None:
        """Check that a server with one hand, which is free, claims only when nothing is left to adopt."""
        longest = 2 * life.world.plan.lease_seconds + 1  # between two scans
        quiet_since = max(self._excused_until, self._full_until)
        if self.clock_was_set or self._clock.now - quiet_since < longest:
            return
        due_ms = life.world.redis.now_ms - (longest + life.world.plan.lease_seconds) * 1000
        assert self.store is not None
        for key in self.nobodys(self.store):
            lapsed_ms = int(self._ask(b"HGET", REGISTRY, key))
            if 0 < lapsed_ms < due_ms and self.store.entries(key):
                raise Broken(
                    "adopts first", f"{life} claims, and {key.decode()} waits for too long"
                )

    def renewed(self, key: bytes, *, taken: bool) -> None:
        """Note that the lease with this key was taken or renewed."""
        life = self._lives.get(key.removeprefix(LEASES))
        if life is None or self.late:
            return
        if taken and life in self._renewed and not self.excused:
            raise Broken("renews", f"{life} takes its lease again, which has ended")
        self._renewed[life] = self._clock.now

    def begins(self, life: Life) -> None:
        """Note that a server starts."""
        self._lives[life.keys.in_process] = life
        if life.lease is not None:
            self._with_takeover.add(life.keys.in_process)

    def ends(self, life: Life, store: Store) -> None:
        """Note that a server has ended or died: what is on its list may have killed it."""
        if self._lives.get(life.keys.in_process) is life:
            del self._lives[life.keys.in_process]
        for message in store.entries(life.keys.in_process):
            self._suspect(message)
            self._left_at[message] = self._clock.now

    def moved(self, source: bytes, target: bytes, message: bytes) -> None:
        """Check what Redis moves from one list to another."""
        if target in self._with_takeover and self._ask(b"HGET", REGISTRY, target) is None:
            raise Broken("registers first", f"{target.decode()} gets a job, and isn't registered")
        if b":in-process:" not in source:
            # Whoever finds it can't tell it from one during which a server has died.
            if self.late or target not in self._lives:
                self._suspect(message)
            return
        self.adoptions += 1
        self._suspect(message)
        self._may_adopt(source, target)
        owner = self._lives.get(source)
        if owner is None:
            return
        if not self.excused:
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

    def releases(self, key: bytes) -> None:
        """Check that a lease may be deleted."""
        life = self._lives.get(key.removeprefix(LEASES))
        if life is None or self._ask(b"GET", key) != life.token:
            return
        if self.late:
            raise Broken("releases its own", f"an earlier life deletes the lease of {life}")
        for job in self._jobs.values():
            if job.running is life:
                raise Broken(
                    "releases at its end", f"{life} gives up its lease, and runs {job.name}"
                )

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
        for key in self._registering():
            if self._ask(b"GET", LEASES + key) != self._lives[key].token:
                raise Broken("renews", f"{self._lives[key]} serves at rest, and has no lease")

    def when_all_have_stopped(self, store: Store, now_ms: int) -> None:
        """Check that no lease is left."""
        for key in sorted(store.keys()):
            if key.startswith(LEASES) and store.execute((b"EXISTS", key), now_ms):
                raise Broken("releases", f"{key.decode()} is left when all servers have stopped")

    def _registering(self) -> set[bytes]:
        return {key for key, life in self._lives.items() if life.lease is not None}

    def _may_adopt(self, source: bytes, target: bytes) -> None:
        """Check what has to hold in the step of Redis that adopts, whatever has failed before."""
        if self._ask(b"EXISTS", LEASES + source):
            raise Broken("adopts what has lapsed", f"{source.decode()} loses a job under its lease")
        if not self._ask(b"EXISTS", LEASES + target):
            raise Broken("adopts under its lease", f"{target.decode()} has none, and gets a job")

    def _ask(self, *command: bytes) -> Any:
        assert self.store is not None
        return self.store.ask(*command)

    def _suspect(self, message: bytes) -> None:
        job = self._jobs.get(message)
        if job is not None:
            job.suspicions += 1
