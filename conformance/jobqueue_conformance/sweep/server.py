"""The fault sweep of a server: jobs, what Redis holds of them, and what has to be true after a fault.

Everything is judged by state: where a job is, and how often it was answered. The allowed outcomes of a crash are
read from the spec's crash table.
"""

from collections.abc import Callable, Sequence
from typing import Any

import redis

from jobqueue_conformance.peer.peer import Peer, unique_id
from jobqueue_conformance.programs.server import ServerProcess
from jobqueue_conformance.programs.starting import StartServer
from jobqueue_conformance.proxy.proxy import Proxy
from jobqueue_conformance.spec import messages
from jobqueue_conformance.spec.crash_table import Held, crash_row
from jobqueue_conformance.spec.keys import Keys
from jobqueue_conformance.spec.messages import Job
from jobqueue_conformance.spec.verdicts import fail, require
from jobqueue_conformance.sweep.attempt import Attempt, Sweep

LONGEST_BLOCK_S = 5.0  # server.recovery.block


class ServerSweep(Sweep):
    """One server under test, and the jobs that it is given."""

    def __init__(
        self,
        start: StartServer,
        peer: Peer,
        proxy: Proxy,
        redis: redis.Redis,
        keys: Keys,
        features: frozenset[str],
        only: int | None,
    ) -> None:
        super().__init__(proxy, "server", only)
        self.peer = peer
        self.proxy = proxy
        self.features = features
        self._start = start
        self._redis = redis
        self._keys = keys
        self._process: ServerProcess | None = None
        self._settings: dict[str, Any] = {}
        self._was_listed = False
        self._initial = 1
        self._other_list = f"{keys.queue}:in-process:another-processor"
        redis.lpush(self._other_list, b"an entry of another processor")

    # The process.

    @property
    def process(self) -> ServerProcess:
        """The run that goes on, or was the last."""
        assert self._process is not None, "no server was started"
        return self._process

    def start(self, **settings: Any) -> None:
        """Start it, or start it again as it was."""
        self._settings = settings or self._settings
        self._process = self._start(**self._settings)

    def kill(self, attempt: Attempt | None = None) -> None:
        """End it by SIGKILL; all that it has sent reaches Redis, except what is held at the boundary."""
        self.process.kill()
        if attempt is not None:
            attempt.fault = "SIGKILL"
            attempt.drop()
        self.proxy.wait_all_closed("server")

    # The jobs.

    def push_while_idle(self, attempt: Attempt, **members: Any) -> Job:
        """Give an idle server a job, which is held at the attempt's boundary."""
        self.process.wait_idle()
        job = self.peer.job("echo", {"boundary": attempt.number}, **members)
        attempt.watch(job.id)
        self.peer.push_job(job)
        return job

    def start_on(self, attempt: Attempt, job: Job, copies: int) -> None:
        """Start a server that finds a job, which is held at the attempt's boundary.

        Args:
            attempt: where it is held.
            job: what is found.
            copies: how many copies of it are on the in-process list; with 0, it waits in the queue.
        """
        if self._process is not None and self.process.running:
            self.kill()
        attempt.watch(job.id)
        self._initial = max(copies, 1)
        if copies:
            self.peer.place(*[job] * copies)
        else:
            self.peer.push_job(job)
        self.start()

    def dead_message(self) -> Job:
        """A message that no server can answer, for it has no channel."""
        name = unique_id()
        return Job(messages.written(method="echo", id=name), name, channel="")

    def reached(self, attempt: Attempt, job: Job) -> bool:
        """Wait until the job is held at the boundary, or its run is over without it."""

        def look() -> bool:
            return attempt.at_boundary() or (self.over(job) and not attempt.at_boundary())

        self.peer.wait(look, lambda: self._broken(job), "a job that is answered and removed")
        self._was_listed = self._was_listed or self.held(job).in_process > 0
        return attempt.held

    def over(self, job: Job) -> bool:
        """Whether all is settled, and every reply about the job has been returned."""
        if job.channel and not self.peer.received(job):
            return False
        queue, in_process, _ = self._copies(job)
        return not queue and not in_process and not self.proxy.under_way(job.id)

    def out(self, job: Job) -> bool:
        """Whether it is answered, or has left the queue and the list."""
        held = self.held(job)
        return bool(held.published) or not held.queue + held.in_process

    def held(self, job: Job) -> Held:
        """Where the job is at this moment; the lists are read first, so what has left them was answered before."""
        return Held(*self._copies(job), published=len(self.peer.results(job)))

    def _copies(self, job: Job) -> tuple[int, int, int]:
        """How many copies of it are in the queue, on the in-process list and on the dead list."""
        in_process = self.process.in_process
        # One write that Redis reads in one go; inside MULTI, Redis 7.0 refuses even this at maxmemory.
        with self._redis.pipeline(transaction=False) as pipe:
            for key in (self._keys.queue, in_process, self._keys.dead):
                pipe.lrange(key, 0, -1)
            queue, listed, dead = (entries.count(job.message) for entries in pipe.execute())
        return queue, listed, dead

    # What has to be true.

    def look_everywhere(
        self, jobs: Sequence[Job], check: Callable[[], None] = lambda: None, **settings: Any
    ) -> None:
        """Start the server and hold every job at every boundary, where `check` is called, too, until all are done."""
        names = [job.id for job in jobs]
        self.current = attempt = Attempt(self.proxy, "server", 0, deliver=False)
        attempt.watch(*names)
        self.start(**settings)
        listed: set[str] = set()
        while True:
            self.peer.wait(
                lambda: attempt.at_boundary() or all(self.over(job) for job in jobs),  # noqa: B023 - asked in this turn only
                "server.publish.once",
                "jobs that are answered and removed",
            )
            if not attempt.held:
                return
            self.current = following = Attempt(self.proxy, "server", 0, deliver=False)
            following.watch(*names)
            for job in jobs:
                held = self.held(job)
                listed |= {job.id} if held.in_process else set()
                self._check_place(held, claimed=job.id in listed)
            check()
            attempt.release()
            attempt = following

    def _check_place(self, held: Held, *, claimed: bool) -> None:
        require(
            held.queue + held.in_process <= 1,
            "server.claim.atomic",
            expected="a job in one place at a time",
            got=f"a job in {held.places}",
        )
        require(
            not held.lost,
            "server.publish.before-remove" if claimed else "server.claim.atomic",
            expected="a job in the queue, on the in-process list, on the dead list, or answered",
            got="a job that is nowhere",
        )

    def check_others(self) -> None:
        """What the server doesn't own is as it was."""
        found = self._redis.lrange(self._other_list, 0, -1)
        require(
            found == [b"an entry of another processor"],
            "server.list.own",
            expected="another processor's in-process list as it was",
            got=found,
        )

    def settle(
        self,
        job: Job,
        stranded: str,
        lost: str | None = None,
        otherwise: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait until the job is answered and gone, and check what it was answered with.

        Args:
            job: the job that was hit.
            stranded: the requirement that is broken where it stays on the list and is never answered.
            lost: the requirement that is broken where it is nowhere.
            otherwise: whether it has ended in another way that conforms, too.
        """

        def look() -> bool:
            return self.over(job) or otherwise()

        self.peer.wait(
            look,
            lambda: self._broken(job, stranded, lost),
            "a job that is answered and removed after the fault",
            patience_s=LONGEST_BLOCK_S,  # a claim may be outstanding for so long before it looks
        )
        self.peer.results(job)  # which looks at every value

    def settle_after_crash(self, job: Job, crash: Held) -> None:
        """Wait until the server has done what the crash table says, and check that it does no more.

        Args:
            job: the job, or dead message, that was hit.
            crash: what Redis held when the server had died.
        """
        row = crash_row(
            crash, self._initial, dead=not job.channel, dead_list="dead-list" in self.features
        )
        if row is None:
            fail(
                self._lost_by() if crash.lost else "server.claim.atomic",
                expected="a state that the crash table allows",
                got=f"a message in {crash.places or 'no place'} with {crash.published} results",
            )
        copies = max(crash.queue + crash.in_process, 1)
        wanted = row["results_after"]
        self.peer.wait(
            lambda: (
                self.over(job) and len(self.peer.received(job)) - crash.published >= wanted["min"]
            ),
            lambda: self._broken(job, "server.recovery.first"),
            row["restart"],
        )
        self.process.wait_idle()
        after = self.held(job)
        results = after.published - crash.published
        require(
            results <= wanted["max"] * copies,
            "server.publish.once",
            expected=f"at most {wanted['max'] * copies} more results ({row['words']})",
            got=results,
        )
        if not job.channel and "dead-list" in self.features:
            require(
                after.dead,
                "server.dead-list.keeps",
                expected="a copy of the message on the dead list",
                got="none",
            )
        self.peer.results(job)  # which looks at every value

    def _lost_by(self) -> str:
        """The requirement that a lost job breaks: none was ever on the list, or all were before."""
        return "server.publish.before-remove" if self._was_listed else "server.claim.atomic"

    def _broken(
        self, job: Job, stranded: str = "server.publish.once", lost: str | None = None
    ) -> str:
        """The requirement that a job broke which isn't settled."""
        held = self.held(job)
        if not self.process.running:
            return "server.connection.survives"
        if held.lost:
            return lost or self._lost_by()
        if held.published:
            return "server.remove.finished"
        return stranded if held.in_process else "server.run.goes-on"
