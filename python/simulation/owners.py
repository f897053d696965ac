"""Who owns which jobs: on whose list they are, whose lease lasts, and what a server's end leaves.

These laws are about takeover. A server that lives and renews its lease is robbed of nothing; what a
dead one has left is adopted, and its name is forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulation.broken import Broken
from simulation.names import (
    IN_PROCESS,
    LEASES,
    QUEUES,
    lease_of,
    list_of,
    queue_of,
    registry_of,
)

if TYPE_CHECKING:
    from simulation.clock import Clock
    from simulation.laws import Job
    from simulation.network import Connection
    from simulation.server import Life
    from simulation.store import Store

SHORT = 0.002  # what is rounded to milliseconds


class Owners:
    """The lives that own lists, and what is moved between these.

    Args:
        clock: The world's.
        jobs: Those of the world, by their bytes.
    """

    def __init__(self, clock: Clock, jobs: dict[bytes, Job]) -> None:
        self.store: Store | None = None  # of the Redis that serves
        self.lapse_seconds = 0.0  # C
        self.late = False  # whether the command that is executed is of a connection that is gone,
        self._orphaned = False  # and of a process that is gone, too
        self._executes_for = b""  # the list of the server that has sent it
        self.adoptions = 0
        self.longest_rerun = 0.0  # the seconds from a server's end to the next start of what it had
        self.clock_was_set = False  # Redis's, or it has older data: leases may last for any time
        self._clock = clock
        self._jobs = jobs
        self._lives: dict[bytes, list[Life]] = {}  # two, where two hosts have servers of one name
        self._holders: dict[bytes, Life] = {}  # who has had the lease of a list last
        self._with_takeover: set[bytes] = set()  # the lists of lives that are over, too
        self._had_lease: set[Life] = set()
        self._leased_until: dict[bytes, float] = {}  # lists, if nobody renews their leases
        self._left_at: dict[bytes, float] = {}
        self._excused_until = 0.0
        self._full_until = 0.0

    def executes_for(self, connection: Connection) -> None:
        """Note whose command is executed."""
        self.late, self._orphaned = connection.abandoned, connection.orphaned
        self._executes_for = connection.own_list

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
        if life.lease is None or self.clock_was_set or self._clock.now - quiet_since < longest:
            return
        due_ms = life.world.redis.now_ms - (longest + life.world.plan.lease_seconds) * 1000
        assert self.store is not None
        for key in self.nobodys(self.store):
            if queue_of(key) != life.keys.queue:
                continue
            lapsed_ms = int(self._ask(b"HGET", registry_of(key), key))
            if 0 < lapsed_ms < due_ms and self.store.entries(key):
                raise Broken(
                    "adopts first", f"{life} claims, and {key.decode()} waits for too long"
                )

    def renewed(self, key: bytes, *, taken: bool) -> None:
        """Note that the lease with this key was taken or renewed."""
        of_list = list_of(key)
        self._leased_until[of_list] = self._clock.now + self._ask(b"PTTL", key) / 1000
        token = self._ask(b"GET", key)
        life = next((each for each in self._lives.get(of_list, ()) if each.token == token), None)
        if life is None or self.late:
            return
        if taken and life in self._had_lease and not self.excused:
            raise Broken("renews", f"{life} takes its lease again, which has ended")
        self._had_lease.add(life)
        before = self._owner(of_list)
        self._holders[of_list] = life
        if before is not None and before is not life:
            self._loses_name(before, life)

    def begins(self, life: Life) -> None:
        """Note that a server starts."""
        self._lives.setdefault(life.keys.in_process, []).append(life)
        if life.lease is not None:
            self._with_takeover.add(life.keys.in_process)

    def ends(self, life: Life, store: Store) -> None:
        """Note that a server has ended or died: what is on its list may have killed it."""
        lives = self._lives[life.keys.in_process]
        lives.remove(life)
        if not lives:
            del self._lives[life.keys.in_process]
        for message in store.entries(life.keys.in_process):
            self._suspect(message)
            self._left_at[message] = self._clock.now

    def moved(self, source: bytes, target: bytes, message: bytes) -> None:
        """Check what Redis moves from one list to another."""
        if (
            target in self._with_takeover
            and self._ask(b"HGET", registry_of(target), target) is None
        ):
            raise Broken("registers first", f"{target.decode()} gets a job, and isn't registered")
        if IN_PROCESS not in source:
            # Whoever finds it can't tell it from one during which a server has died.
            if self._orphaned or target not in self._lives:
                self._suspect(message)
            return
        if target in QUEUES and source == self._executes_for:
            self._gives_back(message)
            return
        self.adoptions += 1
        self._suspect(message)
        self._may_adopt(source, target)
        owner = self._owner(source)
        if owner is not None and not self.excused:
            raise Broken("robs nobody", f"{source.decode()} loses a job, and {owner} serves")
        lapsed = self._clock.now - self._leased_until.get(source, 0.0)
        if lapsed < self.lapse_seconds - SHORT and not self.clock_was_set:
            raise Broken(
                "adopts C later",
                f"{source.decode()} loses a job {lapsed:.3f} s after its lease, sooner than C",
            )
        if owner is None:
            return
        job = self._jobs.get(message)
        if job is not None and job.running is owner:
            job.running = None  # what it has started may end, too

    def releases(self, key: bytes) -> None:
        """Check that a lease may be deleted."""
        life = self._owner(list_of(key))
        self._leased_until[list_of(key)] = self._clock.now
        if life is None or self._ask(b"GET", key) != life.token:
            return
        if self._orphaned:
            raise Broken("releases its own", f"an earlier life deletes the lease of {life}")
        for job in self._jobs.values():
            if job.running is life:
                raise Broken(
                    "releases at its end", f"{life} gives up its lease, and runs {job.name}"
                )
        del self._holders[list_of(key)]  # its process may serve another queue still

    def ends_well(self, life: Life) -> None:
        """Check that a server that ends as it was told to has given up its lease."""
        if life.lease is not None and not (self.excused or life.world.refuses):
            key = lease_of(life.keys.in_process)
            if self._ask(b"GET", key) == life.token:
                raise Broken("releases", f"{life} has ended, and has its lease still")

    def started(self, life: Life, job: Job, store: Store) -> None:
        """Check that a life starts what is its own."""
        if (left_at := self._left_at.pop(job.message, None)) is not None:
            self.longest_rerun = max(self.longest_rerun, self._clock.now - left_at)
        if job.restored or job.contested or life.lease is None or life.stood_still:
            return
        if self.may_share(life):
            return
        if job.message not in store.entries(life.keys.in_process):
            raise Broken("starts its own", f"{life} starts {job.name}, which isn't on its list")

    def nobodys(self, store: Store) -> set[bytes]:
        """Return the lists that are registered, and of no server that lives."""
        return self._registered(store) - self._registering()

    def may_share(self, life: Life) -> bool:
        """Whether a server of the same name may take itself for the owner, too, since a lease lapsed too early."""
        return self.has_twin(life) and (self.clock_was_set or self.excused)

    def has_twin(self, life: Life) -> bool:
        """Whether another host has, or had, a server of this name."""
        return any(
            life.processor in {each.twin, each.name}
            for each in life.world.plan.servers
            if each.name != life.name
        )

    def at_rest(self, store: Store) -> None:
        """Check that each name is of a server that lives, G + 4 L after the last one has ended."""
        for key in self.nobodys(store):
            raise Broken("no name is left", f"{key.decode()} is registered, and is nobody's")
        for key in self._registering() - self._registered(store):
            raise Broken("registers", f"{self._lives[key][0]} serves, and isn't registered")
        for key in self._registering():
            tokens = [each.token for each in self._lives[key]]
            if self._ask(b"GET", lease_of(key)) not in tokens:
                raise Broken("renews", f"{self._lives[key][0]} serves at rest, and has no lease")

    def when_all_have_stopped(self, store: Store, now_ms: int) -> None:
        """Check that no lease is left."""
        for key in sorted(store.keys()):
            if key.startswith(LEASES) and store.execute((b"EXISTS", key), now_ms):
                raise Broken("releases", f"{key.decode()} is left when all servers have stopped")

    def _registered(self, store: Store) -> set[bytes]:
        return {field for queue in QUEUES for field in store.fields(registry_of(queue))}

    def _registering(self) -> set[bytes]:
        return {key for key, (life, *_) in self._lives.items() if life.lease is not None}

    def _gives_back(self, message: bytes) -> None:
        """Check what a server returns to its queue, which it has claimed without a hand for it."""
        job = self._jobs.get(message)
        if job is None:
            return
        if self.late:  # another entry may be the newest by now
            job.contested = True
        elif job.running is not None and not (job.restored or job.contested):
            raise Broken("gives back what waits", f"{job.name} runs, and is given back")

    def _owner(self, key: bytes) -> Life | None:
        """The life that has the lease of a list, or had it last, unless that is over."""
        holder = self._holders.get(key)
        return None if holder is None or holder.over else holder

    def _loses_name(self, before: Life, life: Life) -> None:
        """Check that another host's server may take a lease."""
        if not self.excused:
            raise Broken("robs nobody", f"{life} takes the lease of {before}, which serves")
        assert self.store is not None
        for message in self.store.entries(life.keys.in_process):
            if (job := self._jobs.get(message)) is not None:
                job.contested = True
        for job in self._jobs.values():
            if job.running is before:
                job.running = None  # what it has started may end, too

    def _may_adopt(self, source: bytes, target: bytes) -> None:
        """Check what has to hold in the step of Redis that adopts, whatever has failed before."""
        if self._ask(b"EXISTS", lease_of(source)):
            raise Broken("adopts what has lapsed", f"{source.decode()} loses a job under its lease")
        if not self._ask(b"EXISTS", lease_of(target)):
            raise Broken("adopts under its lease", f"{target.decode()} has none, and gets a job")

    def _ask(self, *command: bytes) -> Any:
        assert self.store is not None
        return self.store.ask(*command)

    def _suspect(self, message: bytes) -> None:
        job = self._jobs.get(message)
        if job is not None:
            job.suspicions += 1
