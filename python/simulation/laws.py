"""What is true after every step, whatever fails; what breaks a law is raised as `Broken`.

The laws follow each job by its bytes: what Redis accepted, where it ran, what was published, and
what its caller was told. They judge what happens, and know nothing of how the cores decide.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from jobqueue.errors import ConnectionLost, JobTimeout, NotQueued

from simulation.broken import Broken
from simulation.expiry import MEMBER, Expiry
from simulation.kept import Kept
from simulation.names import DEAD, QUEUES
from simulation.owners import Owners

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.protocol.commands import Command

    from simulation.clock import Clock
    from simulation.server import Life
    from simulation.store import Store

TIMELY_SECONDS = 0.001


class Job:
    """What is known of one message."""

    def __init__(self, message: bytes) -> None:
        self.name = f"job {message[-24:].decode(errors='replace')}"
        self.message = message
        self.queue = b""  # to which it was pushed
        self.accepted = 0
        self.accepted_at = 0.0
        self.published = 0
        self.running: object = None  # the life that runs it
        self.runs: Counter[object] = Counter()  # by life
        self.suspicions = 0  # how often it was left on a list by a server, and found there
        self.restored = (
            False  # Redis came back with an older state, so it may be anywhere, also twice
        )
        # It was on a list when that became another host's, or was given back by a late command.
        self.contested = False
        self.dead = False  # it belongs on the dead list
        self.buried = False
        self.settled: str | None = None
        self.expires_at: float | None = None  # as its caller has said, by the world's clock
        self.expires_at_ms: float | None = None  # by Redis's, since the world's beginning
        self.expected: list[str] = []  # how the value of its result begins, unless that is an error
        self.channel = b""  # on which its caller listens
        self.results: list[tuple[float, bytes]] = []  # that were stored or published, and when
        self.confirmed = False  # its client has read the reply to its push
        self.keep = 0.0  # for how many seconds its result is to be kept
        self.result_key = b""  # under which it is
        self.stored_at: float | None = None
        self.unstored = False  # Redis has refused to store it, once at least
        self.deleted = False  # whoever collects it may have it deleted

    @property
    def may_wait(self) -> bool:
        """Whether its caller has nothing to hear: it is dead, or Redis has forgotten it."""
        return self.dead or (not self.published and (self.restored or self.buried))


class Laws:
    """The jobs of one world, and what may happen to them.

    Args:
        clock: The world's.
        attempts: How often an entry is started after servers have ended; 0 is without limit.
    """

    def __init__(self, clock: Clock, attempts: int) -> None:
        self.jobs: dict[bytes, Job] = {}
        self.order: list[bytes] = []  # as accepted
        self.starts: list[bytes] = []  # as started
        self.store: Store | None = None  # of the Redis that serves
        self._clock = clock
        self._attempts = attempts
        self._killings = 0
        self._counted_late = 0
        self._uncounted = 0  # starts at most, since Redis refused to count them
        self._by_result: dict[bytes, Job] = {}
        self.owners = Owners(clock, self.jobs)
        self.kept = Kept(clock)
        self.expiry = Expiry(clock)

    def know(self, message: bytes, *, result: bytes | None, dead: bool = False) -> Job:
        """Follow a job from now on.

        Args:
            message: Its bytes.
            result: Channel and id with a blank between them, by which its result is known; None where it has none.
            dead: Whether it belongs on the dead list.
        """
        job = self.jobs[message] = Job(message)
        job.dead = dead
        if result is not None:
            self._by_result[result] = job
        return job

    def encoded(self, messages: Iterable[bytes]) -> None:
        """Note the last form of messages, which get the time when they expire when they are pushed."""
        for message in messages:
            if MEMBER in message and message not in self.jobs:
                before, expires_at_ms = self.expiry.read(message)
                job = self.jobs[message] = self.jobs.pop(before)
                job.message, job.expires_at_ms = message, expires_at_ms
                self.expiry.pushed(job)

    def pushed(self, key: bytes, messages: Iterable[bytes]) -> None:
        """Note what Redis has accepted."""
        for message in messages:
            job = self.jobs.get(message)
            if key in DEAD:
                if job is None or not (job.dead or self.may_be_given_up(job)):
                    raise Broken("buried", f"{_name(job, message)} can be answered, and is buried")
                job.buried = True
            elif key in QUEUES and job is not None:
                job.accepted += 1
                job.accepted_at = self._clock.now
                job.queue = key
                self.kept.accepted(job)
                self.order.append(message)
                if job.accepted > 1:
                    raise Broken("pushed once", f"{job.name} was pushed {job.accepted} times")
                if job.settled == "not queued":
                    raise Broken(
                        "not queued", f"{job.name} was pushed after its caller was told so"
                    )

    def forgotten(self, command: Command) -> None:
        """Note a push or a removal that is going to be lost, with the data of an old primary."""
        for message in command[2:]:
            if (job := self.jobs.get(message)) is not None:
                job.restored = True
                if command[0] == b"LPUSH" and command[1] in QUEUES:
                    job.accepted += 1
                    job.queue = command[1]
                    self.kept.accepted(job)

    def refused(self, command: Command) -> None:
        """Note a command that Redis refused."""
        # server.attempts.refused
        self._uncounted += command[0] == b"INCR"
        if command[0] == b"SET":
            self.kept.refused(command[1])

    def adoption_lost(self) -> None:
        """Note that a server doesn't learn whether it has adopted a job, so it may count others."""
        self._counted_late += 1

    def counts(self) -> None:
        """Note that Redis counts a job, perhaps for a server that has asked for it again since."""
        self._counted_late += self.owners.late

    def removed(self, key: bytes, message: bytes) -> None:
        """Check that what is removed from a list is answered, or elsewhere."""
        job = self.jobs.get(message)
        if job is not None and not job.published and not self._somewhere(message):
            raise Broken("never lost", f"{job.name} is removed from {key.decode()}, and is nowhere")

    def published(self, channel: bytes, result: bytes, *, lasting: bool) -> None:
        """Note a result; one that only a replica has published reaches few, and answers nothing."""
        job = self._by_result.get(channel + b" " + _id_of(result))
        if job is not None:
            job.published += lasting
            job.results.append((self._clock.now, result))
            self.kept.published(job, lasting=lasting)
            if b'"code":"expired"' in result:
                self.expiry.refused(job)

    def restored(self, store: Store) -> None:
        """Note that Redis came back with an older state: what it has forgotten can't be told from new."""
        self.store = store
        self.owners.clock_was_set = True
        for job in self.jobs.values():
            job.restored = True

    def started(self, life: Life, message: bytes, free_since: float) -> None:
        """Check that a handler may start, for which a place has been free for a while."""
        job = self.jobs.get(message)
        if job is None:
            raise Broken("runs what was pushed", f"nobody pushed {message!r:.80}")
        self.starts.append(message)
        job.runs[life] += 1
        if b'"method":"malformed"' in message:
            raise Broken("runs what was pushed", f"{job.name} can't be answered")
        unsure = job.restored or job.contested or self.owners.may_share(life)
        if not unsure and job.runs[life] > 1:
            raise Broken("runs once in a life", f"{job.name} runs again in the same life")
        if not (unsure or life.stood_still) and job.running is not None:
            raise Broken("runs in one place", f"{job.name} runs in {life}, and in {job.running}")
        self.expiry.started(job, free_since)
        assert self.store is not None
        self.owners.started(life, job, self.store)
        job.running = life

    def runs(self, message: bytes) -> int:
        """Return how often a job has been started; its result tells that, so that no two are alike."""
        return self.jobs[message].runs.total()

    def life_over(self, life: Life, killed_by: bytes | None) -> None:
        """Note that a server has ended or died, perhaps by a job."""
        assert self.store is not None
        for part in life.parts:
            self.owners.ends(part, self.store)
        if killed_by is not None:
            self._killings += 1
            job = self.jobs[killed_by]
            runs = job.runs.total()
            # Each of two hosts with one name starts without a count what it has claimed itself.
            spared = 1 + self._uncounted + self.owners.has_twin(life)
            if not job.restored and 0 < self._attempts < runs - spared:
                raise Broken("given up", f"{job.name} kills a server for the {runs}th time")

    def may_be_given_up(self, job: Job) -> bool:
        """Whether servers have left it on their lists more often than it may be counted."""
        suspicions = job.suspicions + self._counted_late
        return job.restored or 0 < self._attempts < suspicions

    def ended(self, life: object, message: bytes) -> None:
        """Note that a handler has ended, or died with its server."""
        if self.jobs[message].running is life:
            self.jobs[message].running = None

    def settled(
        self,
        job: Job,
        error: Exception | None,
        *,
        deadline: float | None,
        lost: bool,
        excused: bool,
    ) -> None:
        """Check what a caller is told.

        Args:
            job: Its job.
            error: What it raises; None where it is a value.
            deadline: When its timeout passes.
            lost: Whether its client has lost or not had a connection since the call.
            excused: Whether its process stood still, or the client is closed.
        """
        if job.settled is not None:
            raise Broken("settled once", f"the caller of {job.name} is told twice")
        job.settled = _words(error)
        self.told(job, error, deadline=deadline, lost=lost, excused=excused)

    def told(
        self,
        job: Job,
        error: Exception | None,
        *,
        deadline: float | None,
        lost: bool,
        excused: bool,
    ) -> None:
        """Check what a caller is told, or whoever collects the result: `settled` explains these."""
        late = 0.0 if deadline is None else self._clock.now - deadline
        if late > TIMELY_SECONDS and not excused:
            raise Broken("in time", f"the caller of {job.name} waits {late:.3f} s too long")
        if isinstance(error, JobTimeout):
            if deadline is None or late < 0:
                raise Broken("in time", f"{job.name} times out, and has time left")
        elif isinstance(error, NotQueued):
            if job.accepted:
                raise Broken(
                    "not queued", f"{job.name} was pushed, and its caller is told that not"
                )
        elif isinstance(error, ConnectionLost):
            if not excused and (deadline is not None or not lost):
                why = "was none" if deadline is None else "isn't due: it has a timeout"
                raise Broken("no false alarm", f"{job.name} is told of a loss that {why}")
        elif not job.results:
            raise Broken("the job's own result", f"{job.name} has a result that nobody published")

    def at_rest(self, *, faults: bool) -> None:
        """Check what is true when nothing has failed for long, and nothing is left to do."""
        for job in self.jobs.values():
            answered = job.published or (job.buried and self._somewhere(job.message))
            if job.accepted and not job.restored and not answered:
                raise Broken("answered", f"{job.name} is accepted, and not answered at rest")
            runs, published = job.runs.total(), job.published
            ordinary = job.accepted and not job.dead and not faults and not self._killings
            if ordinary and (runs > 1 or published != 1):
                happened = f"{job.name} ran {runs} and was answered {published} times"
                raise Broken("once without a fault", happened)
        assert self.store is not None
        for key, entries in self.store.lists().items():
            if key not in DEAD:
                left = f"{key.decode()} holds {len(entries)}, {_name(None, entries[0])} among them"
                raise Broken("empty at rest", left)

    def _somewhere(self, message: bytes) -> bool:
        assert self.store is not None
        return any(message in entries for entries in self.store.lists().values())


def _words(error: Exception | None) -> str:
    if isinstance(error, NotQueued):
        return "not queued"
    return "a result" if error is None else type(error).__name__


def _name(job: Job | None, message: bytes) -> str:
    return f"{message!r:.80}" if job is None else job.name


def _id_of(result: bytes) -> bytes:
    # `{"id":"7",…`, as the reference writes it
    return result.split(b'"', 4)[3]
