"""Calls of a client under test, where a slow machine or a lost connection may cost several tries."""

from collections.abc import Callable

from jobqueue_conformance.peer.peer import Peer
from jobqueue_conformance.programs.client import ClientProcess, Outcome
from jobqueue_conformance.proxy import waiting
from jobqueue_conformance.proxy.waiting import Budget, Notifier
from jobqueue_conformance.spec.messages import Job

GUARD_MS = 8000  # the timeout of a job that has to be settled by something else, and sooner
TRIES = 7
AFTER_A_LOSS_S = 10.0


def guard_ms() -> int:
    """GUARD_MS, and longer while programs have to wait for a processor."""
    return slowly(GUARD_MS)


def slowly(timeout_ms: int) -> int:
    """A timeout that gives a program as much of a processor as this one does on an idle machine."""
    return int(timeout_ms * waiting.contention())


def let_time_out(
    driver: ClientProcess, peer: Peer, notifier: Notifier, parameters: object, timeout_ms: int = 100
) -> tuple[int, Job, Outcome]:
    """Let a job be pushed and not answered, with a timeout just long enough for the push."""
    for _ in range(TRIES):
        run_after_a_loss(
            driver, peer, notifier, "before"
        )  # so it is connected, and has pushed the rest
        seq = driver.submit("echo", parameters, timeout_ms=timeout_ms)
        job = notifier.wait(
            pushed_or_settled(driver, peer, seq), f"job {seq} to be pushed or settled"
        )
        if isinstance(job, Job):
            return seq, job, driver.outcome(seq)
        timeout_ms *= 2
    raise AssertionError(f"no job with a timeout of {timeout_ms / 2:g} ms is pushed")


def run_after_a_loss(
    driver: ClientProcess,
    peer: Peer,
    notifier: Notifier,
    parameters: object,
    timeout_ms: int | None = None,
) -> tuple[Outcome, list[Job]]:
    """Run jobs until one has its result; those that the loss has settled don't count, for a while.

    Returns:
        The last outcome, and everything that was pushed meanwhile; all of it has been answered.
    """
    budget = Budget(AFTER_A_LOSS_S)
    # What the loss has swallowed is tried again within the deadline, however slow the machine is.
    longest_ms = int(notifier.deadline_s * 1000 / 2)
    pushed: list[Job] = []
    while True:
        seq = driver.submit("echo", parameters, timeout_ms and min(slowly(timeout_ms), longest_ms))
        while isinstance(
            job := notifier.wait(pushed_or_settled(driver, peer, seq), f"job {seq} to be settled"),
            Job,
        ):
            pushed.append(job)
            peer.answer(job, result=job.parameters)
        outcome = driver.outcome(seq)
        if outcome.kind == "result" or budget.left_s() <= 0:
            return outcome, pushed


def pushed_or_settled(
    driver: ClientProcess, peer: Peer, seq: int
) -> Callable[[], Job | Outcome | None]:
    """What a wait looks for: the next job on the queue, or else the outcome of this one."""

    def look() -> Job | Outcome | None:
        job = peer.take()
        if job is not None:
            return job
        outcomes = driver.outcomes(seq)
        if not outcomes:
            driver.check()
        return outcomes[0] if outcomes else None

    return look
