"""Callers: what they ask a client for, and whether what they are told may be so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobqueue.errors import JobError

from simulation.broken import Broken

if TYPE_CHECKING:
    from simulation.client import Client
    from simulation.laws import Job
    from simulation.plan import Collect

EXPECTED_ERRORS = {
    "refuse": "test.refused",
    "crash": "handler-error",
    "no-json": "result-not-serializable",
    "unknown": "method-not-found",
}


class Call:
    """A job that a caller waits for.

    Args:
        job: The job.
        job_id: By which its client knows it.
        method: What it does.
        deadline: When the caller's timeout passes.
        client: Who is asked.
        collect: How its result is collected by its handle, if it is, by somebody else.
        collects: Whether this caller has but the handle.
    """

    def __init__(
        self,
        job: Job,
        job_id: str,
        method: str,
        deadline: float | None,
        client: Client,
        *,
        collect: Collect | None = None,
        collects: bool = False,
    ) -> None:
        self.job = job
        self.id = job_id
        self.method = method
        self.deadline = deadline
        self.collect = collect
        self.collects = collects
        self.since = client.world.clock.now
        self.losses = client.losses  # how often its client had been without a connection before
        self.lost_at: float | None = (
            None  # when a connection was first lost after the push was answered
        )

    def lost(self, now: float) -> None:
        """Note that its client has lost its connection."""
        if self.job.confirmed and self.lost_at is None:
            self.lost_at = now

    def told(self, value: Any, error: Exception | None, client: Client) -> None:
        """Check what the caller is told.

        Raises:
            Broken: It may not be so.
        """
        job, laws = self.job, client.world.laws
        if isinstance(error, JobError):
            self._check_code(error, client)
        elif error is None and value[: len(job.expected)] != job.expected:
            raise Broken("the job's own result", f"{job.name} is told {value!r:.80}")
        check = laws.told if self.collects else laws.settled
        check(
            job,
            error,
            deadline=self.deadline,
            lost=client.losses > self.losses or client.closed,
            excused=client.excused,
        )
        if error is None:
            laws.kept.told(self, value)
        if isinstance(error, JobError) or error is None:
            laws.kept.found_soon(self, "the result only now", client)
        elif job.keep:
            laws.kept.missed(self, error, client)

    def _check_code(self, error: JobError, client: Client) -> None:
        job = self.job
        given_up = error.code == "too-many-attempts" and client.world.laws.may_be_given_up(job)
        expired = error.code == "expired" and job.expires_at_ms is not None
        if error.code != EXPECTED_ERRORS.get(self.method) and not (given_up or expired):
            raise Broken("the job's own result", f"{job.name} is told {error!r}")
